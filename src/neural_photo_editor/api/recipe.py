"""Edits kept as files, to be made again later or by another bundle: photo, paint, parameters, seed.

A recipe is one JSON object: ``schema_version`` 1, ``name``, optional ``notes``, and ``request``,
which is what ``POST /v1/edit`` takes as JSON: the fields of :class:`api.schema.EditRequest`, image
files in base64. It always has a seed. What the request leaves open stays open: a bundle fills it in
by its own defaults, which a recipe is to try, too.
"""

import base64
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neural_photo_editor.api.envelope import FILE_FIELDS, parse_row
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import DEFAULT_LIMITS, check_image_header
from neural_photo_editor.api.schema import EditRequest

SCHEMA_VERSION: Final = 1
MAX_RECIPE_BYTES = 44 * 2**20
"""A request of 32 MiB in base64, and its parameters."""
MAX_NAME_CHARACTERS = 100
MAX_NOTES_CHARACTERS = 4000

_EXPORT_AGAIN = "export the recipe again"
_WRITE_SEED = "write the seed that the result's metadata names"


class Recipe(BaseModel):
    """A recorded edit.

    Attributes:
        name: what to call it, one line.
        notes: whatever is worth knowing.
        request: the edit, with its seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[
        str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")
    ]
    notes: Annotated[str, Field(max_length=MAX_NOTES_CHARACTERS)] = ""
    request: EditRequest

    @model_validator(mode="after")
    def _check_seed(self) -> Self:
        if self.request.seed is None:
            raise ValueError(f"the request has no seed: {_WRITE_SEED}")
        return self

    @classmethod
    def from_request(
        cls, request: EditRequest, *, name: str, notes: str = "", seed: int | None = None
    ) -> "Recipe":
        """Record a request.

        Args:
            seed: the first of the result's ``seeds``, which counts where the request has none.

        Raises:
            RequestError: there is no seed, or name or notes are too long.
        """
        if request.seed is None:
            request = request.model_copy(update={"seed": seed})
        return _validated({"name": name, "notes": notes, "request": request})

    def to_request(self) -> EditRequest:
        """Return the request to send: the inverse of :meth:`from_request`."""
        return self.request

    def to_bytes(self) -> bytes:
        """Return the file's content, JSON in ASCII; equal recipes give equal bytes."""
        values = self.request.model_dump(exclude_defaults=True)
        files = {name: values.pop(name) for name in FILE_FIELDS if name in values}
        texts = {name: base64.b64encode(data).decode("ascii") for name, data in files.items()}
        document = {
            "schema_version": self.schema_version,
            "name": self.name,
            "notes": self.notes,
            # Images last: what can be read stands at the top.
            "request": {**values, **texts},
        }
        return json.dumps(document, indent=1, allow_nan=False).encode("ascii") + b"\n"


def read_recipe(data: bytes) -> Recipe:
    """Read a recipe's file: the inverse of :meth:`Recipe.to_bytes`.

    Images are checked up to their headers; no pixel is decoded.

    Raises:
        RequestError: 413 the file or an image is too large, 400 no JSON object, 415 a file is no
            image, 422 an unknown, missing or wrong field; names the field and the remedy.
    """
    if len(data) > MAX_RECIPE_BYTES:
        raise RequestError(
            413,
            f"the recipe has {len(data):,} bytes, more than {MAX_RECIPE_BYTES:,}",
            field=None,
            remedy="record the edit with a smaller photo",
        )
    document = _json_object(data)
    _check_version(document)
    fields = document.get("request")
    if not isinstance(fields, dict):
        raise _wrong("request", "the edit is missing", "add the JSON object of an edit request")
    if fields.get("operation", "edit") != "edit":
        raise _wrong("operation", "this is no edit", "leave the field operation out")
    request = parse_row({"body": {**fields, "operation": "edit"}}, content_type="application/json")
    for name in FILE_FIELDS:
        if (file := getattr(request, name)) is not None:
            check_image_header(file, field=name, limits=DEFAULT_LIMITS)
    return _validated({**document, "request": request})


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data, object_pairs_hook=_distinct_fields)
    except RequestError:
        raise
    except (ValueError, RecursionError):
        raise RequestError(
            400, "the recipe is not valid JSON", field=None, remedy=_EXPORT_AGAIN
        ) from None
    if not isinstance(document, dict):
        raise RequestError(400, "the recipe is no JSON object", field=None, remedy=_EXPORT_AGAIN)
    return document


def _distinct_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # Readers disagree on which of the two counts.
        raise RequestError(
            400, "a field of the recipe is there twice", field=None, remedy=_EXPORT_AGAIN
        )
    return fields


def _check_version(document: dict[str, Any]) -> None:
    version = document.get("schema_version")
    if type(version) is not int or version < 1:
        raise _wrong("schema_version", "this is no recipe", f"write {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise _wrong(
            "schema_version",
            f"the recipe is of version {version}, this program reads {SCHEMA_VERSION}",
            "update the program",
        )


def _validated(document: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0])[:40] if first["loc"] else "seed"
    known = ", ".join(Recipe.model_fields)
    match first["type"]:
        case "extra_forbidden":
            raise _wrong(field, "unknown field of a recipe", f"choose from {known}")
        case "missing":
            raise _wrong(field, "required field is missing", f"add the field {field}")
        case "value_error":
            raise _wrong(field, "the recipe has no seed", _WRITE_SEED)
        case _:
            limits = {
                "name": f"write one line of 1 to {MAX_NAME_CHARACTERS} characters",
                "notes": f"write a text of at most {MAX_NOTES_CHARACTERS:,} characters",
            }
            raise _wrong(field, str(first["msg"]), limits.get(field, _EXPORT_AGAIN))


def _wrong(field: str, detail: str, remedy: str) -> RequestError:
    return RequestError(422, detail, field=field, remedy=remedy)
