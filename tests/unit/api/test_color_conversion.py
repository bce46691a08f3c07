"""The rules by which pixels become 8-bit sRGB, against formulas and Pillow's own conversions."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from neural_photo_editor.api.codec import DecodedPhoto, decode_photo
from tests.unit.api import icc_profiles
from tests.unit.api.icc_profiles import ADOBE_RGB, SRGB


def _pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (24, 32, *shape), dtype=np.uint8)


def _decode(image: Image.Image, file_format: str = "PNG", **options: object) -> DecodedPhoto:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return decode_photo(buffer.getvalue(), to_srgb=True)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_rgb_profile_is_applied_and_gone(file_format: str) -> None:
    pixels = _pixels(3)
    profile = icc_profiles.rgb_profile(ADOBE_RGB, gamma=2.2)
    options = {"lossless": True} if file_format == "WEBP" else {}
    photo = _decode(Image.fromarray(pixels), file_format, icc_profile=profile, **options)
    expected = icc_profiles.srgb_of(pixels, ADOBE_RGB, gamma=2.2)
    assert np.abs(expected - pixels).max() > 20
    np.testing.assert_allclose(photo.rgb, expected, atol=2)
    assert photo.icc_profile is None


def test_jpeg_profile_orientation_and_alpha_go_together() -> None:
    profile = icc_profiles.rgb_profile(SRGB, gamma=1.0)
    exif = Image.Exif()
    exif[0x0112] = 6
    color = (40, 90, 160)
    photo = _decode(Image.new("RGB", (32, 24), color), "JPEG", icc_profile=profile, exif=exif)
    assert photo.size == (32, 24)
    expected = icc_profiles.encode_srgb(np.array(color) / 255)
    np.testing.assert_allclose(photo.rgb[16, 12], expected, atol=3)

    rgba = _pixels(4)
    photo = _decode(Image.fromarray(rgba), icc_profile=profile, exif=exif)
    np.testing.assert_array_equal(photo.alpha, np.rot90(rgba[..., 3], -1))
    expected = icc_profiles.encode_srgb(np.rot90(rgba[..., :3], -1) / 255)
    np.testing.assert_allclose(photo.rgb, expected, atol=2)


def test_the_srgb_profile_changes_nothing_to_speak_of() -> None:
    pixels = _pixels(3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = _decode(Image.fromarray(pixels), icc_profile=profile)
    np.testing.assert_allclose(photo.rgb, pixels.astype(int), atol=1)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1"])
def test_a_gray_profile_is_applied_to_gray_pixels(mode: str) -> None:
    gray = _pixels()
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 256 + 77)
    elif mode == "LA":
        image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(gray[::-1])])
    elif mode == "1":
        gray = np.where(gray > 127, 255, 0).astype(np.uint8)
        image = Image.fromarray(gray).convert("1")
    else:
        image = Image.fromarray(gray)
    photo = _decode(image, icc_profile=icc_profiles.gray_profile(gamma=1.8))
    expected = icc_profiles.encode_srgb((np.dstack([gray] * 3) / 255) ** 1.8)
    np.testing.assert_allclose(photo.rgb, expected, atol=2)
    assert (photo.alpha is not None) == (mode == "LA")


def test_a_cmyk_profile_is_applied_to_cmyk_pixels() -> None:
    profile = icc_profiles.cmyk_profile(50.0)
    paper, ink = Image.new("CMYK", (32, 32)), Image.new("CMYK", (32, 32), (0, 255, 0, 0))
    np.testing.assert_allclose(_decode(paper, "JPEG", icc_profile=profile).rgb, 255, atol=1)
    rgb = _decode(ink, "JPEG", icc_profile=profile).rgb
    # A gray of CIE lightness 50, where plain conversion gives magenta.
    luminance = np.array(((50 + 16) / 116) ** 3)
    np.testing.assert_allclose(rgb, icc_profiles.encode_srgb(luminance), atol=2)


def test_cmyk_without_a_profile_is_converted_plainly() -> None:
    rgb = _decode(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), "JPEG").rgb
    np.testing.assert_allclose(rgb, np.broadcast_to([0, 255, 255], rgb.shape), atol=3)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        icc_profiles.rgb_profile(ADOBE_RGB, gamma=2.2)[:200],
        b"\0" * 16 + b"RGB " + b"\0" * 16 + b"acsp" + b"\xff" * 300,
        icc_profiles.gray_profile(gamma=1.0),
        icc_profiles.cmyk_profile(50.0),
    ],
    ids=["rubbish", "cut off", "header only", "gray", "CMYK"],
)
def test_a_profile_that_is_damaged_or_of_other_pixels_is_ignored(profile: bytes) -> None:
    pixels = _pixels(3)
    photo = _decode(Image.fromarray(pixels), icc_profile=profile)
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.icc_profile is None


def test_without_to_srgb_pixels_and_profile_stay() -> None:
    pixels = _pixels(3)
    profile = icc_profiles.rgb_profile(ADOBE_RGB, gamma=2.2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", icc_profile=profile)
    photo = decode_photo(buffer.getvalue())
    np.testing.assert_array_equal(photo.rgb, pixels)
    assert photo.icc_profile == profile


def test_a_palette_is_looked_up_before_its_profile_is_applied() -> None:
    palette = Image.fromarray(_pixels(3)).quantize(16)
    profile = icc_profiles.rgb_profile(SRGB, gamma=1.0)
    photo = _decode(palette, icc_profile=profile)
    expected = icc_profiles.encode_srgb(np.asarray(palette.convert("RGB")) / 255)
    np.testing.assert_allclose(photo.rgb, expected, atol=2)


def test_one_transparent_level_of_sixteen_bit_gray_becomes_alpha() -> None:
    gray = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80
    photo = _decode(Image.fromarray(gray), transparency=800)
    np.testing.assert_array_equal(photo.alpha, np.where(gray == 800, 0, 255))
    np.testing.assert_array_equal(photo.rgb, np.dstack([(gray // 256).astype(np.uint8)] * 3))


def test_colors_under_transparency_are_left_as_they_are() -> None:
    rgba = _pixels(4)
    rgba[..., 3] = 0
    photo = _decode(Image.fromarray(rgba))
    np.testing.assert_array_equal(photo.rgb, rgba[..., :3])
