"""Whole batches of photos and label maps, read from shards and augmented."""

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from neural_photo_editor.data.augmentation import (
    ColorJitter,
    Frame,
    center_frame,
    random_frame,
)
from neural_photo_editor.data.batch_memory import BatchMemory, BatchSlot, scratch_memory
from neural_photo_editor.data.placement import RandomPlacement
from neural_photo_editor.data.quality_loss import QualityLoss
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_stream import Batch, BatchRequest
from neural_photo_editor.data.transforms import (
    Pixels,
    copy_planes,
    crop,
    resize_labels,
    resize_photo,
)


class BatchInMemory(NamedTuple):
    """What a loader worker sends of a batch whose pixels lie in `BatchMemory`."""

    slot: BatchSlot
    sample_ids: list[int]
    damaged: dict[int, str]


class _Draw(TypedDict):
    seed: int
    epoch: int
    sample_ids: list[int]


def open_batch(sent: Batch | BatchInMemory, memory: BatchMemory | None) -> Batch:
    """Return a batch as training wants it from what `ShardDataset` returned, maybe elsewhere."""
    if not isinstance(sent, BatchInMemory):
        return sent
    assert memory is not None
    images, labels = memory.tensors(sent.slot, batch_size=len(sent.sample_ids))
    return make_batch(images, labels, sent.sample_ids, sent.damaged)


def make_batch(
    image: Tensor, labels: Tensor, sample_ids: list[int], damaged: dict[int, str]
) -> Batch:
    ids = torch.tensor(sample_ids, dtype=torch.int64)
    batch = Batch(image=image, labels=labels, sample_id=ids)
    if damaged:
        batch["damaged"] = damaged
    return batch


class ShardDataset(Dataset[Batch | BatchInMemory]):
    """Reads whole batches: ``dataset[BatchRequest(epoch, sample_ids)]``.

    A photo is cropped to `crop_size` (to its largest square where that is None), then resized to
    `resolution`. With `augment` the place of the crop and, if `horizontal_flip`, a flip, the
    `placement`, the `color_jitter` and the `quality_loss` are drawn from (seed, epoch, sample id)
    and applied in that order; without it the crop is central and nothing is changed.

    With `skip_damaged` a sample that cannot be read is replaced by the next readable one of the
    global batch, counted from its own place and around the end, so that the batch does not depend
    on the number of processes. The replacement's id stands in `sample_id`.

    With `memory` a loader worker leaves the pixels there and returns a `BatchInMemory`.

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
        placement: RandomPlacement | None = None,
        color_jitter: ColorJitter | None = None,
        quality_loss: QualityLoss | None = None,
        skip_damaged: bool = False,
        seed: int = 0,
        memory: BatchMemory | None = None,
    ) -> None:
        self.reader = reader
        self.resolution = resolution
        self.crop_size = crop_size
        self.augment = augment
        self.horizontal_flip = horizontal_flip
        self.placement = placement
        self.color_jitter = color_jitter
        self.quality_loss = quality_loss
        self.skip_damaged = skip_damaged
        self.seed = seed
        self.memory = memory
        side = reader.manifest.resolution
        # Photos are decoded here one after the other: memory already in use is faster than new.
        self._scratch = scratch_memory(4 * side**2) if side else None

    def __getitem__(self, request: BatchRequest) -> Batch | BatchInMemory:
        num, side = len(request.sample_ids), self.resolution
        worker, slot = get_worker_info(), None
        if self.memory is not None and worker is not None:
            slot = self.memory.take(worker=worker.id, batch_size=num)
        if self.memory is None or slot is None:
            images = np.empty((num, 3, side, side), dtype=np.uint8)
            labels = np.empty((num, side, side), dtype=np.uint8)
        else:
            images, labels = self.memory.arrays(slot, batch_size=num)
        sample_ids, damaged = self._fill(request, images, labels)
        if slot is not None:
            return BatchInMemory(slot, sample_ids, damaged)
        return make_batch(torch.from_numpy(images), torch.from_numpy(labels), sample_ids, damaged)

    def _fill(
        self, request: BatchRequest, images: Pixels, labels: Pixels
    ) -> tuple[list[int], dict[int, str]]:
        """Write the pixels; return the ids of the samples and what is wrong with replaced ones."""
        side = self.resolution
        sample_ids, damaged = list(request.sample_ids), dict[int, str]()
        for row in range(len(sample_ids)):
            sample_ids[row], photo, label_map = self._read(request, row, damaged)
            sample_id = sample_ids[row]
            top, left, size, flip = self._frame(photo, epoch=request.epoch, sample_id=sample_id)
            step = -1 if flip else 1
            window = crop(photo, top=top, left=left, size=size)
            # (H, W, C) -> (C, H, W); flipping in the same copy is free.
            copy_planes(resize_photo(window, size=side)[:, ::step], images[row])
            if label_map is None:
                labels[row] = 0
            else:
                window = crop(label_map, top=top, left=left, size=size)
                labels[row] = resize_labels(window, width=side, height=side)[:, ::step]
        if self.augment:
            self._augment(images, labels, epoch=request.epoch, sample_ids=sample_ids)
        return sample_ids, damaged

    def _augment(
        self, images: Pixels, labels: Pixels, *, epoch: int, sample_ids: list[int]
    ) -> None:
        photos, label_maps = torch.from_numpy(images), torch.from_numpy(labels)
        draw: _Draw = {"seed": self.seed, "epoch": epoch, "sample_ids": sample_ids}
        if self.placement is not None:
            placed = self.placement.apply(photos, label_maps, **draw)
            photos.copy_(placed[0])
            label_maps.copy_(placed[1])
        for change in (self.color_jitter, self.quality_loss):
            if change is not None:
                photos.copy_(change.apply(photos, **draw))

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
