"""The order of training: global batches that depend on seed and epoch, never on who reads them."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from neural_photo_editor.data.shard_order import epoch_order, shard_windows


class Batch(TypedDict):
    """What a training step gets.

    image: uint8 (N, 3, H, W), RGB. labels: uint8 (N, H, W), region ids; 0 where a photo has no
    label map. sample_id: int64 (N,), the sample's position in the manifest's order.
    damaged: what was wrong with each sample that was replaced, by its id; taken out again before
    a training step sees the batch.
    """

    image: Tensor
    labels: Tensor
    sample_id: Tensor
    damaged: NotRequired[dict[int, str]]


class BatchRequest(NamedTuple):
    """Which samples make a batch; the epoch travels along because augmentation depends on it.

    `global_ids` are the samples of all processes' batches of this step, `sample_ids` among them:
    a damaged sample is replaced by one of those. Empty: there is one process.
    """

    epoch: int
    sample_ids: tuple[int, ...]
    global_ids: tuple[int, ...] = ()


class TrainBatchSampler(Sampler[BatchRequest]):
    """This process's share of the global batches of one epoch, in one or several passes each.

    An epoch is an order of all samples, a function of (seed, epoch) alone that keeps to windows
    of `shuffle_shards` shards (see `epoch_order`), cut into global batches of `batch_size`.
    Process `rank` takes the `rank`-th of `world_size` equal slices of each and yields it in
    `accumulation` equal passes, so the samples of global batch s are the same for any number of
    processes and passes. The last, incomplete global batch is dropped: all processes take the same
    number of steps, and the samples dropped differ from epoch to epoch.

    Args:
        sample_ids: of the split, int64, shard after shard.
        shard_sizes: number of samples of each shard; None: one shard holds all.
        accumulation: passes that a process cuts its slice into.

    Raises:
        ValueError: `batch_size` is not a multiple of `world_size` times `accumulation`, or there
            are fewer samples.
    """

    def __init__(
        self,
        sample_ids: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        accumulation: int = 1,
        shard_sizes: Sequence[int] | None = None,
        shuffle_shards: int = 16,
    ) -> None:
        if batch_size < 1 or batch_size % (world_size * accumulation):
            raise ValueError(
                f"batch_size {batch_size} counts all {world_size} processes together and must be a "
                f"positive multiple of their number times {accumulation} passes"
            )
        if len(sample_ids) < batch_size:
            raise ValueError(
                f"batch_size {batch_size} is more than the {len(sample_ids)} training samples: "
                "lower it or prepare more samples"
            )
        self.sample_ids = sample_ids
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulation = accumulation
        self.per_device = batch_size // world_size // accumulation
        self.shard_sizes = [len(sample_ids)] if shard_sizes is None else list(shard_sizes)
        assert sum(self.shard_sizes) == len(sample_ids)
        self.shuffle_shards = shuffle_shards
        self.epoch = 0
        self.first_step = 0

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose the epoch that the next iteration yields, and the global batch it starts with."""
        self.epoch = epoch
        self.first_step = first_step

    def __len__(self) -> int:
        return len(self.sample_ids) // self.batch_size * self.accumulation

    def __iter__(self) -> Iterator[BatchRequest]:
        epoch = self.epoch
        positions = epoch_order(
            self.shard_sizes, seed=self.seed, epoch=epoch, shuffle_shards=self.shuffle_shards
        )
        share = self.batch_size // self.world_size
        for step in range(self.first_step, len(self.sample_ids) // self.batch_size):
            start = step * self.batch_size
            batch = tuple(self.sample_ids[positions[start : start + self.batch_size]].tolist())
            for first in range(self.rank * share, (self.rank + 1) * share, self.per_device):
                yield BatchRequest(epoch, batch[first : first + self.per_device], batch)

    def windows_ahead(self) -> list[tuple[int, list[int]]]:
        """Return (first step of the window before, shards) of the epoch's windows still to come."""
        windows = shard_windows(
            len(self.shard_sizes),
            seed=self.seed,
            epoch=self.epoch,
            shuffle_shards=self.shuffle_shards,
        )
        sizes = [sum(self.shard_sizes[shard] for shard in window) for window in windows]
        starts = [start // self.batch_size for start in accumulate(sizes, initial=0)]
        return [
            (before, window.tolist())
            for before, start, window in zip(starts, starts[1:], windows[1:], strict=False)
            if start > self.first_step
        ]


class ValidationBatchSampler(Sampler[BatchRequest]):
    """This process's share of the validation samples, in the manifest's order.

    The samples are cut into ceil(n / batch_size) global batches of nearly equal size, and each
    of those into nearly equal shares, which come in `accumulation` nearly equal passes, so that
    every sample is seen exactly once and all processes take the same number of steps. Only where a
    global batch has fewer samples than there are passes of all processes do those left empty
    repeat its first sample.
    """

    def __init__(
        self,
        sample_ids: NDArray[np.int64],
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        accumulation: int = 1,
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.accumulation = accumulation
        num_steps = -(-len(sample_ids) // batch_size)
        self.batches = np.array_split(sample_ids, num_steps) if num_steps else []

    def __len__(self) -> int:
        return len(self.batches) * self.accumulation

    def __iter__(self) -> Iterator[BatchRequest]:
        for batch in self.batches:
            share = np.array_split(batch, self.world_size)[self.rank]
            for part in np.array_split(share, self.accumulation):
                samples = part if len(part) else batch[:1]
                yield BatchRequest(0, tuple(samples.tolist()), tuple(batch.tolist()))
