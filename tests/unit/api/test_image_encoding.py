"""Files as they are written: exact where promised, read by Pillow, and nothing private in them."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api import image_encoding
from neural_photo_editor.api.codec import EXACT_FORMATS, ImageFormat, decode_photo
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_encoding import check_format, encode_image, encode_png
from neural_photo_editor.api.image_opening import ImageLimits
from tests.unit.api import icc_profiles

FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")


def _picture(height: int = 40, width: int = 56) -> NDArray[np.uint8]:
    """Smooth shades with a little noise."""
    y, x = np.mgrid[:height, :width]
    shades = np.dstack([y * 4, x * 3, 200 - y - x]) + np.random.default_rng(0).normal(0, 3)
    return shades.clip(0, 255).astype(np.uint8)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        data = png[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", png[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind + data)
        chunks.append((kind, data))
        position += 12 + length
    return chunks


@settings(deadline=None, max_examples=60)
@given(
    pixels=arrays.arrays(
        np.uint8,
        st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(4)),
        elements=st.integers(0, 255),
        fill=st.integers(0, 255),
    ),
    with_alpha=st.booleans(),
    file_format=st.sampled_from(EXACT_FORMATS),
)
def test_png_and_webp_keep_every_byte_also_under_transparency(
    pixels: NDArray[np.uint8], with_alpha: bool, file_format: ImageFormat
) -> None:
    rgb, alpha = pixels[..., :3], pixels[..., 3] if with_alpha else None
    photo = decode_photo(encode_image(rgb, format=file_format, alpha=alpha))
    np.testing.assert_array_equal(photo.rgb, rgb)
    assert photo.format == file_format
    if photo.alpha is None:  # WebP stores no alpha that is 255 everywhere.
        assert alpha is None or alpha.min() == 255
    else:
        np.testing.assert_array_equal(photo.alpha, alpha)


@pytest.mark.parametrize("band_bytes", [1, 1000, 2**18])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_is_whole_whatever_its_bands(
    band_bytes: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_encoding, "_FILTER_BAND", band_bytes)
    pixels = np.random.default_rng(1).integers(0, 256, (30, 70, channels), dtype=np.uint8)
    alpha = pixels[..., 3] if channels == 4 else None
    data = encode_png(pixels[..., 0] if channels == 1 else pixels[..., :3], alpha=alpha)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        np.testing.assert_array_equal(np.asarray(image), pixels.squeeze())
    assert data == encode_png(pixels[..., 0] if channels == 1 else pixels[..., :3], alpha=alpha)
    assert {kind for kind, _ in _chunks(data)} == {b"IHDR", b"IDAT", b"IEND"}


def test_views_that_are_not_contiguous_are_encoded_as_they_look() -> None:
    picture = _picture()
    for file_format in EXACT_FORMATS:
        photo = decode_photo(encode_image(picture[::-1, ::2], format=file_format))
        np.testing.assert_array_equal(photo.rgb, picture[::-1, ::2])


def test_pngs_of_labels_stay_small() -> None:
    labels = np.zeros((400, 600), dtype=np.uint8)
    labels[100:300, 200:400] = 10
    assert len(encode_png(labels)) < 4000
    assert len(encode_png(_picture(400, 600))) < 400 * 600


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_color_profile_is_kept_and_nothing_else(file_format: ImageFormat) -> None:
    profile = icc_profiles.rgb_profile(icc_profiles.ADOBE_RGB, gamma=2.2)
    data = encode_image(_picture(), format=file_format, icc_profile=profile)
    assert decode_photo(data).icc_profile == profile
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
        assert "xmp" not in image.info
    assert decode_photo(encode_image(_picture(), format=file_format)).icc_profile is None


def test_jpeg_is_close_and_keeps_color_at_full_resolution() -> None:
    picture = _picture()
    data = encode_image(picture, format="jpeg")
    photo = decode_photo(data)
    assert photo.format == "jpeg"
    error = np.square(photo.rgb.astype(float) - picture).mean()
    assert 10 * np.log10(255**2 / error) > 40
    # One pixel of color, which 4:2:0 would spread over four.
    red = np.full((16, 16, 3), 128, dtype=np.uint8)
    red[8, 8] = (200, 90, 90)
    decoded = decode_photo(encode_image(red, format="jpeg")).rgb.astype(int)
    assert decoded[8, 8, 0] - decoded[8, 8, 1] > 80
    assert abs(decoded[8, 9, 0] - decoded[8, 9, 1]) < 20


def test_a_format_that_cannot_hold_the_photo_is_refused() -> None:
    alpha = np.full((40, 56), 255, dtype=np.uint8)
    opaque = encode_image(_picture(), format="jpeg", alpha=alpha)
    assert opaque == encode_image(_picture(), format="jpeg")
    alpha[3, 4] = 254
    with pytest.raises(RequestError, match="transparent") as caught:
        encode_image(_picture(), format="jpeg", alpha=alpha)
    assert (caught.value.status, caught.value.field) == (422, "format")
    with pytest.raises(RequestError, match="16,383"):
        check_format("webp", size=(16, 16384), alpha=None)
    check_format("webp", size=(16, 16383), alpha=None)
    check_format("png", size=(16, 70000), alpha=alpha)


def test_sixteen_bits_a_channel_are_encoded_as_their_high_bytes() -> None:
    deep = np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32)
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    photo = decode_photo(buffer.getvalue())
    again = decode_photo(encode_image(photo.rgb, format=photo.format))
    np.testing.assert_array_equal(again.rgb, np.dstack([(deep >> 8).astype(np.uint8)] * 3))


@pytest.mark.slow
def test_the_largest_photo_of_webp_survives() -> None:
    wide = np.zeros((16, 16383, 3), dtype=np.uint8)
    wide[..., 0] = np.arange(16383) % 251
    data = encode_image(wide, format="webp")
    np.testing.assert_array_equal(decode_photo(data, limits=ImageLimits()).rgb, wide)
