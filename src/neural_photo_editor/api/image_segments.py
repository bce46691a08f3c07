"""Count what a JPEG or PNG file consists of, before Pillow spends time on each piece.

Pillow walks a header in Python, some microseconds a piece, and a file of 30 MB may have millions.
"""

import struct
from collections import Counter
from collections.abc import Iterator

from PIL.JpegImagePlugin import MARKER

_START_OF_SCAN = 0xFFDA
_JPEG_METADATA = {*range(0xFFE0, 0xFFF0), 0xFFFE}  # APP0 to APP15, and comments
_MAX_JPEG_METADATA = 256  # of 64 KB each; an ICC profile may take 255
_MAX_JPEG_OTHERS = 64  # tables, frame, padding: about 8 are usual
_MAX_RESOURCES = 10_000  # Photoshop's, in the metadata; about 30 are usual
_MAX_PNG_OTHERS = 256  # chunks beside the pixels'; about 10 are usual
_MAX_PNG_CHUNKS = 1 << 14  # of 8 KB each in most files


def has_too_many_segments(data: bytes) -> bool:
    """Tell whether a JPEG has more segments, or a PNG more chunks, than any photo needs."""
    if data.startswith(b"\xff\xd8"):
        return _is_crowded_jpeg(data)
    return data.startswith(b"\x89PNG") and _is_crowded_png(data)


def _is_crowded_jpeg(data: bytes) -> bool:
    seen: Counter[bool] = Counter()
    for marker in _jpeg_markers(data):
        seen[marker in _JPEG_METADATA] += 1
        if seen[True] > _MAX_JPEG_METADATA or seen[False] > _MAX_JPEG_OTHERS:
            return True
    return data.count(b"8BIM") > _MAX_RESOURCES


def _jpeg_markers(data: bytes) -> Iterator[int]:
    """Yield what Pillow looks at before the first scan: markers, and bytes between them."""
    offset = 2
    while offset + 4 <= len(data):
        marker, size = struct.unpack_from(">HH", data, offset)
        yield marker
        if marker == _START_OF_SCAN:
            return
        if marker in MARKER and MARKER[marker][2] is not None:
            offset += 2 + max(2, size)
        elif marker in MARKER or marker == 0xFF00:
            offset += 2
        else:
            offset += 1


def _is_crowded_png(data: bytes) -> bool:
    offset, chunks, others = len(b"\x89PNG\r\n\x1a\n"), 0, 0
    while offset + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"IEND":
            break
        chunks += 1
        others += kind != b"IDAT"
        if chunks > _MAX_PNG_CHUNKS or others > _MAX_PNG_OTHERS:
            return True
        offset += 12 + size  # with its size, kind and checksum
    return False
