import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.data.shard_dataset import ShardDataset
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_stream import (
    BatchRequest,
    TrainBatchSampler,
    ValidationBatchSampler,
)

IDS = np.arange(100, 203)


def _global_batches(
    *, world_size: int, epoch: int, seed: int = 7, accumulation: int = 1, first_step: int = 0
) -> list[tuple[int, ...]]:
    """Join the processes' passes of each step in the order of ranks."""
    shares = []
    for rank in range(world_size):
        sampler = TrainBatchSampler(
            IDS,
            batch_size=8,
            seed=seed,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        )
        sampler.set_epoch(epoch, first_step=first_step)
        passes = [request.sample_ids for request in sampler]
        assert len(passes) == len(sampler) - first_step * accumulation
        assert {len(ids) for ids in passes} == {8 // world_size // accumulation}
        steps = zip(*[iter(passes)] * accumulation, strict=True)
        shares.append([sum(step, ()) for step in steps])
    return [sum(step, ()) for step in zip(*shares, strict=True)]


def test_global_batches_are_the_same_for_any_number_of_processes_and_passes() -> None:
    for epoch in range(3):
        expected = _global_batches(world_size=1, epoch=epoch)
        assert len(expected) == 103 // 8
        for world_size, accumulation in ((2, 1), (4, 1), (8, 1), (1, 4), (2, 2), (4, 2)):
            split = {"world_size": world_size, "accumulation": accumulation}
            assert _global_batches(**split, epoch=epoch) == expected
            assert _global_batches(**split, epoch=epoch, first_step=5) == expected[5:]


def test_an_epoch_holds_each_sample_once_but_for_the_remainder() -> None:
    dropped = set()
    for epoch in range(4):
        seen = [i for batch in _global_batches(world_size=1, epoch=epoch) for i in batch]
        assert len(set(seen)) == len(seen) == 96
        assert set(seen) < set(IDS.tolist())
        dropped.add(frozenset(IDS.tolist()) - frozenset(seen))
    assert len(dropped) > 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = _global_batches(world_size=1, epoch=1)
    np.random.seed(0)
    torch.manual_seed(0)
    assert _global_batches(world_size=1, epoch=1) == first
    assert _global_batches(world_size=1, epoch=2) != first
    assert _global_batches(world_size=1, epoch=1, seed=8) != first
    # Frozen: a change here changes what every earlier training saw, and resuming one.
    assert first[0] == (159, 195, 160, 125, 127, 144, 183, 200)


def test_batch_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of their number"):
        TrainBatchSampler(IDS, batch_size=9, seed=0, rank=0, world_size=2)
    with pytest.raises(ValueError, match="more than the 103 training samples"):
        TrainBatchSampler(IDS, batch_size=104, seed=0, rank=0, world_size=1)


@given(
    num=st.integers(0, 60),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 5),
    accumulation=st.integers(1, 3),
)
def test_validation_sees_every_sample_in_equally_many_steps(
    num: int, batch_size: int, world_size: int, accumulation: int
) -> None:
    ids = np.arange(num)
    shares = [
        [
            request.sample_ids
            for request in ValidationBatchSampler(
                ids,
                batch_size=batch_size,
                rank=rank,
                world_size=world_size,
                accumulation=accumulation,
            )
        ]
        for rank in range(world_size)
    ]
    num_batches = -(-num // batch_size)
    assert {len(steps) for steps in shares} == {num_batches * accumulation}
    assert all(ids for steps in shares for ids in steps)
    seen = [i for steps in zip(*shares, strict=True) for ids in steps for i in ids]
    if num >= world_size * accumulation * max(1, num_batches):
        assert sorted(seen) == ids.tolist()
    else:
        assert set(seen) == set(ids.tolist())
    largest = max((len(ids) for steps in shares for ids in steps), default=0)
    assert largest <= max(1, -(-batch_size // (world_size * accumulation)))


def _dataset(shards: Path, **options: object) -> ShardDataset:
    arguments: dict[str, object] = {"resolution": 40} | options
    return ShardDataset(ShardReader(shards), **arguments)  # type: ignore[arg-type]


def test_a_batch_holds_pixels_labels_and_ids(shards: Path) -> None:
    dataset = _dataset(shards)
    batch = dataset[BatchRequest(0, (3, 20, 3))]
    assert batch["image"].shape == (3, 3, 40, 40)
    assert batch["labels"].shape == (3, 40, 40)
    assert (batch["image"].dtype, batch["labels"].dtype) == (torch.uint8, torch.uint8)
    assert batch["sample_id"].dtype == torch.int64
    assert batch["sample_id"].tolist() == [3, 20, 3]
    assert batch["image"].is_contiguous()
    for row, sample_id in enumerate((3, 20, 3)):
        # The photo's red is 10 x its number, its green 4 x the column; 4 of 48 columns are cut.
        number = int(dataset.reader.key(sample_id))
        assert batch["image"][row, 0].unique().tolist() == [10 * number]
        assert batch["image"][row, 1, 5].tolist() == [4 * (column + 4) for column in range(40)]
        assert batch["labels"][row, 5].tolist() == [
            min((column + 4) // 4, 10) for column in range(40)
        ]


def _damage(shards: Path, reader: ShardReader, sample_ids: tuple[int, ...]) -> None:
    """Overwrite the photos of samples with zeros."""
    for sample_id in sample_ids:
        key = reader.key(sample_id)
        file = next(shard.file for shard in reader.manifest.shards if key in shard.keys)
        with tarfile.open(shards / file) as tar:
            member = tar.getmember(f"{key}.png")
        with (shards / file).open("r+b") as out:
            out.seek(member.offset_data)
            out.write(bytes(member.size))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_damaged_sample_is_replaced_by_the_next_of_the_global_batch(
    shards: Path, world_size: int
) -> None:
    """Samples 4, 5 and 9 are damaged; 9 is the batch's last, so the first replaces it."""
    reader = ShardReader(shards)
    _damage(shards, reader, (4, 5, 9))
    everyone = (1, 4, 5, 2, 8, 0, 3, 9)
    share = 8 // world_size
    dataset = _dataset(shards, skip_damaged=True)
    ids, damaged, images = [], {}, []
    for rank in range(world_size):
        mine = everyone[rank * share : (rank + 1) * share]
        batch = dataset[BatchRequest(0, mine, everyone)]
        ids += batch["sample_id"].tolist()
        images.append(batch["image"])
        damaged |= batch.get("damaged", {})
    assert ids == [1, 2, 2, 2, 8, 0, 3, 1]
    assert torch.equal(torch.cat(images), dataset[BatchRequest(0, tuple(ids))]["image"])
    assert damaged.keys() == {4, 5, 9}
    assert all(f"member {reader.key(i)}.png: " in text for i, text in damaged.items())


def test_damage_stops_where_nothing_replaces_it(shards: Path) -> None:
    reader = ShardReader(shards)
    _damage(shards, reader, (4, 5))
    with pytest.raises(CorruptSampleError, match=rf"member {reader.key(4)}\.png"):
        _dataset(shards, skip_damaged=True)[BatchRequest(0, (4,), (4, 5))]
    with pytest.raises(CorruptSampleError, match=rf"member {reader.key(5)}\.png"):
        _dataset(shards)[BatchRequest(0, (0, 5), (0, 5, 4))]


def test_augmentation_depends_on_seed_epoch_and_sample_alone(shards: Path) -> None:
    options = {"crop_size": 24, "resolution": 24, "augment": True, "horizontal_flip": True}
    dataset = _dataset(shards, seed=5, **options)
    ids = tuple(range(23))
    together = dataset[BatchRequest(2, ids)]["image"]
    alone = torch.cat([dataset[BatchRequest(2, (i,))]["image"] for i in reversed(ids)]).flip(0)
    assert torch.equal(together, alone)
    assert not torch.equal(together, dataset[BatchRequest(3, ids)]["image"])
    other_seed = _dataset(shards, seed=6, **options)
    assert not torch.equal(together, other_seed[BatchRequest(2, ids)]["image"])


def test_flips_and_crops_move_photo_and_labels_alike(shards: Path) -> None:
    dataset = _dataset(
        shards, crop_size=24, resolution=24, augment=True, horizontal_flip=True, seed=1
    )
    lefts, flips = set(), []
    for epoch in range(40):
        batch = dataset[BatchRequest(epoch, (0, 7))]
        for green, labels in zip(batch["image"][:, 1, 0].tolist(), batch["labels"], strict=True):
            columns = [value // 4 for value in green]
            assert labels[0].tolist() == [min(column // 4, 10) for column in columns]
            lefts.add(min(columns))
            flips.append(columns[0] > columns[-1])
    assert {min(lefts), max(lefts)} == {0, 24}
    assert 20 < sum(flips) < 60


def test_without_augmentation_the_crop_is_central(shards: Path) -> None:
    dataset = _dataset(shards, crop_size=24, resolution=24, horizontal_flip=True)
    for epoch in range(3):
        green = dataset[BatchRequest(epoch, (0,))]["image"][0, 1, 0].tolist()
        assert green == [4 * column for column in range(12, 36)]


def test_the_crop_is_resized_to_the_resolution(shards: Path) -> None:
    batch = _dataset(shards, crop_size=24, resolution=12)[BatchRequest(0, (2,))]
    assert batch["image"].shape == (1, 3, 12, 12)
    green = batch["image"][0, 1, 6, 2:-2].tolist()
    np.testing.assert_allclose(green, [4 * (12.5 + 2 * column) for column in range(2, 10)], atol=1)
    assert batch["labels"].shape == (1, 12, 12)


def test_a_crop_larger_than_the_photo_is_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match="48x40 pixels, smaller than crop_size 41"):
        _dataset(shards, crop_size=41)[BatchRequest(0, (0,))]
