"""Random access to the samples of plain WebDataset tars: an index of offsets, then ``pread``."""

import io
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.data.label_map import decode_labels
from neural_photo_editor.data.shard_index import ShardIndex, index_shard
from neural_photo_editor.data.shard_manifest import (
    ShardInfo,
    ShardManifest,
    Split,
)
from neural_photo_editor.data.storage import ShardStorage, StorageError

MAX_PIXELS = 4096 * 4096


class CorruptSampleError(RuntimeError):
    """A sample's bytes cannot be used. The message names shard, member and remedy."""


class _OpenShard(NamedTuple):
    file: int
    first_id: int
    members: ShardIndex


class ShardReader:
    """Reads photos and label maps by sample id, the sample's position in the manifest's order.

    The constructor reads the manifest alone. A shard is opened, and its headers are read, when a
    process first needs it; at most `max_open_shards` stay open, the one opened first is closed.
    A reader may be pickled or forked into loader workers.

    Args:
        storage: the data set's files, or a local folder.

    Raises:
        ValueError: there is no manifest, or it is not valid.
    """

    def __init__(self, storage: ShardStorage | Path, *, max_open_shards: int = 32) -> None:
        self.storage = storage if isinstance(storage, ShardStorage) else ShardStorage(storage)
        self.max_open_shards = max_open_shards
        self.manifest = ShardManifest.load(self.storage)
        sizes = (len(shard.keys) for shard in self.manifest.shards)
        # Shard i holds the samples from _starts[i] to _starts[i + 1] - 1.
        self._starts = list(accumulate(sizes, initial=0))
        self._open: dict[int, _OpenShard] = {}
        self._damaged: dict[int, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __len__(self) -> int:
        return self._starts[-1]

    def __del__(self) -> None:
        # Of an instance whose constructor failed there is nothing to close.
        for shard in getattr(self, "_open", {}).values():
            os.close(shard.file)

    def sample_ids(self, split: Split) -> NDArray[np.int64]:
        """Return the ids of a split's samples, int64, ascending."""
        parts = [
            np.arange(start, start + len(shard.keys))
            for start, shard in zip(self._starts, self.manifest.shards, strict=False)
            if shard.split == split
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def shards(self, split: Split) -> list[ShardInfo]:
        """Return a split's shards in the order of `sample_ids`."""
        return [shard for shard in self.manifest.shards if shard.split == split]

    def key(self, sample_id: int) -> str:
        number = self._number(sample_id)
        return self.manifest.shards[number].keys[sample_id - self._starts[number]]

    def has_labels(self, sample_id: int) -> bool:
        return self.key(sample_id) not in self.manifest.shards[self._number(sample_id)].unlabeled

    def check_complete(self) -> None:
        """Check that no shard of a local folder is missing; a remote one shows when it is read.

        Raises:
            ValueError: names the first shard that is missing.
        """
        if self.storage.folder is None:
            return
        present = set(self.storage.names())
        for shard in self.manifest.shards:
            if shard.file not in present:
                path = self.storage.url(shard.file)
                raise ValueError(f"{path} is missing: copy it again or prepare the shards again")

    def read(
        self, sample_id: int, *, scratch: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return a photo, uint8 (H, W, 3), and its label map, uint8 (H, W) in 0..10, or None.

        Args:
            scratch: uint8 (num,), memory for a JPEG's pixels if they fit. The photo is then
                (H, W, 4), the fourth channel meaningless, and valid only until the memory is used
                again: see `transforms.copy_planes`.

        Raises:
            CorruptSampleError: the shard is missing or damaged, or the sample's bytes are cut
                off or do not decode.
            StorageError: the shard's storage cannot be reached, which says nothing of the shard.
        """
        number = self._number(sample_id)
        suffix: str = self.manifest.image_format
        try:
            shard = self._open.get(number) or self._open_shard(number)
            row = sample_id - shard.first_id
            data = _pread(shard.file, shard.members.photos[row])
            photo = decode_jpeg(data, scratch) if suffix == "jpg" else _decode_png(data)
            if shard.members.labels[row, 1] < 0:
                return photo, None
            suffix = "labels.png"
            labels = decode_labels(_pread(shard.file, shard.members.labels[row]))
            if labels.shape != photo.shape[:2]:
                raise ValueError(f"size {labels.shape} differs from the photo's {photo.shape[:2]}")
        except StorageError:
            raise
        except (ValueError, OSError, SyntaxError) as error:
            url = self.storage.url(self.manifest.shards[number].file)
            raise CorruptSampleError(
                f"{url}, member {self.key(sample_id)}.{suffix}: {error}. "
                "The shard is damaged: copy it again or prepare the shards again"
            ) from error
        return photo, labels

    def _number(self, sample_id: int) -> int:
        return bisect_right(self._starts, sample_id) - 1

    def _open_shard(self, number: int) -> _OpenShard:
        if number in self._damaged:  # Not read once more for each of its samples.
            raise ValueError(self._damaged[number])
        shard = self.manifest.shards[number]
        while len(self._open) >= self.max_open_shards:
            os.close(self._open.pop(next(iter(self._open))).file)
        try:
            file = self.storage.open(shard.file, size=shard.bytes, sha256=shard.sha256)
            try:
                index = index_shard(file, shard, image_format=self.manifest.image_format)
            except ValueError:
                os.close(file)
                raise
        except ValueError as error:
            self._damaged[number] = str(error)
            raise
        self._open[number] = _OpenShard(file, self._starts[number], index)
        return self._open[number]


def decode_jpeg(data: bytes, scratch: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decode a JPEG to uint8 (H, W, 3), RGB; if it fits in `scratch`, to (H, W, 4) there, RGBX.

    Raises:
        ValueError: not a JPEG, cut off, or of more than `MAX_PIXELS`.
    """
    # A damaged header may name any size, and the decoder would allocate it.
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    _check_pixels(width, height)
    photo: NDArray[np.uint8]
    if scratch is None or 4 * height * width > len(scratch):
        photo = simplejpeg.decode_jpeg(data, colorspace="RGB")
    else:
        photo = simplejpeg.decode_jpeg(data, colorspace="RGBX", buffer=scratch)
    return photo


def _decode_png(data: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            _check_pixels(image.width, image.height)
            if image.mode != "RGB":
                raise ValueError(f"a photo must be RGB, this one is {image.mode}")
            return np.array(image)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"a photo of {width}x{height} pixels is too large")


def _pread(file: int, member: NDArray[np.int64]) -> bytes:
    offset, size = member.tolist()
    data = os.pread(file, size, offset)
    if len(data) < size:
        raise ValueError(f"{len(data)} of {size} bytes at offset {offset}")
    return data
