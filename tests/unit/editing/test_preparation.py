"""What a request becomes before the model sees it, and which requests are refused."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.face_finding import Alignment
from neural_photo_editor.editing.preparation import PreparedEdit, prepare_edit
from neural_photo_editor.editing.windows import rows_and_columns

SCHEDULE = NoiseSchedule.linear()
DEFAULTS = ServingDefaults(
    sampler="ddim",
    steps=50,
    strength=0.4,
    feather_px=3,
    max_pixels=4096 * 4096,
    max_bytes=20 * 2**20,
)
HEIGHT, WIDTH = 60, 40


def _photo() -> DecodedPhoto:
    rgb = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return DecodedPhoto(rgb=rgb, alpha=None, icc_profile=None)


def _labels() -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[5:20] = 1
    labels[20:40, 10:30] = 10
    return labels


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _mask_png(rows: slice = slice(30, 40)) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[rows, 10:25] = 255
    return _png(mask)


def _strokes_png(alpha: int = 255) -> bytes:
    strokes = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    strokes[32:36, 12:20] = (200, 30, 30, alpha)
    return _png(strokes)


def _prepare(**fields: Any) -> PreparedEdit:
    photo = _photo()
    request = EditRequest(photo=encode_png(photo.rgb), **fields)
    return prepare_edit(
        request,
        photo,
        faces=[],
        segment=lambda square: _labels()[rows_and_columns(square.box)],
        alignment=Alignment(),
        schedule=SCHEDULE,
        defaults=DEFAULTS,
        limits=ImageLimits(),
        resolution=WIDTH,
    )


def test_the_edge_of_regions_is_hardly_softened() -> None:
    assert _prepare(mask=_mask_png()).feather_px == 3
    assert _prepare(regions=("hair",)).feather_px == 1


def test_regions_become_the_mask() -> None:
    edit = _prepare(regions=("hair", "skin"))
    np.testing.assert_array_equal(edit.mask, np.isin(_labels(), [1, 10]))


def test_regions_the_photo_lacks_are_named_with_those_it_has() -> None:
    with pytest.raises(RequestError, match="background, hair, skin") as caught:
        _prepare(regions=("hair", "hat", "lip"))
    assert caught.value.field == "regions"
    assert "no hat and no lip" in caught.value.detail


def test_strokes_alone_are_their_own_mask() -> None:
    edit = _prepare(strokes=_strokes_png(alpha=1))
    assert edit.mask.sum() == 4 * 8
    assert edit.mask[32:36, 12:20].all()


def test_the_paint_is_the_strokes_inside_the_mask_only() -> None:
    edit = _prepare(strokes=_strokes_png(), mask=_mask_png(rows=slice(30, 34)))
    # The square is the photo's central 40 x 40 pixels, so the model sees photo pixels unchanged.
    assert edit.crop.box == (10, 0, 50, 40)
    changed = (edit.u_0 != edit.x_0).any(dim=1)[0].numpy()
    expected = np.zeros((40, 40), dtype=bool)
    expected[22:24, 12:20] = True
    np.testing.assert_array_equal(changed, expected)
    red = (edit.u_0[0, :, 22, 12] + 1) * 127.5
    np.testing.assert_allclose(red, [200, 30, 30], atol=1e-3)
    np.testing.assert_array_equal(edit.model_mask[0, 0], edit.mask[10:50])


def test_a_color_paints_the_whole_mask_with_shading() -> None:
    edit = _prepare(regions=("hair",), color="#a05a78")
    painted = ((edit.u_0[0] + 1) * 127.5)[:, edit.model_mask[0, 0]]
    np.testing.assert_allclose(painted.mean(dim=1), [160, 90, 120], atol=6)
    assert painted.sum(dim=0).std() > 10
    outside = ~edit.model_mask[0, 0]
    assert (edit.u_0[0][:, outside] == edit.x_0[0][:, outside]).all()


def test_without_paint_the_photo_is_the_start() -> None:
    edit = _prepare(mask=_mask_png())
    assert (edit.u_0 == edit.x_0).all()


def test_strokes_outside_the_mask_are_refused() -> None:
    with pytest.raises(RequestError, match="no stroke lies inside the mask") as caught:
        _prepare(strokes=_strokes_png(), regions=("hair",))
    assert caught.value.field == "strokes"


def test_masks_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(RequestError, match="40 x 60") as caught:
        _prepare(mask=_png(np.full((50, 40), 255, dtype=np.uint8)))
    assert "40 x 50" in caught.value.detail
    assert caught.value.field == "mask"


def test_empty_masks_are_refused() -> None:
    with pytest.raises(RequestError, match="empty"):
        _prepare(mask=_png(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)))


def _map_png(gray: np.ndarray) -> bytes:
    return _png(gray.astype(np.uint8))


def test_a_strength_map_says_when_each_pixel_joins() -> None:
    gray = np.zeros((HEIGHT, WIDTH))
    gray[:, WIDTH // 2 :] = 255
    edit = _prepare(mask=_mask_png(), strength=0.6, strength_map=_map_png(gray))
    assert edit.start is not None
    assert (edit.start.dtype, edit.start.shape) == (torch.int64, (1, 1, 40, 40))
    # The square is the photo's central 40 x 40 pixels.
    assert (edit.start[..., : WIDTH // 2 - 1] == 0).all()
    assert (edit.start[..., WIDTH // 2 + 1 :] == edit.plans[0].t0).all()
    assert _prepare(mask=_mask_png()).start is None


def test_black_pixels_of_a_strength_map_keep_the_paint_inside_the_mask() -> None:
    gray = np.full((HEIGHT, WIDTH), 7)
    gray[:, 12:] = 0  # Beyond the mask's box too.
    edit = _prepare(mask=_mask_png(), detail="model", strength_map=_map_png(gray))
    assert edit.kept is not None
    np.testing.assert_array_equal(edit.kept, np.broadcast_to(np.arange(15) >= 2, (10, 15)))
    assert edit.painted is not None
    assert _prepare(mask=_mask_png(), strength_map=_map_png(gray + 1)).kept is None


def test_strength_maps_of_another_size_are_refused() -> None:
    with pytest.raises(RequestError, match="50 x 60") as caught:
        _prepare(mask=_mask_png(), strength_map=_map_png(np.full((60, 50), 9)))
    assert caught.value.field == "strength_map"


def test_painted_pixels_are_kept_of_the_masks_box_alone_and_only_if_needed() -> None:
    edit = _prepare(mask=_mask_png(), color="#ff0000", detail="photo")
    assert edit.box == (30, 10, 40, 25)
    assert edit.painted is not None
    assert edit.painted.shape == (10, 15, 3)
    assert _prepare(mask=_mask_png(), color="#ff0000", detail="model").painted is None


def test_a_sketch_of_the_whole_photo_has_no_border_to_blend() -> None:
    whole = _map_png(np.full((HEIGHT, WIDTH), 255))
    edit = _prepare(mask=whole, blend="gradient")
    assert edit.blend == "feather"
    assert edit.crop.box == (0, 0, HEIGHT, WIDTH)
    assert edit.model_mask.all()
