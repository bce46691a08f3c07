"""Where the members of a tar lie: the headers of POSIX ustar, read by offset."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.data.shard_manifest import ImageFormat, ShardInfo

_BLOCK = 512
_ABSENT = (0, -1)


class ShardIndex(NamedTuple):
    """(offset, size) in bytes of each sample's members, int64 (N, 2); size -1: there is none."""

    photos: NDArray[np.int64]
    labels: NDArray[np.int64]


def index_shard(file: int, shard: ShardInfo, *, image_format: ImageFormat) -> ShardIndex:
    """Read a shard's headers and check them with the manifest.

    Args:
        file: descriptor of the tar.

    Raises:
        ValueError: not a tar, a damaged header, or other samples than the manifest lists.
    """
    members = scan_tar(file)
    keys = tuple(dict.fromkeys(name.split(".", 1)[0] for name in members))
    if keys != shard.keys:
        raise ValueError("it holds other samples than the manifest lists")
    photos = [members.get(f"{key}.{image_format}", _ABSENT) for key in keys]
    labels = [members.get(f"{key}.labels.png", _ABSENT) for key in keys]
    unlabeled = set(shard.unlabeled)
    for key, photo, label in zip(keys, photos, labels, strict=True):
        if photo is _ABSENT or (label is _ABSENT) != (key in unlabeled):
            raise ValueError(f"it lacks members of {key} that the manifest lists")
    return ShardIndex(np.array(photos, dtype=np.int64), np.array(labels, dtype=np.int64))


def scan_tar(file: int) -> dict[str, tuple[int, int]]:
    """Return name -> (offset, size) in bytes of a tar's members, in their order.

    Raises:
        ValueError: the tar is cut off, or a header is damaged or of anything but a plain file.
    """
    members: dict[str, tuple[int, int]] = {}
    offset = 0
    while True:
        header = os.pread(file, _BLOCK, offset)
        if len(header) < _BLOCK:
            raise ValueError(f"it is not a readable tar: it ends at byte {offset + len(header)}")
        if not any(header):  # The end is marked by blocks of zeros.
            return members
        name, size = _parse(header, offset)
        if name in members:
            raise ValueError(f"it holds the member {name} twice")
        members[name] = offset + _BLOCK, size
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _parse(header: bytes, offset: int) -> tuple[str, int]:
    """Return name and size of a member (POSIX.1-1988 ustar, interchange format)."""
    # The checksum counts its own eight bytes as spaces.
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if header[257:262] != b"ustar" or _octal(header[148:156]) != checksum:
        raise ValueError(f"it is not a readable tar: no valid header at byte {offset}")
    if header[156:157] not in (b"0", b"\0"):
        raise ValueError(f"the member at byte {offset} is not a plain file")
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    size = _octal(header[124:136])
    if size < 0:
        raise ValueError(f"it is not a readable tar: no size in the header at byte {offset}")
    return (prefix + b"/" + name if prefix else name).decode(errors="replace"), size


def _octal(field: bytes) -> int:
    """Return the number in a field; -1 where there is none."""
    try:
        return int(field.split(b"\0", 1)[0].decode("ascii").strip() or "0", 8)
    except ValueError:
        return -1
