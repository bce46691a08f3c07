"""The order of training: global batches that depend on seed and epoch, never on who reads them."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from neural_photo_editor.data.augmentation import (
    ColorJitter,
    Frame,
    center_frame,
    random_frame,
)
from neural_photo_editor.data.shard_order import epoch_order, shard_windows
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.transforms import (
    Pixels,
    crop,
    resize_labels,
    resize_photo,
)


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
    """This process's share of the global batches of one epoch.

    An epoch is an order of all samples, a function of (seed, epoch) alone that keeps to windows
    of `shuffle_shards` shards (see `epoch_order`), cut into global batches of `batch_size`.
    Process `rank` takes the `rank`-th of `world_size` equal slices of each, so the samples of
    global batch s are the same for any number of processes. The last, incomplete global batch is
    dropped: all processes take the same number of steps, and the samples dropped differ from
    epoch to epoch.

    Args:
        sample_ids: of the split, int64, shard after shard.
        shard_sizes: number of samples of each shard; None: one shard holds all.

    Raises:
        ValueError: `batch_size` is not a multiple of `world_size`, or there are fewer samples.
    """

    def __init__(
        self,
        sample_ids: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        shard_sizes: Sequence[int] | None = None,
        shuffle_shards: int = 16,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} counts all {world_size} processes together and must be a "
                "positive multiple of their number"
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
        self.shard_sizes = [len(sample_ids)] if shard_sizes is None else list(shard_sizes)
        assert sum(self.shard_sizes) == len(sample_ids)
        self.shuffle_shards = shuffle_shards
        self.epoch = 0
        self.first_step = 0

    def set_epoch(self, epoch: int, *, first_step: int = 0) -> None:
        """Choose the epoch that the next iteration yields, and the step it starts with."""
        self.epoch = epoch
        self.first_step = first_step

    def __len__(self) -> int:
        return len(self.sample_ids) // self.batch_size

    def __iter__(self) -> Iterator[BatchRequest]:
        epoch = self.epoch
        positions = epoch_order(
            self.shard_sizes, seed=self.seed, epoch=epoch, shuffle_shards=self.shuffle_shards
        )
        share = self.batch_size // self.world_size
        for step in range(self.first_step, len(self)):
            start = step * self.batch_size
            batch = tuple(self.sample_ids[positions[start : start + self.batch_size]].tolist())
            yield BatchRequest(epoch, batch[self.rank * share : (self.rank + 1) * share], batch)

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
    of those into nearly equal shares, so that every sample is seen exactly once and all
    processes take the same number of steps. Only where a global batch has fewer samples than
    there are processes do the processes left empty repeat its first sample.
    """

    def __init__(
        self, sample_ids: NDArray[np.int64], *, batch_size: int, rank: int, world_size: int
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        num_steps = -(-len(sample_ids) // batch_size)
        self.batches = np.array_split(sample_ids, num_steps) if num_steps else []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchRequest]:
        for batch in self.batches:
            share = np.array_split(batch, self.world_size)[self.rank]
            share = share if len(share) else batch[:1]
            yield BatchRequest(0, tuple(share.tolist()), tuple(batch.tolist()))


class ShardDataset(Dataset[Batch]):
    """Reads whole batches: ``dataset[BatchRequest(epoch, sample_ids)]``.

    A photo is cropped to `crop_size` (to its largest square where that is None), then resized to
    `resolution`. With `augment` the place of the crop and, if `horizontal_flip`, a flip and the
    `color_jitter` are drawn from (seed, epoch, sample id), see `augmentation`; without it the crop
    is central and nothing is flipped or colored.

    With `skip_damaged` a sample that cannot be read is replaced by the next readable one of the
    global batch, counted from its own place and around the end, so that the batch does not depend
    on the number of processes. The replacement's id stands in `sample_id`.

    Raises:
        CorruptSampleError: from reading, see `ShardReader.read`; with `skip_damaged` only where
            no sample of the global batch can be read.
        ValueError: a photo is smaller than `crop_size`.
    """

    def __init__(
        self,
        reader: ShardReader,
        *,
        resolution: int,
        crop_size: int | None = None,
        augment: bool = False,
        horizontal_flip: bool = False,
        color_jitter: ColorJitter | None = None,
        skip_damaged: bool = False,
        seed: int = 0,
    ) -> None:
        self.reader = reader
        self.resolution = resolution
        self.crop_size = crop_size
        self.augment = augment
        self.horizontal_flip = horizontal_flip
        self.color_jitter = color_jitter
        self.skip_damaged = skip_damaged
        self.seed = seed
        side = reader.manifest.resolution
        # Photos are decoded here one after the other: memory already in use is faster than new.
        self._scratch = np.empty(3 * side**2, np.uint8) if side else None

    def __getitem__(self, request: BatchRequest) -> Batch:
        num, side = len(request.sample_ids), self.resolution
        images = np.empty((num, 3, side, side), dtype=np.uint8)
        labels = np.zeros((num, side, side), dtype=np.uint8)
        sample_ids, damaged = list(request.sample_ids), dict[int, str]()
        for row in range(num):
            sample_ids[row], photo, label_map = self._read(request, row, damaged)
            sample_id = sample_ids[row]
            top, left, size, flip = self._frame(photo, epoch=request.epoch, sample_id=sample_id)
            step = -1 if flip else 1
            window = crop(photo, top=top, left=left, size=size)
            # (H, W, C) -> (C, H, W); flipping in the same copy is free.
            images[row] = resize_photo(window, size=side)[:, ::step].transpose(2, 0, 1)
            if label_map is not None:
                window = crop(label_map, top=top, left=left, size=size)
                labels[row] = resize_labels(window, width=side, height=side)[:, ::step]
        batch = Batch(
            image=torch.from_numpy(images),
            labels=torch.from_numpy(labels),
            sample_id=torch.tensor(sample_ids, dtype=torch.int64),
        )
        if self.augment and self.color_jitter is not None:
            batch["image"] = self.color_jitter.apply(
                batch["image"], seed=self.seed, epoch=request.epoch, sample_ids=sample_ids
            )
        if damaged:
            batch["damaged"] = damaged
        return batch

    def _read(
        self, request: BatchRequest, row: int, damaged: dict[int, str]
    ) -> tuple[int, Pixels, Pixels | None]:
        """Return (id, photo, labels) of a requested sample, or of what replaces it."""
        wanted = request.sample_ids[row]
        try:
            return wanted, *self.reader.read(wanted, scratch=self._scratch)
        except CorruptSampleError as error:
            if not self.skip_damaged:
                raise
            damaged[wanted] = str(error)
            failure = error
        everyone = request.global_ids or request.sample_ids
        place = everyone.index(wanted)
        for candidate in everyone[place + 1 :] + everyone[:place]:
            try:
                return candidate, *self.reader.read(candidate, scratch=self._scratch)
            except CorruptSampleError:
                continue
        raise failure

    def _frame(self, photo: Pixels, *, epoch: int, sample_id: int) -> Frame:
        height, width = photo.shape[:2]
        if self.crop_size is not None and self.crop_size > min(height, width):
            raise ValueError(
                f"photo {self.reader.key(sample_id)} is {width}x{height} pixels, smaller than "
                f"crop_size {self.crop_size}: lower crop_size or prepare larger photos"
            )
        if not self.augment:
            return center_frame(height, width, crop_size=self.crop_size)
        return random_frame(
            height,
            width,
            crop_size=self.crop_size,
            horizontal_flip=self.horizontal_flip,
            seed=self.seed,
            epoch=epoch,
            sample_id=sample_id,
        )
