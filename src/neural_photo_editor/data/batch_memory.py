"""Memory that a stream uses again and again, for batches and for the photo being decoded.

A loader worker hands a batch to the training process in shared memory. torch allocates it anew for
every batch, and each new page costs both processes a page fault: with small photos that is more
work than decoding them.
"""

import mmap
import weakref
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def scratch_memory(num_bytes: int) -> Pixels:
    """Return memory to decode into, uint8 (num_bytes,), whose content stays in the CPU's caches.

    libjpeg-turbo writes past the caches where rows begin at multiples of 32 bytes; reading the
    photo afterwards then takes twice as long. So this begins 16 bytes off.
    """
    memory = np.empty(num_bytes + 32, dtype=np.uint8)
    start = (16 - memory.ctypes.data) % 32
    return memory[start : start + num_bytes]


class BatchSlot(NamedTuple):
    """A place in `BatchMemory`; what a worker sends instead of the pixels."""

    worker: int
    place: int


class BatchMemory:
    """Slots for batches, shared by a training process and the loader workers forked from it.

    Each worker has slots of its own: it alone takes them, the training process alone gives them
    back, when the last tensor in a slot is gone. A worker that finds none free makes its batch in
    the ordinary way, so batches may be kept without stopping it.

    Args:
        num_workers: of the loader.
        slots_per_worker: batches that a worker reads ahead, and those in use by the training.
        batch_size: samples that a slot has room for.
        resolution: side of the images, in pixels.
    """

    def __init__(
        self, *, num_workers: int, slots_per_worker: int, batch_size: int, resolution: int
    ) -> None:
        self.batch_size = batch_size
        self.resolution = resolution
        slots = (num_workers, slots_per_worker)
        # Anonymous, not in /dev/shm, which containers keep small.
        self._taken: Pixels = _shared(slots)
        self._pixels: Pixels = _shared((*slots, batch_size * 4 * resolution**2))

    def take(self, *, worker: int, batch_size: int) -> BatchSlot | None:
        """Return a free slot of a worker; None if there is none, or the batch is too large."""
        free = np.flatnonzero(self._taken[worker] == 0)
        if batch_size > self.batch_size or not len(free):
            return None
        slot = BatchSlot(worker, int(free[0]))
        self._taken[slot] = 1
        return slot

    def arrays(self, slot: BatchSlot, *, batch_size: int) -> tuple[Pixels, Pixels]:
        """Return a slot's images, uint8 (N, 3, H, W), and labels, uint8 (N, H, W), to fill."""
        images, labels = self._split(torch.from_numpy(self._pixels[slot]), batch_size)
        return images.numpy(), labels.numpy()

    def tensors(self, slot: BatchSlot, *, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return the same as tensors; the slot is free again when nothing refers to them."""
        view = self._pixels[slot]
        # The tensors' storage holds the view, and the view dies with it.
        weakref.finalize(view, self._taken.__setitem__, slot, 0).atexit = False
        return self._split(torch.from_numpy(view), batch_size)

    def _split(self, pixels: Tensor, num: int) -> tuple[Tensor, Tensor]:
        side = self.resolution
        end = num * 3 * side**2
        images, labels = pixels[:end], pixels[end : end + num * side**2]
        return images.view(num, 3, side, side), labels.view(num, side, side)


def _shared(shape: tuple[int, ...]) -> Pixels:
    """Return zeros, uint8, that processes forked from this one see and change too."""
    memory = mmap.mmap(-1, int(np.prod(shape)))
    return np.frombuffer(memory, dtype=np.uint8).reshape(shape)
