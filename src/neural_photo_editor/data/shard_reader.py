"""Random access to the samples of plain WebDataset tars: an index of offsets, then ``pread``."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.data.label_map import decode_labels
from neural_photo_editor.data.shard_manifest import ShardInfo, ShardManifest, check_size

_ABSENT = (-1, -1)


class CorruptSampleError(RuntimeError):
    """A sample's bytes cannot be used. The message names shard, member and remedy."""


class ShardReader:
    """Reads photos and label maps by sample id, the sample's position in the manifest's order.

    The constructor reads the headers of every tar once. Files are opened at first use in each
    process, so a reader may be pickled or forked into loader workers.

    Raises:
        ValueError: the manifest is not valid, or a shard is missing, has another size or other
            samples than the manifest lists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = ShardManifest.load(folder)
        self._keys = [key for shard in self.manifest.shards for key in shard.keys]
        self._splits = [shard.split for shard in self.manifest.shards for _ in shard.keys]
        self._shard_of = np.repeat(
            np.arange(len(self.manifest.shards)),
            [len(shard.keys) for shard in self.manifest.shards],
        )
        photos: list[tuple[int, int]] = []
        labels: list[tuple[int, int]] = []
        for shard in self.manifest.shards:
            members = _scan(folder / shard.file, shard)
            for key in shard.keys:
                photos.append(members[f"{key}.{self.manifest.image_format}"])
                labels.append(members.get(f"{key}.labels.png", _ABSENT))
        # (offset, size) of each member. Arrays, not objects: forked workers then share the pages.
        self._photos = np.array(photos, dtype=np.int64)
        self._labels = np.array(labels, dtype=np.int64)
        self._files: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    def __len__(self) -> int:
        return len(self._keys)

    def sample_ids(self, split: str) -> NDArray[np.int64]:
        """Return the ids of a split's samples, int64, ascending."""
        return np.flatnonzero(np.array(self._splits) == split)

    def key(self, sample_id: int) -> str:
        return self._keys[sample_id]

    def has_labels(self, sample_id: int) -> bool:
        return bool(self._labels[sample_id, 1] >= 0)

    def read(self, sample_id: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return a photo, uint8 (H, W, 3), and its label map, uint8 (H, W) in 0..10, or None.

        Raises:
            CorruptSampleError: the bytes are cut off or do not decode.
        """
        suffix: str = self.manifest.image_format
        try:
            data = self._pread(sample_id, self._photos)
            photo = decode_jpeg(data) if suffix == "jpg" else _decode_png(data)
            if not self.has_labels(sample_id):
                return photo, None
            suffix = "labels.png"
            labels = decode_labels(self._pread(sample_id, self._labels))
            if labels.shape != photo.shape[:2]:
                raise ValueError(f"size {labels.shape} differs from the photo's {photo.shape[:2]}")
        except (ValueError, OSError, SyntaxError) as error:
            shard = self.folder / self.manifest.shards[self._shard_of[sample_id]].file
            raise CorruptSampleError(
                f"{shard}, member {self.key(sample_id)}.{suffix}: {error}. "
                "The shard is damaged: copy it again or prepare the shards again"
            ) from error
        return photo, labels

    def _pread(self, sample_id: int, members: NDArray[np.int64]) -> bytes:
        number = int(self._shard_of[sample_id])
        if number not in self._files:
            path = self.folder / self.manifest.shards[number].file
            self._files[number] = os.open(path, os.O_RDONLY)
        offset, size = members[sample_id].tolist()
        data = os.pread(self._files[number], size, offset)
        if len(data) < size:
            raise ValueError(f"{len(data)} of {size} bytes at offset {offset}")
        return data


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG to uint8 (H, W, 3), RGB.

    Raises:
        ValueError: not a JPEG, or cut off.
    """
    photo: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    return photo


def _decode_png(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.mode != "RGB":
            raise ValueError(f"a photo must be RGB, this one is {image.mode}")
        return np.array(image)


def _scan(path: Path, shard: ShardInfo) -> dict[str, tuple[int, int]]:
    """Return name -> (offset, size) of a tar's members after checking them with the manifest."""
    check_size(path, shard)
    try:
        with tarfile.open(path, "r:") as tar:
            members = {member.name: (member.offset_data, member.size) for member in tar}
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not a readable tar ({error}): copy it again") from error
    keys = tuple(dict.fromkeys(name.split(".", 1)[0] for name in members))
    if keys != shard.keys:
        raise ValueError(f"{path} holds other samples than the manifest lists: copy it again")
    return members
