"""Recipes come back as they were written, and what is no recipe is refused with a remedy."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.recipe import MAX_RECIPE_BYTES, Recipe, read_recipe
from neural_photo_editor.api.schema import MAX_SEED, EditRequest

PHOTO = encode_png(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
MASK = encode_png(np.full((24, 32), 255, np.uint8))
STROKES = encode_png(
    np.zeros((24, 32, 3), np.uint8), alpha=np.tile(np.arange(32, dtype=np.uint8), (24, 1))
)


def _document(**changes: Any) -> dict[str, Any]:
    """A recipe as a browser would write it; request fields set to None are left out."""
    request = {
        "photo": base64.b64encode(PHOTO).decode(),
        "regions": ["hair"],
        "seed": 1,
        **changes.pop("request", {}),
    }
    request = {name: value for name, value in request.items() if value is not None}
    return {"schema_version": 1, "name": "a", "request": request, **changes}


def _read(document: object) -> Recipe:
    return read_recipe(json.dumps(document).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": MASK, "seed": 0},
        {"regions": ("hair", "ear"), "color": "#a0b1c2", "strength": 0.0, "seed": MAX_SEED},
        {"strokes": STROKES, "strength_map": MASK, "strength": 0.5, "seed": 3, "detail": "mixed"},
        {"mask": MASK, "timestep": 400, "steps": 12, "resamples": 2, "sampler": "ddim", "seed": 9},
        {"mask": MASK, "seed": 4, "variations": 3, "response": "json", "receipt": True},
        {"mask": MASK, "seed": 4, "format": "webp", "blend": "gradient"},
    ],
)
def test_a_recipe_comes_back_as_it_was_written(fields: dict[str, Any]) -> None:
    request = EditRequest(photo=PHOTO, **fields)
    recipe = Recipe.from_request(request, name="Grüne Haare 💚", notes="two\nlines")
    data = recipe.to_bytes()
    assert read_recipe(data) == recipe
    assert read_recipe(data).to_request() == request
    assert read_recipe(data).to_bytes() == data
    assert data.isascii()


def test_every_field_of_a_request_can_be_in_a_recipe() -> None:
    """A new field of the schema is recorded without a change here."""
    document = _document(request={"regions": None, "mask": base64.b64encode(MASK).decode()})
    document["request"] |= {"strength": 1, "variations": 2, "response": "json"}
    recipe = _read(document)
    assert recipe.request.strength == 1.0
    assert {"photo", "mask", "strength", "variations", "response", "seed"} == set(
        recipe.request.model_dump(exclude_defaults=True)
    )


def test_the_seed_of_the_result_completes_a_request_without_one() -> None:
    request = EditRequest(photo=PHOTO, mask=MASK)
    assert Recipe.from_request(request, name="a", seed=7).request.seed == 7
    given = request.model_copy(update={"seed": 0})
    assert Recipe.from_request(given, name="a", seed=7).request.seed == 0
    with pytest.raises(RequestError, match="the recipe has no seed") as refused:
        Recipe.from_request(request, name="a")
    assert refused.value.field == "seed"
    assert "metadata" in refused.value.remedy


@pytest.mark.parametrize(
    ("document", "status", "field", "remedy"),
    [
        (_document(author="me"), 422, "author", "choose from schema_version, name, notes, request"),
        (_document(request={"zoom": 2}), 422, "zoom", "choose from operation, photo, response"),
        (_document(request={"seed": None}), 422, "seed", "metadata"),
        (_document(request={"photo": None}), 422, "photo", "add the field photo"),
        (_document(request={"photo": "%"}), 422, "photo", "standard base64"),
        (_document(request={"photo": "aGVsbG8="}), 415, "photo", "convert it"),
        (_document(request={"strength": 2}), 422, "strength", "from 0 to 1"),
        (_document(request={"regions": ["beard"]}), 422, "regions", "choose from background"),
        (_document(request={"operation": "segment"}), 422, "operation", "leave the field"),
        (_document(name=""), 422, "name", "1 to 100 characters"),
        (_document(name="two\nlines"), 422, "name", "one line"),
        (_document(name=7), 422, "name", "one line"),
        (_document(notes="x" * 4001), 422, "notes", "at most 4,000"),
        (_document(schema_version=2), 422, "schema_version", "update the program"),
        (_document(schema_version=True), 422, "schema_version", "write 1"),
        ({"name": "a"}, 422, "schema_version", "write 1"),
        ({"schema_version": 1, "name": "a"}, 422, "request", "add the JSON object"),
        ([], 400, None, "export"),
    ],
)
def test_what_is_no_recipe_is_refused(
    document: object, status: int, field: str | None, remedy: str
) -> None:
    with pytest.raises(RequestError) as refused:
        _read(document)
    assert (refused.value.status, refused.value.field) == (status, field)
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"\xff\xfe{}", 400),
        (b"[" * 100_000, 400),
        (b'{"schema_version": 1, "schema_version": 1}', 400),
        (b" " * (MAX_RECIPE_BYTES + 1), 413),
    ],
)
def test_bytes_that_are_no_recipe_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        read_recipe(data)
    assert refused.value.status == status


def test_an_image_too_large_is_refused_by_its_header_alone() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    # Nothing of its pixels is left: whoever decodes it fails otherwise.
    header_only = buffer.getvalue()[:60]
    photo = base64.b64encode(header_only).decode()
    with pytest.raises(RequestError, match="9000 x 9000") as refused:
        _read(_document(request={"photo": photo}))
    assert refused.value.status == 413
