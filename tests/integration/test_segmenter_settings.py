"""What the segmenter's experiments make of the data they are given."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from neural_photo_editor.data.placement import RandomPlacement
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from pipelines.train import prepare

CONF = Path(__file__).resolve().parents[2] / "conf"
TINY = ("network.widths=[8,8]", "data.resolution=32", "data.batch_size=4", "data.num_workers=0",
        "logger=csv", "trainer.accelerator=cpu")  # fmt: skip


def test_shares_of_regions_are_counted_once_and_recorded(tmp_path: Path) -> None:
    source = SyntheticPortraits(seed=0, count=30, resolution=32)
    write_shards(source, out_dir=tmp_path / "shards", name="portraits", val_fraction=0.2)
    overrides = [*TINY, f"data.shards={tmp_path / 'shards'}"]

    def run(name: str, *more: str) -> tuple[list[float] | None, torch.Tensor | None]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", [*overrides, f"run_dir={tmp_path / name}", *more])
        prepared = prepare(cfg)
        recorded = OmegaConf.load(tmp_path / name / "config.yaml").module.region_shares
        augmented = prepared.datamodule.placement
        assert (augmented == RandomPlacement(15, 0.25, 0.1)) == ("256" in more[0])
        weights = prepared.module.class_weights
        return None if recorded is None else list(recorded), weights  # type: ignore[return-value]

    shares, weights = run("best", "experiment=segmenter_256")
    assert shares is not None
    assert weights is not None
    assert sum(shares) == pytest.approx(1.0, abs=1e-4)
    assert float(weights @ torch.tensor(shares)) == pytest.approx(1.0, abs=1e-4)
    assert weights[5] > weights[1] > 0  # Eyes have fewer pixels than hair.
    given = [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert run("given", "experiment=segmenter_256", f"module.region_shares={given}")[0] == given
    assert run("plain", "experiment=segmenter_128") == (None, None)
