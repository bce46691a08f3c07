"""Untrusted images: what is accepted comes out right, everything else is a RequestError."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from neural_photo_editor.api import color_conversion
from neural_photo_editor.api.codec import (
    ImageLimits,
    decode_mask,
    decode_photo,
    decode_strokes,
    encode_png,
    luma,
)
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import open_image
from tests.unit.api import icc_profiles


def picture(height: int = 24, width: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header_only(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )


def refusal(data: bytes, **options: ImageLimits) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode_photo(data, **options)
    assert caught.value.field == "photo"
    assert caught.value.remedy
    return caught.value


def test_png_pixels_alpha_and_profile_survive_a_round_trip() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgba = picture(channels=4)
    data = encode_png(rgba[..., :3], alpha=rgba[..., 3], icc_profile=profile)
    photo = decode_photo(data)
    np.testing.assert_array_equal(photo.rgb, rgba[..., :3])
    np.testing.assert_array_equal(photo.alpha, rgba[..., 3])
    assert photo.icc_profile == profile
    assert photo.size == (24, 32)
    assert data == encode_png(rgba[..., :3], alpha=rgba[..., 3], icc_profile=profile)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_of_several_strips_are_turned_whole(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(color_conversion, "_STRIP_PIXELS", 5 * 32)
    rgba = picture(channels=4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(Image.fromarray(rgba), exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    photo = decode_photo(data)
    np.testing.assert_array_equal(photo.rgb, expected[..., :3])
    np.testing.assert_array_equal(photo.alpha, expected[..., 3])
    np.testing.assert_array_equal(decode_strokes(data, size=expected.shape[:2]), expected)
    mask = decode_mask(data, size=expected.shape[:2])
    np.testing.assert_array_equal(mask, (luma(expected[..., :3]) > 127) & (expected[..., 3] > 127))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_exif_block_counts_as_none(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", 6
    block = exif.tobytes()
    for damaged in (
        b"Exif\0\0rubbish",
        block[:20],  # ends within the first entry
        block[:-3],  # the description ends early
        block.replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"),  # the orientation is a text
    ):
        photo = decode_photo(save(Image.fromarray(picture()), file_format, exif=damaged))
        assert photo.size == (24, 32)
    whole = decode_photo(save(Image.fromarray(picture()), file_format, exif=block))
    assert whole.size == (32, 24)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_applied_as_pillow_does(orientation: int, file_format: str) -> None:
    image = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "PNG": {}}[file_format]
    data = save(image, file_format, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    np.testing.assert_array_equal(decode_photo(data).rgb, expected)


def test_gray_palette_and_sixteen_bit_files_become_rgb() -> None:
    gray = picture(channels=1)[..., 0]
    np.testing.assert_array_equal(
        decode_photo(save(Image.fromarray(gray))).rgb, np.dstack([gray] * 3)
    )
    palette = Image.fromarray(picture()).quantize(16)
    np.testing.assert_array_equal(
        decode_photo(save(palette)).rgb, np.asarray(palette.convert("RGB"))
    )
    deep = np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32)
    photo = decode_photo(save(Image.fromarray(deep)))
    np.testing.assert_array_equal(photo.rgb, np.dstack([(deep // 256).astype(np.uint8)] * 3))


def test_a_transparent_palette_color_becomes_alpha() -> None:
    indices = np.zeros((20, 20), dtype=np.uint8)
    indices[5:10] = 1
    image = Image.frombytes("P", (20, 20), indices.tobytes())
    image.putpalette([10, 20, 30, 200, 100, 50])
    photo = decode_photo(save(image, transparency=1))
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha, np.where(indices == 1, 0, 255))
    assert photo.rgb[6, 0].tolist() == [200, 100, 50]


def test_cmyk_is_converted_and_its_profile_dropped() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    profile = b"\0" * 16 + b"CMYK" + b"\0" * 16 + b"acsp" + b"\0" * 88
    photo = decode_photo(save(image, "JPEG", icc_profile=profile))
    assert photo.icc_profile is None
    assert np.abs(photo.rgb.astype(int) - [255, 0, 0]).max() <= 4


def test_limits_on_bytes_and_pixels_come_before_decoding() -> None:
    assert refusal(save(Image.fromarray(picture())), limits=ImageLimits(max_bytes=64)).status == 413
    for width, height in [(6001, 6000), (20000, 20000), (2**31 - 1, 2**31 - 1), (100_000, 16)]:
        assert refusal(png_header_only(width, height)).status == 413
    assert refusal(png_header_only(4, 400)).status == 422


def test_the_largest_allowed_size_is_allowed() -> None:
    limits = ImageLimits(max_pixels=32 * 24, max_side=32, min_side=24)
    assert decode_photo(save(Image.fromarray(picture())), limits=limits).size == (24, 32)
    assert refusal(save(Image.fromarray(picture(25, 32))), limits=limits).status == 413


def test_only_the_three_formats_are_read() -> None:
    image = Image.fromarray(picture())
    for data in (
        save(image, "GIF"),
        save(image, "BMP"),
        save(image, "TIFF"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"",
        b"RIFF\0\0\0\0WAVE",
    ):
        assert refusal(data).status == 415


def test_damaged_files_are_refused() -> None:
    image = Image.fromarray(picture(200, 200))
    for file_format in ("PNG", "JPEG", "WEBP"):
        data = save(image, file_format)
        assert refusal(data[: len(data) // 2]).status == 422
    assert refusal(png_header_only(64, 64)).status == 422


def test_packed_text_and_profiles_in_a_png_are_bounded() -> None:
    plain = save(Image.fromarray(picture()))
    packed = zlib.compress(b"a" * 8_000_000)
    for chunk in (
        png_chunk(b"zTXt", b"Comment\0\0" + packed),
        png_chunk(b"iCCP", b"icc\0\0" + packed),
        b"".join(
            png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 900_000)) for _ in range(3)
        ),
    ):
        assert refusal(plain[:33] + chunk + plain[33:]).status == 422


def test_animations_and_jpegs_of_endless_scans_are_refused() -> None:
    frames = [Image.fromarray(picture()), Image.fromarray(picture()[::-1])]
    for file_format in ("PNG", "WEBP"):
        data = save(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert "animated" in refusal(data).detail
    jpeg = save(frames[0], "JPEG")
    assert "scans" in refusal(jpeg[:-2] + b"\xff\xda\0\0" * 200 + jpeg[-2:]).detail


def test_the_reason_of_a_refusal_is_the_decoders_and_always_the_same() -> None:
    noise = save(Image.fromarray(picture(200, 200)), "JPEG")
    assert "truncated" in refusal(noise[:-4000]).detail
    assert "first bytes are damaged" in refusal(b"\xff\xd8\xff" + b"nothing follows").detail
    # An address would differ from run to run.
    with (
        pytest.raises(RequestError, match=r"decoded \(RuntimeError\)"),
        open_image(noise, field="photo"),
    ):
        raise RuntimeError(repr(object()))


def test_the_first_picture_of_a_phones_file_is_the_photo() -> None:
    first, second = Image.fromarray(picture()), Image.fromarray(picture()[::-1])
    data = save(first, "MPO", save_all=True, append_images=[second])
    with Image.open(io.BytesIO(data)) as stored:
        assert (stored.format, stored.n_frames) == ("MPO", 2)
        expected = np.asarray(stored)
    np.testing.assert_array_equal(decode_photo(data).rgb, expected)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    to_srgb=st.booleans(),
)
def test_nothing_but_request_errors_comes_out_of_corrupted_files(
    kind: str, edits: list[tuple[float, int]], to_srgb: bool
) -> None:
    profile = icc_profiles.rgb_profile(icc_profiles.ADOBE_RGB, gamma=2.2)
    data = bytearray(save(Image.fromarray(picture()), kind, icc_profile=profile))
    for position, value in edits:
        data[int(position * (len(data) - 1))] = value
    with contextlib.suppress(RequestError):
        photo = decode_photo(bytes(data), to_srgb=to_srgb)
        assert photo.rgb.dtype == np.uint8
        assert photo.rgb.shape[2] == 3


def test_mask_threshold_alpha_and_polarity() -> None:
    levels = np.tile(np.array([0, 127, 128, 255], dtype=np.uint8), (16, 8))
    mask = decode_mask(encode_png(levels), size=(16, 32))
    np.testing.assert_array_equal(mask, levels > 127)
    white = np.full((16, 32, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(
        decode_mask(encode_png(white, alpha=levels), size=(16, 32)), levels > 127
    )
    color = picture()
    expected = np.asarray(Image.fromarray(color).convert("L")) > 127
    np.testing.assert_array_equal(decode_mask(encode_png(color), size=(24, 32)), expected)


def test_masks_that_do_not_fit_or_are_empty_are_refused() -> None:
    mask = np.full((16, 32), 255, dtype=np.uint8)
    with pytest.raises(RequestError, match=r"32 x 16 .* 16 x 32") as caught:
        decode_mask(encode_png(mask), size=(32, 16))
    assert (caught.value.status, caught.value.field) == (422, "mask")
    with pytest.raises(RequestError, match="empty"):
        decode_mask(encode_png(mask // 2), size=(16, 32))


def test_strokes_need_transparency_and_paint() -> None:
    rgba = picture(channels=4)
    data = encode_png(rgba[..., :3], alpha=rgba[..., 3])
    np.testing.assert_array_equal(decode_strokes(data, size=(24, 32)), rgba)
    with pytest.raises(RequestError, match="no transparency"):
        decode_strokes(encode_png(rgba[..., :3]), size=(24, 32))
    clear = np.zeros((24, 32), dtype=np.uint8)
    with pytest.raises(RequestError, match="empty"):
        decode_strokes(encode_png(rgba[..., :3], alpha=clear), size=(24, 32))
