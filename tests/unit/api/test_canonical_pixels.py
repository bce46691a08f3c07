"""The canonical forms, against a second way to write them."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neural_photo_editor.api.canonical_pixels import (
    difference_outside,
    mask_digest,
    mask_png,
    pixels_digest,
)
from neural_photo_editor.api.codec import DecodedPhoto, decode_mask

HEIGHT, WIDTH = 17, 19  # neither a multiple of eight


def _photo(
    *, alpha: bool = False, profile: bytes | None = None, rows: int = HEIGHT
) -> DecodedPhoto:
    rgba = np.random.default_rng(0).integers(0, 256, (rows, WIDTH, 4), dtype=np.uint8)
    return DecodedPhoto(rgba[..., :3].copy(), rgba[..., 3] if alpha else None, profile)


def _mask() -> np.ndarray:
    return np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.3


masks = arrays.arrays(np.bool_, (HEIGHT, WIDTH))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("profile", [None, b"profile"])
@pytest.mark.parametrize("rows", [HEIGHT, 1100])  # several bands
def test_pixels_are_digested_as_documented(alpha: bool, profile: bytes | None, rows: int) -> None:
    photo = _photo(alpha=alpha, profile=profile, rows=rows)
    mask = np.random.default_rng(1).random((rows, WIDTH)) < 0.3
    name = hashlib.sha256(profile).hexdigest() if profile else "-"
    whole = bytearray(f"npe-pixels-1 {WIDTH} {rows} {name}\n".encode())
    outside = bytearray(whole)
    for row in range(rows):
        for column in range(WIDTH):
            opacity = 255 if photo.alpha is None else int(photo.alpha[row, column])
            pixel = struct.pack("4B", *map(int, photo.rgb[row, column]), opacity)
            whole += pixel
            outside += bytes(4) if mask[row, column] else pixel
    assert pixels_digest(photo) == hashlib.sha256(whole).hexdigest()
    assert pixels_digest(photo, outside=mask) == hashlib.sha256(outside).hexdigest()


def test_an_opaque_alpha_is_none() -> None:
    photo = _photo()
    opaque = DecodedPhoto(photo.rgb, np.full(photo.size, 255, np.uint8), None)
    assert pixels_digest(photo) == pixels_digest(opaque)


def test_another_profile_makes_other_pixels() -> None:
    assert pixels_digest(_photo()) != pixels_digest(_photo(profile=b"other"))


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="measures"):
        pixels_digest(_photo(), outside=np.zeros((WIDTH, HEIGHT), np.bool_))


@settings(deadline=None)
@given(
    row=st.integers(0, HEIGHT - 1),
    column=st.integers(0, WIDTH - 1),
    channel=st.integers(0, 3),
    amount=st.integers(1, 255),
)
def test_any_change_of_any_byte_shows_unless_it_is_masked(
    row: int, column: int, channel: int, amount: int
) -> None:
    photo, mask = _photo(alpha=True), _mask()
    rgb, alpha = photo.rgb.copy(), photo.alpha.copy()  # type: ignore[union-attr]
    target = alpha[row, column : column + 1] if channel == 3 else rgb[row, column, channel:][:1]
    before = int(target[0])
    target[0] = (before + amount) % 256
    changed = DecodedPhoto(rgb, alpha, None)
    masked = bool(mask[row, column])
    assert pixels_digest(changed) != pixels_digest(photo)
    same_outside = pixels_digest(changed, outside=mask) == pixels_digest(photo, outside=mask)
    assert same_outside == masked
    difference = difference_outside(photo, changed, mask)
    assert difference.max() == (0 if masked else abs(int(target[0]) - before))
    assert masked or difference[row, column] == difference.max()


@settings(deadline=None)
@given(mask=masks)
def test_masks_are_digested_as_documented(mask: np.ndarray) -> None:
    packed = bytearray(f"npe-mask-1 {WIDTH} {HEIGHT}\n".encode())
    for row in mask:
        bits = "".join("1" if pixel else "0" for pixel in row)
        bits += "0" * (-len(bits) % 8)
        packed += int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert mask_digest(mask) == hashlib.sha256(packed).hexdigest()


@settings(deadline=None)
@given(mask=masks.filter(lambda mask: bool(mask.any())))
def test_a_mask_png_is_read_as_the_mask(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_mask(mask_png(mask), size=(HEIGHT, WIDTH)), mask)
