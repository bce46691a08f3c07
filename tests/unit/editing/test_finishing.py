"""From an edited square to the photo: where its detail and colors come from, and how it fits in."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, encode_png
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.face_finding import Alignment
from neural_photo_editor.editing.finishing import finish_edit
from neural_photo_editor.editing.preparation import PreparedEdit, prepare_edit
from tests.unit.editing.tiny_pipeline import mask_png

SIDE, RESOLUTION = 256, 64
MASK = np.zeros((SIDE, SIDE), dtype=bool)
MASK[64:192, 48:208] = True


def _photo() -> np.ndarray:
    """Gray with fine vertical stripes, too fine for the model."""
    gray = 120 + 30 * (np.arange(SIDE) % 2)
    return np.repeat(np.broadcast_to(gray, (SIDE, SIDE))[..., None], 3, axis=2).astype(np.uint8)


def _prepare(photo: np.ndarray, **fields: Any) -> PreparedEdit:
    request = EditRequest(photo=encode_png(photo), mask=mask_png(MASK), seed=0, **fields)
    return prepare_edit(
        request,
        DecodedPhoto(rgb=photo, alpha=None, icc_profile=None),
        faces=[],
        segment=lambda square: np.zeros((square.height, square.width), dtype=np.uint8),
        alignment=Alignment(),
        schedule=NoiseSchedule.linear(),
        defaults=ServingDefaults(feather_px=2),
        limits=ImageLimits(),
        resolution=RESOLUTION,
    )


def _stripes(photo: np.ndarray, rows: slice, columns: slice) -> float:
    part = photo[rows, columns].astype(float)
    return float(np.abs(np.diff(part, axis=1)).mean())


def test_mixed_detail_is_the_photos_but_where_structure_is_new() -> None:
    photo = _photo()
    edit = _prepare(photo, detail="mixed", blend="feather")
    square = edit.x_0.clone()
    square[..., :, 36:48] += 0.1  # Right: another color ...
    blobs = torch.rand(1, 1, 32, 10, generator=torch.Generator().manual_seed(0))
    square[..., 16:48, 14:24] += 0.9 * (blobs - 0.5)  # ... left: things that were not there.
    result = finish_edit(photo, edit, square=square, enlarged=square)
    np.testing.assert_array_equal(result[~MASK], photo[~MASK])
    assert _stripes(result, slice(100, 150), slice(160, 180)) > 25
    assert _stripes(result, slice(100, 150), slice(64, 88)) < 18
    drawn = finish_edit(photo, replace(edit, detail="model"), square=square, enlarged=square)
    assert _stripes(drawn, slice(100, 150), slice(160, 180)) < 5


@pytest.mark.parametrize("detail", ["photo", "mixed"])
def test_a_square_without_a_change_gives_the_photo(detail: Any) -> None:
    photo = _photo()
    edit = _prepare(photo, detail=detail, blend="feather")
    result = finish_edit(photo, edit, square=edit.u_0, enlarged=edit.u_0)
    np.testing.assert_array_equal(result, photo)


def test_gradient_blending_leaves_no_seam_where_feathering_does() -> None:
    photo = np.full((SIDE, SIDE, 3), 150, dtype=np.uint8)

    def step_at_the_border(blend: Any) -> float:
        edit = _prepare(photo, blend=blend, color="#969696")
        darker = edit.x_0 - 0.3  # A cast of 38 gray levels.
        result = finish_edit(photo, edit, square=darker, enlarged=darker).astype(float)
        return float(np.abs(result[70:186, 55] - photo[70:186, 55]).mean())

    assert step_at_the_border("gradient") < 2
    assert step_at_the_border("feather") > 30


def test_fills_are_rid_of_a_cast_of_color_and_paint_is_not() -> None:
    photo = np.random.default_rng(0).integers(90, 170, (SIDE, SIDE, 3)).astype(np.uint8)

    def mean_change(**fields: Any) -> float:
        edit = _prepare(photo, blend="feather", detail="model", **fields)
        darker = edit.x_0 - 0.2  # A cast of 26 gray levels.
        result = finish_edit(photo, edit, square=darker, enlarged=darker).astype(float)
        return float(np.abs((result - photo)[MASK].mean()))

    assert mean_change() < 2
    assert mean_change(color="#808080") > 20


def test_photo_and_edit_share_no_memory() -> None:
    photo = _photo()
    before = photo.copy()
    edit = _prepare(photo, color="#ff0000", detail="photo")
    result = finish_edit(photo, edit, square=edit.x_0, enlarged=None)
    result[:] = 0
    np.testing.assert_array_equal(photo, before)


@st.composite
def _maps(draw: st.DrawFn) -> np.ndarray:
    """Gray images with black parts: rectangles in a ramp or in white, and single pixels."""
    if draw(st.booleans()):
        gray = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    else:
        gray = np.broadcast_to(np.arange(SIDE, dtype=np.uint8), (SIDE, SIDE)).copy()
    for _ in range(draw(st.integers(1, 3))):
        top, left = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
        height, width = draw(st.sampled_from([1, 40, SIDE])), draw(st.sampled_from([1, 40, SIDE]))
        gray[top : top + height, left : left + width] = 0
    return gray


@settings(max_examples=20, deadline=None)
@given(
    gray=_maps(),
    detail=st.sampled_from(["photo", "model", "mixed"]),
    blend=st.sampled_from(["feather", "gradient"]),
    paint=st.booleans(),
)
def test_what_is_black_in_a_strength_map_stays_as_painted(
    gray: np.ndarray, detail: Any, blend: Any, paint: bool
) -> None:
    photo = _photo()
    painted = photo.copy()
    fields = {}
    if paint:
        painted[MASK] = (200, 40, 90)
        fields["strokes"] = encode_png(painted, alpha=MASK.astype(np.uint8) * np.uint8(255))
    edit = _prepare(
        photo, detail=detail, blend=blend, strength_map=encode_png(gray), strength=0.9, **fields
    )
    square = 2.0 * torch.rand(edit.u_0.shape, generator=torch.Generator().manual_seed(0)) - 1.0
    result = finish_edit(photo, edit, square=square, enlarged=square)
    black = (gray == 0) & MASK
    np.testing.assert_array_equal(result[black], painted[black])
    np.testing.assert_array_equal(result[~MASK], photo[~MASK])
    others = MASK & (gray > 0)
    if others.sum() > 2000:
        assert (result[others] != painted[others]).any()


@pytest.mark.parametrize("blend", ["feather", "gradient"])
@pytest.mark.parametrize("detail", ["photo", "model"])
def test_an_edit_meets_what_a_strength_map_keeps_without_a_step(detail: Any, blend: Any) -> None:
    photo = np.full((SIDE, SIDE, 3), 150, dtype=np.uint8)
    gray = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    gray[:, :128] = 0
    fields = {"color": "#969696", "strength_map": encode_png(gray)}
    edit = _prepare(photo, detail=detail, blend=blend, **fields)
    darker = edit.x_0 - 0.3  # A cast of 38 gray levels.
    result = finish_edit(photo, edit, square=darker, enlarged=darker).astype(float)
    steps = np.abs(np.diff(result[100:150, 120:160], axis=1))
    assert steps.max() < 8
    if blend == "feather":  # Which reaches its color, and gradients the photo's.
        assert result[120, 150] == pytest.approx(112, abs=2)
