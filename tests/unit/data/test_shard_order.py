"""The order of an epoch, by whomever it is read."""

from itertools import chain, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from neural_photo_editor.data.shard_order import epoch_order, shard_windows
from neural_photo_editor.data.shard_stream import BatchRequest, TrainBatchSampler


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
        np.arange(103),
        batch_size=8,
        seed=1,
        rank=1,
        world_size=2,
        shard_sizes=[50, 3, 50],
        shuffle_shards=2,
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


def test_windows_ahead_are_those_that_begin_later() -> None:
    sizes = [5, 9, 3, 7, 4, 8, 6]
    sampler = TrainBatchSampler(
        np.arange(42), batch_size=2, seed=0, rank=0, world_size=1, shard_sizes=sizes,
        shuffle_shards=2,
    )  # fmt: skip
    sampler.set_epoch(1)
    shard_of = np.repeat(np.arange(7), sizes)
    steps = [{int(shard_of[i]) for i in request.sample_ids} for request in sampler]
    windows = [w.tolist() for w in shard_windows(7, seed=0, epoch=1, shuffle_shards=2)]
    starts = [next(s for s, shards in enumerate(steps) if shards & {*w}) for w in windows]
    for first_step in range(21):
        sampler.set_epoch(1, first_step=first_step)
        assert sampler.windows_ahead() == [
            (starts[k - 1], windows[k]) for k in range(1, 4) if starts[k] > first_step
        ]
