"""JPEG photos through a data set's own memory; `test_shard_stream` tests the rest, with PNGs."""

import numpy as np
import pytest

from neural_photo_editor.data.shard_dataset import ShardDataset
from neural_photo_editor.data.shard_reader import ShardReader, decode_jpeg
from neural_photo_editor.data.shard_stream import BatchRequest
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.data.transforms import crop, resize_photo


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("jpeg")
    source = SyntheticPortraits(seed=1, count=6, resolution=40)
    write_shards(source, out_dir=folder, name="portraits", val_fraction=0.0)
    return ShardReader(folder)


@pytest.mark.parametrize(("crop_size", "resolution"), [(None, 40), (24, 24), (24, 16), (None, 32)])
def test_photos_are_the_readers(
    reader: ShardReader, crop_size: int | None, resolution: int
) -> None:
    dataset = ShardDataset(reader, resolution=resolution, crop_size=crop_size)
    batch = dataset[BatchRequest(0, (4, 0, 5))]
    for row, sample_id in enumerate((4, 0, 5)):
        photo, labels = reader.read(sample_id)
        assert photo.shape == (40, 40, 3)
        assert labels is not None
        size = crop_size or 40
        window = crop(photo, top=(40 - size) // 2, left=(40 - size) // 2, size=size)
        expected = resize_photo(window, size=resolution).transpose(2, 0, 1)
        np.testing.assert_array_equal(batch["image"][row].numpy(), expected)


def test_flipped_photos_are_the_readers(reader: ShardReader) -> None:
    dataset = ShardDataset(reader, resolution=40, augment=True, horizontal_flip=True)
    flipped = 0
    for epoch in range(4):
        batch = dataset[BatchRequest(epoch, tuple(range(6)))]
        for sample_id, image in enumerate(batch["image"].numpy()):
            expected = reader.read(sample_id)[0].transpose(2, 0, 1)
            as_it_is = np.array_equal(image, expected)
            assert as_it_is or np.array_equal(image, expected[..., ::-1])
            flipped += not as_it_is
    assert 4 < flipped < 20


def test_a_photo_too_large_for_the_memory_is_decoded_elsewhere(reader: ShardReader) -> None:
    photo = reader.read(0)[0]
    data = (reader.storage.folder / "train-000000.tar").read_bytes()  # type: ignore[operator]
    start = data.index(b"\xff\xd8\xff")
    jpeg = data[start : data.index(b"\xff\xd9", start) + 2]
    for num_bytes in (4 * 40 * 40 - 1, 10):
        np.testing.assert_array_equal(decode_jpeg(jpeg, np.zeros(num_bytes, np.uint8)), photo)
    memory = np.zeros(4 * 40 * 40, np.uint8)
    rgbx = decode_jpeg(jpeg, memory)
    assert np.shares_memory(rgbx, memory)
    np.testing.assert_array_equal(rgbx[..., :3], photo)
