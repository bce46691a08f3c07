"""Checking a file's header says what opening it would say, without decoding a pixel."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits, check_image_header, open_image

PHOTO = np.full((40, 60, 3), 7, dtype=np.uint8)


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_good_files_have_their_size(format: str) -> None:
    assert check_image_header(saved(format), field="photo") == (60, 40)


def jpeg_with(inserted: bytes) -> bytes:
    whole = saved("JPEG")
    return whole[:2] + inserted + whole[2:]


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">HH", marker, len(data) + 2) + data


def png_with(inserted: bytes, at: int = 33) -> bytes:
    """Insert behind a PNG's first chunk, or elsewhere."""
    whole = saved("PNG")
    return whole[:at] + inserted + whole[at:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


RESOURCES = b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000
CROWDED = {
    "empty APP2": jpeg_with(segment(0xFFE2, b"") * 300),
    "comments": jpeg_with(segment(0xFFFE, b"x") * 300),
    "quantization tables": jpeg_with(segment(0xFFDB, bytes([0, *[1] * 64])) * 70),
    "padding": jpeg_with(b"\xff" * 100),
    "junk": jpeg_with(segment(0xFFFE, b"x") + b"\0" * 100),
    "escaped junk": jpeg_with(b"\xff\0" * 100),
    "markers without data": jpeg_with(b"\xff\xf0" * 100),
    "Photoshop's resources": jpeg_with(segment(0xFFED, RESOURCES) * 3),
    "unknown chunks": png_with(chunk(b"teSt") * 300),
    "unknown chunks at the end": png_with(chunk(b"teSt") * 300, at=-12),
    "empty pixel chunks": png_with(chunk(b"IDAT") * 2**14),
}


@pytest.mark.parametrize("name", CROWDED)
def test_files_of_very_many_pieces_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="too many segments") as refusal:
        check_image_header(CROWDED[name], field="photo")
    assert refusal.value.status == 422


GENEROUS = {
    "a profile in 255 segments": jpeg_with(segment(0xFFE2, b"ICC_PROFILE\0" + b"x" * 99) * 255),
    "a little padding": jpeg_with(b"\xff" * 9),
    "zeros behind the end": saved("PNG") + bytes(9000),
    "many pixel chunks": png_with(chunk(b"IDAT") * 8000, at=-12),
}


@pytest.mark.parametrize("name", GENEROUS)
def test_files_of_many_pieces_are_opened(name: str) -> None:
    assert check_image_header(GENEROUS[name], field="photo") == (60, 40)
    with open_image(GENEROUS[name], field="photo") as image:
        assert image.size == (60, 40)


BAD = {
    "other type": b"GIF89a" * 9,
    "damaged head": saved("PNG")[:20],
    "too small": encode_png(PHOTO[:10]),
    "too large": encode_png(np.zeros((6001, 6000), np.uint8)),
    "animated": saved(
        "WEBP", save_all=True, append_images=[Image.fromarray(PHOTO + 200)], duration=10
    ),
    "bytes": saved("PNG") + b"\0" * (31 * 2**20),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_as_on_opening(name: str) -> None:
    with pytest.raises(RequestError) as early:
        check_image_header(BAD[name], field="mask")
    with pytest.raises(RequestError) as late, open_image(BAD[name], field="mask"):
        pass
    assert early.value.to_problem() == late.value.to_problem()
    assert early.value.field == "mask"


def test_pixels_are_not_decoded() -> None:
    whole = saved("PNG", compress_level=0)
    cut = whole[: len(whole) // 2]
    assert check_image_header(cut, field="photo") == (60, 40)
    with pytest.raises(RequestError), open_image(cut, field="photo"):
        pass


def test_limits_are_the_callers() -> None:
    limits = ImageLimits(max_pixels=60 * 40)
    assert check_image_header(saved("PNG"), field="photo", limits=limits) == (60, 40)
    with pytest.raises(RequestError, match="60 x 40"):
        check_image_header(saved("PNG"), field="photo", limits=ImageLimits(max_pixels=2399))
