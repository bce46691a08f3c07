"""JPEG photos through a data set's own memory; `test_shard_stream` tests the rest, with PNGs."""

import numpy as np
import pytest
import torch

from neural_photo_editor.data.augmentation import ColorJitter
from neural_photo_editor.data.placement import RandomPlacement
from neural_photo_editor.data.quality_loss import QualityLoss
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


def test_every_change_depends_on_seed_epoch_and_sample_alone(reader: ShardReader) -> None:
    dataset = ShardDataset(
        reader,
        resolution=32,
        augment=True,
        horizontal_flip=True,
        placement=RandomPlacement(rotation=20, scale=0.2, shift=0.1),
        color_jitter=ColorJitter(brightness=0.2),
        quality_loss=QualityLoss(gray=0.3, blur=0.5, jpeg=0.5),
        seed=5,
    )
    together = dataset[BatchRequest(3, (4, 0, 5, 2))]
    for row, sample_id in enumerate((4, 0, 5, 2)):
        alone = dataset[BatchRequest(3, (sample_id,))]
        for name in ("image", "labels"):
            assert torch.equal(alone[name][0], together[name][row])
    other = dataset[BatchRequest(4, (4, 0, 5, 2))]
    assert not torch.equal(other["labels"], together["labels"])


def test_placement_moves_labels_and_held_out_samples_stay(reader: ShardReader) -> None:
    def batch(augment: bool, placement: RandomPlacement | None) -> dict[str, torch.Tensor]:
        dataset = ShardDataset(reader, resolution=40, augment=augment, placement=placement)
        return dataset[BatchRequest(0, (0, 1, 2))]  # type: ignore[return-value]

    placement = RandomPlacement(rotation=20)
    plain, placed = batch(True, None), batch(True, placement)
    assert not torch.equal(plain["labels"], placed["labels"])
    expected = placement.apply(
        plain["image"], plain["labels"], seed=0, epoch=0, sample_ids=(0, 1, 2)
    )
    assert torch.equal(placed["image"], expected[0])
    assert torch.equal(placed["labels"], expected[1])
    held_out = batch(False, placement)
    assert torch.equal(held_out["labels"], plain["labels"])


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
