"""Requests refuse what they do not mean, naming the field and the remedy."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from neural_photo_editor.api import schema
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditRequest,
    EditResult,
    SegmentRequest,
    UpscaleMetadata,
    UpscaleResult,
)
from neural_photo_editor.api.validation import validate_request
from neural_photo_editor.common import regions

PHOTO = {"photo": b"p"}
MASK = {**PHOTO, "mask": b"m"}


def test_the_wire_names_the_regions_of_the_label_maps() -> None:
    assert schema.REGION_NAMES == regions.REGION_NAMES


@pytest.mark.parametrize(
    "fields",
    [
        MASK,
        {**PHOTO, "regions": ["hair", "lip"], "color": "#A0b1C2"},
        {**PHOTO, "strokes": b"s"},
        {**MASK, "strokes": b"s", "strength": 0, "seed": 0},
        {**MASK, "timestep": 1, "steps": 1000, "sampler": "dpmpp_2m", "seed": 2**63 - 1},
        {**MASK, "variations": 8, "response": "json"},
        {**MASK, "strength_map": b"g", "strength": 0.7, "detail": "mixed", "blend": "gradient"},
        {**MASK, "format": "webp"},
    ],
)
def test_meaningful_requests_are_accepted(fields: dict[str, Any]) -> None:
    request = validate_request(EditRequest, fields)
    for name, value in fields.items():
        assert getattr(request, name) == (tuple(value) if name == "regions" else value)


@pytest.mark.parametrize(
    ("fields", "field", "hint"),
    [
        ({}, "photo", "add the field photo"),
        (PHOTO, "mask", "mask image, region names or strokes"),
        ({**MASK, "regions": ("hair",)}, "mask", "one of the two"),
        ({**MASK, "strokes": b"s", "color": "#aabbcc"}, "strokes", "one of the two"),
        ({**MASK, "strength": 0.5, "timestep": 100}, "strength", "one of the two"),
        ({**PHOTO, "regions": ("beard",)}, "regions", "background, hair, hat"),
        ({**PHOTO, "regions": ([1],)}, "regions", "background, hair, hat"),
        ({**PHOTO, "regions": "hair"}, "regions", "list of region names"),
        ({**MASK, "strength": 1.01}, "strength", "0 to 1"),
        ({**MASK, "strength": float("nan")}, "strength", "0 to 1"),
        ({**MASK, "strength": "0.5"}, "strength", "0 to 1"),
        ({**MASK, "timestep": 0}, "timestep", "at least 1"),
        ({**MASK, "steps": 1001}, "steps", "1 to 1000"),
        ({**MASK, "seed": -1}, "seed", "0 to"),
        ({**MASK, "seed": 2**63}, "seed", "0 to"),
        ({**MASK, "seed": True}, "seed", "0 to"),
        ({**MASK, "sampler": "euler"}, "sampler", "'ddpm', 'ddim' or 'dpmpp_2m'"),
        ({**MASK, "resamples": 21}, "resamples", "1 to 20"),
        ({**MASK, "detail": "none"}, "detail", "'photo', 'model' or 'mixed'"),
        ({**MASK, "blend": "poisson"}, "blend", "'feather' or 'gradient'"),
        ({**MASK, "format": "gif"}, "format", "'png', 'jpeg' or 'webp'"),
        ({**MASK, "strength_map": b""}, "strength_map", "JPEG, PNG or WebP"),
        ({**MASK, "variations": 9, "response": "json"}, "variations", "1 to 8"),
        ({**MASK, "variations": 0}, "variations", "1 to 8"),
        ({**MASK, "variations": 2}, "variations", "response=json"),
        ({**MASK, "color": "red"}, "color", "#aa3311"),
        ({**MASK, "color": "#aabbcc\n"}, "color", "#aa3311"),
        ({**MASK, "response": "xml"}, "response", "'image' or 'json'"),
        ({**MASK, "guidance": 7}, "guidance", "choose from operation, photo"),
        ({"photo": b"", "mask": b"m"}, "photo", "JPEG, PNG or WebP"),
        ({"photo": "text", "mask": b"m"}, "photo", "image file"),
    ],
)
def test_the_error_names_field_and_remedy(fields: dict[str, Any], field: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        validate_request(EditRequest, fields)
    assert caught.value.status == 422
    assert caught.value.field == field
    assert hint in caught.value.remedy
    assert caught.value.detail


def test_requests_of_other_operations_refuse_the_fields_of_an_edit() -> None:
    with pytest.raises(RequestError, match="unknown field"):
        validate_request(SegmentRequest, {**PHOTO, "seed": 1})


def test_requests_cannot_be_changed() -> None:
    request = EditRequest(**MASK)
    with pytest.raises(ValidationError):
        request.seed = 3  # type: ignore[misc]


def test_a_problem_document_says_what_rfc_9457_asks_for() -> None:
    error = RequestError(422, "the mask is empty", field="mask", remedy="paint something")
    assert error.to_problem() == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "the mask is empty",
        "field": "mask",
        "remedy": "paint something",
    }


def test_metadata_reads_like_a_dictionary_and_keeps_fields_of_newer_servers() -> None:
    metadata = EditMetadata.model_validate(
        {
            "width": 2, "height": 3, "bundle_digest": "d", "seed": 1, "sampler": "ddim",
            "steps": 4, "timestep": 200, "strength": 0.4, "seam_score": 0.1,
        }
    )  # fmt: skip
    assert metadata["seed"] == 1
    assert metadata["seam_score"] == 0.1
    with pytest.raises(KeyError):
        metadata["mood"]


def test_a_result_saves_its_bytes(tmp_path: Path) -> None:
    metadata = UpscaleMetadata(width=4, height=4, bundle_digest="d", scale=4)
    path = UpscaleResult(image=b"png", metadata=metadata).save(tmp_path / "out.png")
    assert path.read_bytes() == b"png"


def test_every_variation_is_saved_under_its_number(tmp_path: Path) -> None:
    metadata = EditMetadata(
        width=4, height=4, bundle_digest="d", seed=1, sampler="ddim", steps=4, timestep=9,
        strength=0.1,
    )  # fmt: skip
    result = EditResult(image=b"one", more_images=(b"two",), metadata=metadata)
    paths = result.save_all(tmp_path / "out.png")
    assert [path.name for path in paths] == ["out-1.png", "out-2.png"]
    assert tuple(path.read_bytes() for path in paths) == result.images == (b"one", b"two")
