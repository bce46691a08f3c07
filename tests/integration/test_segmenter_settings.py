"""What the segmenter's experiments make of the data they are given."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import OmegaConf

from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.placement import RandomPlacement
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.training.segmenter_module import SegmenterModule
from neural_photo_editor.training.strategies import leave_group_at_exit
from pipelines.train import prepare

CONF = Path(__file__).resolve().parents[2] / "conf"
TINY = ("network.widths=[8,8]", "data.resolution=32", "data.batch_size=4", "data.num_workers=0",
        "logger=csv", "trainer.accelerator=cpu")  # fmt: skip


class LeavesGroup(Callback):
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        leave_group_at_exit()


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


@pytest.mark.slow
def test_two_processes_validate_as_one(tmp_path: Path) -> None:
    source = SyntheticPortraits(seed=0, count=22, resolution=32)
    write_shards(source, out_dir=tmp_path, name="portraits", val_fraction=0.7)
    found = []
    for devices in (1, 2):
        torch.manual_seed(0)
        module = SegmenterModule(
            SegmentationUNet(widths=(8, 8), blocks_per_level=1),
            resolution=32,
            optimizer=torch.optim.SGD,
            lr_scheduler=torch.optim.lr_scheduler.LambdaLR,  # type: ignore[arg-type]
        )
        trainer = Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            callbacks=[LeavesGroup()],
            use_distributed_sampler=False,
            logger=False,
            enable_progress_bar=False,
        )
        data = ShardDataModule(shards=tmp_path, batch_size=4, resolution=32)
        found.append(trainer.validate(module, data, verbose=False)[0])
    assert len(found[0]) > 20
    # Dice is a ratio of sums over what a process sees at once.
    assert found[1].pop("val/loss") == pytest.approx(found[0].pop("val/loss"), rel=0.01)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert 0 < found[0]["val/boundary_f1"] < 1
