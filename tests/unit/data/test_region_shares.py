from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.common.regions import NUM_REGIONS
from neural_photo_editor.data import region_shares as module
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.region_shares import region_shares
from neural_photo_editor.data.shard_reader import ShardReader
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("shares")
    source = SyntheticPortraits(seed=1, count=24, resolution=32)
    write_shards(source, out_dir=folder, name="faces", samples_per_shard=4, val_fraction=0.2)
    return ShardReader(folder)


def counted(reader: ShardReader, sample_ids: list[int]) -> np.ndarray:
    labels = np.stack([reader.read(sample_id)[1] for sample_id in sample_ids])
    return np.array([(labels == region).mean() for region in range(NUM_REGIONS)])


def test_shares_are_those_of_the_training_pixels(
    reader: ShardReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SHARDS", 100)
    shares = region_shares(reader)
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    expected = counted(reader, reader.sample_ids("train").tolist())
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert len(reader.sample_ids("val")) > 0


def test_a_few_shards_and_samples_stand_for_all(
    reader: ShardReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(reader.shards("train")) == 5
    monkeypatch.setattr(module, "MAX_SHARDS", 3)  # The first, the middle and the last.
    monkeypatch.setattr(module, "MAX_SAMPLES", 3)
    fresh = ShardReader(reader.storage)
    ids = reader.sample_ids("train").tolist()
    pool = ids[:4] + ids[8:12] + ids[16:]
    middle = pool[round((len(pool) - 1) / 2)]
    np.testing.assert_allclose(
        region_shares(fresh), counted(reader, [pool[0], middle, pool[-1]]), atol=1e-6
    )
    assert len(fresh._open) == 3
    assert region_shares(reader) == region_shares(fresh)


def test_photos_without_labels_are_an_error(photo_folder: Path, tmp_path: Path) -> None:
    source = ImageFolder(folder=photo_folder / "photos")
    write_shards(source, out_dir=tmp_path, name="unlabeled")
    with pytest.raises(ValueError, match=r"label its photos, or set module\.class_balance=0"):
        region_shares(ShardReader(tmp_path))
