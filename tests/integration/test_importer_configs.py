"""The sources' configuration files on tiny data sets in the official layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from neural_photo_editor.data.shard_verification import verify
from pipelines.prepare_shards import prepare_shards
from tests.unit.data import fake_datasets

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("source", "write", "license", "splits"),
    [
        (
            "celeba",
            lambda folder: fake_datasets.write_celeba(folder, [1, 162771, 182638]),
            "CelebA agreement (non-commercial research only)",
            ["train", "val", "test"],
        ),
        (
            "celebamask_hq",
            lambda folder: fake_datasets.write_celebamask_hq(
                folder, {0: 119614, 1: 162771, 2: 182638}
            ),
            "CelebAMask-HQ agreement (non-commercial research and education only)",
            ["train", "val", "test"],
        ),
        (
            "ffhq",
            lambda folder: fake_datasets.write_ffhq(folder, [0, 60000]),
            "CC-BY-2.0",
            ["train", "val"],
        ),
    ],
)
def test_a_data_set_in_its_official_layout_becomes_shards(
    tmp_path: Path,
    source: str,
    write: Callable[[Path], None],
    license: str,
    splits: list[str],
) -> None:
    write(tmp_path / "original")
    overrides = [
        f"source={source}",
        f"source.folder={tmp_path}/original",
        f"out_dir={tmp_path}/shards",
        "num_workers=1",
    ]
    with initialize_config_dir(str(CONF), version_base=None):
        manifest = prepare_shards(compose("prepare_shards", overrides=overrides))
    assert verify(tmp_path / "shards") == manifest
    assert [shard.split for shard in manifest.shards] == splits
    assert manifest.resolution == 128
    assert "128 x 128 pixels" in manifest.crop
    assert license in manifest.licenses
    assert (tmp_path / "shards" / "contact_sheet.png").is_file()
