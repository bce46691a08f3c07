"""The promise: outside the mask an edit changes nothing, whatever the photo and the request are."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.editing.pipeline import EditPipeline
from tests.unit.editing.tiny_pipeline import (
    answer_one,
    defaults,
    make_photo,
    make_pipeline,
    mask_png,
    random_networks,
)

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
KINDS = ("png", "png-alpha", "png-16-bit", "png-gray", "jpeg", "jpeg-cmyk", "webp", "webp-alpha")


@pytest.fixture(scope="module")
def pipeline() -> EditPipeline:
    return make_pipeline(**random_networks(), defaults=defaults(steps=2, strength=0.6))


def _upload(kind: str, height: int, width: int, *, seed: int, profile: bool) -> bytes:
    """Return a file whose pixels are noise: no two neighbors can be taken for each other."""
    rng = np.random.default_rng(seed)
    rgba = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(rgba if "alpha" in kind else rgba[..., :3])
    if kind == "png-16-bit":
        image = Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.uint16))
    elif kind == "png-gray":
        image = image.convert("L")
    elif kind == "jpeg-cmyk":
        image = image.convert("CMYK")
    buffer = io.BytesIO()
    carries_profile = profile and kind in ("png", "png-alpha", "jpeg", "webp")
    image.save(buffer, kind.split("-")[0], icc_profile=PROFILE if carries_profile else None)
    return buffer.getvalue()


sides = st.one_of(st.integers(17, 90), st.integers(17, 90), st.integers(17, 1200))


@st.composite
def masks(draw: st.DrawFn, height: int, width: int) -> np.ndarray:
    """Boxes and single pixels, on borders and in corners, in one or more pieces."""
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(draw(st.integers(1, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom = draw(st.integers(top + 1, height))
        right = draw(st.integers(left + 1, width))
        mask[top:bottom, left:right] = True
    return mask


@st.composite
def marks(draw: st.DrawFn, height: int, width: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a mask and the fields that mark it and paint in it."""
    mask = draw(masks(height, width))
    paint = draw(st.sampled_from(["none", "color", "strokes", "strokes alone"]))
    strokes = np.zeros((height, width, 4), dtype=np.uint8)
    strokes[mask] = (200, 30, 90, draw(st.integers(1, 255)))
    if paint == "strokes alone":
        return mask, {"strokes": encode_png(strokes[..., :3], alpha=strokes[..., 3])}
    fields: dict[str, Any] = {"mask": mask_png(mask)}
    if paint == "color":
        fields["color"] = "#30c060"
    if paint == "strokes":
        strokes[..., 3] |= 1  # Beyond the mask, too.
        fields["strokes"] = encode_png(strokes[..., :3], alpha=strokes[..., 3])
    if draw(st.booleans()):
        gray = np.linspace(0, 255, height * width).reshape(height, width)
        fields["strength_map"] = encode_png(gray.astype(np.uint8))
    return mask, fields


options = st.fixed_dictionaries(
    {
        "strength": st.sampled_from([0.0, 0.4, 1.0]),
        "sampler": st.sampled_from(["ddpm", "ddim", "dpmpp_2m"]),
        "steps": st.just(2),  # Fills take many more if none are given.
        "resamples": st.sampled_from([1, 2]),
        "detail": st.sampled_from([None, "photo", "model", "mixed"]),
        "blend": st.sampled_from([None, "feather", "gradient"]),
        "format": st.sampled_from([None, "png", "webp"]),
    }
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), kind=st.sampled_from(KINDS), height=sides, width=sides, options=options)
def test_nothing_changes_outside_the_mask(
    pipeline: EditPipeline,
    data: st.DataObject,
    kind: str,
    height: int,
    width: int,
    options: dict[str, Any],
) -> None:
    mask, fields = data.draw(marks(height, width))
    upload = _upload(kind, height, width, seed=1, profile=data.draw(st.booleans()))
    result = answer_one(pipeline, EditRequest(photo=upload, seed=3, **fields, **options))
    before, after = decode_photo(upload), decode_photo(result.image)
    assert after.rgb.shape == before.rgb.shape
    np.testing.assert_array_equal(after.rgb[~mask], before.rgb[~mask])
    assert after.icc_profile == before.icc_profile
    if before.alpha is None:
        assert after.alpha is None
    else:
        np.testing.assert_array_equal(after.alpha, before.alpha)
    assert result.metadata.exact
    assert result.metadata.mask_pixels == mask.sum()


@pytest.mark.parametrize("kind", ["jpeg", "png-alpha", "webp-alpha"])
def test_ten_edits_in_a_row_leave_the_first_uploads_pixels(
    pipeline: EditPipeline, kind: str
) -> None:
    height, width = 70, 110
    upload = first = _upload(kind, height, width, seed=2, profile=True)
    touched = np.zeros((height, width), dtype=bool)
    rng = np.random.default_rng(4)
    for number in range(10):
        mask = np.zeros((height, width), dtype=bool)
        top, left = int(rng.integers(0, height - 9)), int(rng.integers(0, width - 9))
        mask[top : top + 9, left : left + 9] = True
        touched |= mask
        paint = {"color": "#a03050"} if number % 2 else {}
        request = EditRequest(photo=upload, mask=mask_png(mask), seed=number, steps=2, **paint)
        upload = answer_one(pipeline, request).image
    before, after = decode_photo(first), decode_photo(upload)
    np.testing.assert_array_equal(after.rgb[~touched], before.rgb[~touched])
    assert (after.rgb[touched] != before.rgb[touched]).any()
    assert after.icc_profile == before.icc_profile
    if before.alpha is not None:
        np.testing.assert_array_equal(after.alpha, before.alpha)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_batch_of_mixed_requests_equals_each_alone(
    pipeline: EditPipeline, data: st.DataObject
) -> None:
    requests = []
    for number in range(3):
        height, width = data.draw(st.integers(17, 80)), data.draw(st.integers(17, 80))
        _, fields = data.draw(marks(height, width))
        variations = data.draw(st.integers(1, 2))
        requests.append(
            EditRequest(
                photo=encode_png(make_photo(height, width, seed=number)),
                seed=number,
                variations=variations,
                response="json",
                **fields,
                **data.draw(options),
            )
        )
    for request, together in zip(requests, pipeline.run(requests), strict=True):
        assert isinstance(together, EditResult)
        assert answer_one(pipeline, request).images == together.images
