"""Files that a server meets sooner or later: damaged, lying, enormous, unusual, or no images."""

import io
import pickle
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SIZE = (48, 40)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
_IMAGE = Image.fromarray(_PIXELS)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + b"".join(chunks) + _chunk(b"IEND", b"")


def _rows(width: int, height: int) -> bytes:
    return _chunk(b"IDAT", zlib.compress(bytes((width + 1) * height), 9))


def _with_sizes_of(jpeg: bytes, width: int, height: int) -> bytes:
    """Write another size into a JPEG's frame header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def _scans(jpeg: bytes, count: int) -> bytes:
    """Repeat a JPEG's scan, each of which costs a pass over the image."""
    at = jpeg.index(b"\xff\xda")
    return jpeg[:at] + jpeg[at:-2] * count + jpeg[-2:]


def hostile_images() -> Iterator[tuple[str, bytes, set[int]]]:
    """Yield a name, a file, and the statuses that it may get as a photo."""
    png, webp = saved(_IMAGE, "PNG"), saved(_IMAGE, "WEBP", lossless=True)
    jpeg = saved(_IMAGE, "JPEG", quality=90)
    rows = _rows(*SIZE)
    frames = [Image.fromarray(_PIXELS ^ number) for number in range(3)]

    yield from _accepted(png, jpeg)
    for name, data in {"png": png, "jpeg": jpeg, "webp": webp}.items():
        yield f"truncated {name}", data[: len(data) // 2], {422}
        yield f"only the start of a {name}", data[:14], {415, 422}
        noisy = bytearray(data)
        noisy[len(data) // 3 : len(data) // 3 + 40] = bytes(40)
        yield f"overwritten {name}", bytes(noisy), {200, 422}
    yield "claims 60000 x 60000", _png(60000, 60000, rows), {413}
    yield "claims 2**31 - 1 pixels wide", _png(2**31 - 1, 16, rows), {413, 422}
    yield "claims no pixels", _png(0, 0, rows), {422}
    yield "a jpeg that claims 65500 x 65500", _with_sizes_of(jpeg, 65500, 65500), {413}
    yield "20000 x 16", _png(20000, 16, _rows(20000, 16)), {413}
    yield "49 megapixels in 50 KB", _png(7000, 7000, _rows(7000, 7000)), {413}
    yield "one pixel", saved(_IMAGE.resize((1, 1)), "PNG"), {422}
    yield "fewer rows than claimed", _png(48, 40, _rows(48, 9)), {200, 422}
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield "text that unpacks to 50 MB", _png(*SIZE, bomb, rows), {422}
    yield (
        "a profile that unpacks to 50 MB",
        _png(*SIZE, _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000), 9)), rows),
        {200, 422},
    )
    yield "a wrong checksum", png[:30] + bytes([png[30] ^ 255]) + png[31:], {422}
    yield "an unknown critical chunk", _png(*SIZE, _chunk(b"EVIL", b"x"), rows), {200, 422}
    yield "500 scans", _scans(jpeg, 500), {422}
    yield (
        "an animated webp",
        saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        {422},
    )
    yield "an animated png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), {422}
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"):
        yield kind, saved(_IMAGE, kind), {415}
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', {415}
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {415}
    yield "a pickle", pickle.dumps([1]), {415}
    yield "zeros", bytes(4096), {415}


def _accepted(png: bytes, jpeg: bytes) -> Iterator[tuple[str, bytes, set[int]]]:
    wide = np.random.default_rng(1).integers(0, 2**16, SIZE[::-1], dtype=np.uint16)
    yield "16 bits", saved(Image.fromarray(wide), "PNG"), {200}
    yield "one bit", saved(_IMAGE.convert("1"), "PNG"), {200}
    yield "a palette with transparency", saved(_IMAGE.convert("P"), "PNG", transparency=3), {200}
    yield "gray with alpha", saved(_IMAGE.convert("LA"), "PNG"), {200}
    yield "CMYK", saved(_IMAGE.convert("CMYK"), "JPEG"), {200}
    yield "a profile that is none", saved(_IMAGE, "PNG", icc_profile=b"garbage" * 9), {200, 422}
    yield (
        "a profile that is none, in a jpeg",
        saved(_IMAGE, "JPEG", icc_profile=bytes(200)),
        {200, 422},
    )
    yield "EXIF that is none", saved(_IMAGE, "JPEG", exif=b"Exif\0\0MM\0*garbage!"), {200, 422}
    yield "data after the end", png + b"PK\x03\x04" + bytes(999), {200, 422}
    yield "data after a jpeg's end", jpeg + png, {200, 422}
