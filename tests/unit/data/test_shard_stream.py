import tarfile
from itertools import chain, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from neural_photo_editor.data.shard_order import epoch_order, shard_windows
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_stream import (
    BatchRequest,
    ShardDataset,
    TrainBatchSampler,
    ValidationBatchSampler,
)

IDS = np.arange(100, 203)


def _global_batches(*, world_size: int, epoch: int, seed: int = 7) -> list[tuple[int, ...]]:
    """Join the processes' shares of each step in the order of ranks."""
    samplers = [
        TrainBatchSampler(IDS, batch_size=8, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    steps = zip(*samplers, strict=True)
    return [sum((share.sample_ids for share in shares), ()) for shares in steps]


def test_global_batches_are_the_same_for_any_number_of_processes() -> None:
    for epoch in range(3):
        expected = _global_batches(world_size=1, epoch=epoch)
        assert len(expected) == 103 // 8
        for world_size in (2, 4, 8):
            assert _global_batches(world_size=world_size, epoch=epoch) == expected


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


class _Echo(Dataset[list[int]]):
    """Returns the requested ids and, as `ShardDataset`, knows nothing but the request."""

    def __getitem__(self, request: BatchRequest) -> list[int]:
        return list(request.sample_ids)


def _steps_as_workers_read(sampler: TrainBatchSampler, num_workers: int) -> list[list[int]]:
    """Read an epoch as DataLoader does: worker w gets every num_workers-th request, in order."""
    requests, dataset = list(sampler), _Echo()
    if num_workers == 0:
        return [dataset[request] for request in requests]
    queues = [
        [dataset[request] for request in requests[worker::num_workers]]
        for worker in range(num_workers)
    ]
    return [queues[step % num_workers][step // num_workers] for step in range(len(requests))]


def _epoch(
    sizes: list[int], *, world_size: int, num_workers: int, first_step: int = 0, **options: int
) -> list[list[int]]:
    """Join the processes' shares of each step in the order of ranks."""
    shares = []
    for rank in range(world_size):
        sampler = TrainBatchSampler(
            np.arange(1000, 1000 + sum(sizes)),
            batch_size=8,
            seed=options["seed"],
            rank=rank,
            world_size=world_size,
            shard_sizes=sizes,
            shuffle_shards=options["shuffle_shards"],
        )
        sampler.set_epoch(options["epoch"], first_step=first_step)
        shares.append(_steps_as_workers_read(sampler, num_workers))
    return [list(chain.from_iterable(steps)) for steps in zip(*shares, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12).filter(lambda s: sum(s) >= 8),
    shuffle_shards=st.integers(1, 13),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
def test_any_number_of_processes_and_workers_reads_the_same_steps_without_repeats_or_gaps(
    sizes: list[int], shuffle_shards: int, epoch: int, seed: int, data: st.DataObject
) -> None:
    options = {"shuffle_shards": shuffle_shards, "epoch": epoch, "seed": seed}
    expected = _epoch(sizes, world_size=1, num_workers=0, **options)
    seen = [i for step in expected for i in step]
    assert len(expected) == sum(sizes) // 8
    assert len(set(seen)) == len(seen) == len(expected) * 8
    assert set(seen) <= set(range(1000, 1000 + sum(sizes)))
    for world_size in (1, 2, 4, 8):
        for num_workers in (0, 1, 2, 4):
            read = _epoch(sizes, world_size=world_size, num_workers=num_workers, **options)
            assert read == expected
    # Stopped anywhere and continued on another number of processes.
    stop = data.draw(st.integers(0, len(expected)))
    rest = _epoch(sizes, world_size=4, num_workers=2, first_step=stop, **options)
    assert expected[:stop] + rest == expected


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_a_real_loader_reads_the_same_steps(num_workers: int) -> None:
    sampler = TrainBatchSampler(
        IDS, batch_size=8, seed=1, rank=1, world_size=2, shard_sizes=[50, 3, 50], shuffle_shards=2
    )
    loader = DataLoader(_Echo(), batch_size=None, sampler=sampler, num_workers=num_workers)
    assert list(loader) == [list(request.sample_ids) for request in sampler]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    shuffle_shards=st.integers(1, 21),
    seed=st.integers(0, 100),
)
def test_an_epoch_goes_window_after_window(
    sizes: list[int], shuffle_shards: int, seed: int
) -> None:
    order = epoch_order(sizes, seed=seed, epoch=2, shuffle_shards=shuffle_shards).tolist()
    assert sorted(order) == list(range(sum(sizes)))
    windows = shard_windows(len(sizes), seed=seed, epoch=2, shuffle_shards=shuffle_shards)
    assert [len(window) for window in windows[:-1]] == [shuffle_shards] * (len(windows) - 1)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    start = 0
    for window in windows:
        length = sum(sizes[shard] for shard in window)
        assert set(shard_of[order[start : start + length]]) == set(window.tolist())
        start += length


def test_every_order_of_a_window_is_as_likely() -> None:
    """Shards of 1, 1 and 2 samples in windows of two shards: the chi-square test at 0.1 %."""
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(4000):
        order = tuple(epoch_order([1, 1, 2], seed=0, epoch=epoch, shuffle_shards=2).tolist())
        counts[order] = counts.get(order, 0) + 1
    # Of three shards, two make the first window: {0, 1}, {0, 2} or {1, 2}, each 1/3.
    expected = {
        **dict.fromkeys(
            [(a, b, c, d) for a, b in ((0, 1), (1, 0)) for c, d in ((2, 3), (3, 2))], 4000 / 3 / 4
        ),
        **{
            (*first, last): 4000 / 3 / 6
            for last, three in ((1, (0, 2, 3)), (0, (1, 2, 3)))
            for first in permutations(three)
        },
    }
    assert counts.keys() == expected.keys()
    chi_square = sum((counts[k] - n) ** 2 / n for k, n in expected.items())
    assert chi_square < 37.7  # 15 degrees of freedom


def test_batch_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of their number"):
        TrainBatchSampler(IDS, batch_size=9, seed=0, rank=0, world_size=2)
    with pytest.raises(ValueError, match="more than the 103 training samples"):
        TrainBatchSampler(IDS, batch_size=104, seed=0, rank=0, world_size=1)


@given(
    num=st.integers(0, 60),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 5),
)
def test_validation_sees_every_sample_in_equally_many_steps(
    num: int, batch_size: int, world_size: int
) -> None:
    ids = np.arange(num)
    shares = [
        [
            request.sample_ids
            for request in ValidationBatchSampler(
                ids, batch_size=batch_size, rank=rank, world_size=world_size
            )
        ]
        for rank in range(world_size)
    ]
    assert {len(steps) for steps in shares} == {-(-num // batch_size)}
    assert all(ids for steps in shares for ids in steps)
    seen = [i for steps in zip(*shares, strict=True) for ids in steps for i in ids]
    if num >= world_size * max(1, -(-num // batch_size)):
        assert seen == ids.tolist()
    else:
        assert set(seen) == set(ids.tolist())
    assert all(
        sum(map(len, steps)) <= max(batch_size, world_size) for steps in zip(*shares, strict=True)
    )


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
