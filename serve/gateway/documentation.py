"""What OpenAPI says of the three operations; taken from the schema of the wire."""

from inspect import cleandoc
from typing import Any

from pydantic import BaseModel

from neural_photo_editor.api.envelope import FILE_FIELDS, METADATA_HEADER
from neural_photo_editor.api.errors import PROBLEM_CONTENT_TYPE
from neural_photo_editor.api.schema import (
    REGION_NAMES,
    EditMetadata,
    EditRequest,
    SegmentMetadata,
    SegmentRequest,
    UpscaleMetadata,
    UpscaleRequest,
)
from serve.gateway.event_stream import EVENT_CONTENT_TYPE
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER

_MODELS: dict[str, type[BaseModel]] = {
    "edit": EditRequest,
    "segment": SegmentRequest,
    "upscale": UpscaleRequest,
}
METADATA: dict[str, type[BaseModel]] = {
    "edit": EditMetadata,
    "segment": SegmentMetadata,
    "upscale": UpscaleMetadata,
}
_SUMMARIES = {
    "edit": "Repaint the marked pixels of a photo",
    "segment": "Label the face regions of a photo",
    "upscale": "Enlarge a photo",
}
_IMAGE_TYPES = {
    "edit": ("image/png", "image/webp", "image/jpeg"),
    "segment": ("image/png",),
    "upscale": ("image/png",),
}
# 16 x 16 red pixels, the least that is taken.
EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAF0lEQVR4nGP8z0AaYCJR/aiGUQ1DSAMAQC4BH2bj"
    "RnMAAAAASUVORK5CYII="
)
_EXAMPLES: dict[str, dict[str, Any]] = {
    "edit": {"photo": EXAMPLE_PNG, "regions": ["hair"], "color": "#8a3ffc", "response": "json"},
    "segment": {"photo": EXAMPLE_PNG},
    "upscale": {"photo": EXAMPLE_PNG},
}
_REFUSALS = {
    400: "The body cannot be read",
    401: "No key, or not a good one",
    403: "The key does not allow this operation",
    408: "The body did not arrive in time",
    409: "The request was canceled",
    413: "The request or an image is too large",
    415: "The body or a file is of a type that is not taken",
    422: "A field is wrong; `field` names it, `remedy` says what to send",
    429: "Beyond the key's limits; see Retry-After",
    500: "The server failed",
    503: "No room or not ready; see Retry-After",
    504: "Not answered in time",
}
_RETRY_AFTER = {
    "Retry-After": {"description": "seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}
_REFUSAL_HEADERS = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


class Status(BaseModel):
    """A good answer of a probe."""

    status: str


class Bundle(BaseModel):
    """The models behind the production channel, and what a silent request gets."""

    bundle_digest: str
    resolution: int
    licenses: list[str]
    defaults: dict[str, Any]


class ReceiptKey(BaseModel):
    """Verifies the receipts of one deployment."""

    key_id: str
    public_key: str


class Info(BaseModel):
    """What may be asked for, and what answers."""

    limits: dict[str, float]
    """Bytes, pixels, counts and seconds, as their names say."""
    regions: list[str]
    bundles: list[Bundle]
    receipt_keys: list[ReceiptKey]


class Problem(BaseModel):
    """A problem document, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None
    remedy: str


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's entries for refusals of these statuses, or of all."""
    return {
        status: {
            "description": _REFUSALS[status],
            "content": {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            "headers": _REFUSAL_HEADERS.get(status, {}),
        }
        for status in statuses or _REFUSALS
    }


def request_body(operation: str) -> dict[str, Any]:
    """Return OpenAPI's entry for what an operation is sent."""
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _schema(operation, is_form=True)},
            "application/json": {
                "schema": _schema(operation, is_form=False),
                "example": _EXAMPLES[operation],
            },
        },
    }


def _schema(operation: str, *, is_form: bool) -> dict[str, Any]:
    schema = _MODELS[operation].model_json_schema()
    schema["title"] += "Form" if is_form else "Document"
    properties: dict[str, Any] = schema["properties"]
    for name, old in properties.items():
        if name in FILE_FIELDS:
            new = {"format": "binary"} if is_form else {"format": "byte"}
            kept = {key: old[key] for key in ("title", "description") if key in old}
            properties[name] = {"type": "string", "minLength": 1, **new, **kept}
        elif name == "regions":
            old["items"] = {"type": "string", "enum": list(REGION_NAMES)}
            old["examples"] = [["hair", "hat"]]
    if not is_form:
        for name, field in properties.items():
            if name not in schema["required"]:
                properties[name] = _or(field, {"type": "null"})
        return schema
    if "regions" in properties:
        properties["regions"] |= {"type": "string", "default": "", "examples": ["hair,hat"]}
        properties["regions"].pop("items")
    for field in properties.values():  # A form has no null.
        kinds = [kind for kind in field.pop("anyOf", ()) if kind["type"] != "null"]
        field.update(*kinds)
        if field.get("default", "") is None:
            del field["default"]
    for name, field in properties.items():
        if name not in FILE_FIELDS:
            properties[name] = _or(field, {"type": "string", "pattern": r"^\s*$"})
    return schema


def _or(field: dict[str, Any], absent: dict[str, Any]) -> dict[str, Any]:
    """Let a field be what is the same as leaving it out: null in a document, no text in a form."""
    if "anyOf" in field:
        return field
    either: dict[str, Any] = {"anyOf": [field, absent]}
    for name in ("title", "description", "default"):
        if name in field:
            either[name] = field.pop(name)
    return either


def _answer(operation: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in _IMAGE_TYPES[operation]
    }
    metadata = {"$ref": f"#/components/schemas/{METADATA[operation].__name__}"}
    file = {"type": "string", "format": "byte"}
    properties: dict[str, Any] = {"image": file, "metadata": metadata}
    if operation == "edit":
        receipt = {"type": "object", "description": "a signed receipt, where asked for"}
        properties |= {
            "images": {"type": "array", "items": file, "description": "of several variations"},
            "receipt": receipt,
            "receipts": {"type": "array", "items": receipt},
        }
        content[EVENT_CONTENT_TYPE] = {
            "schema": {
                "type": "string",
                "description": "events `progress` with a preview, then one `result`, which is the "
                "JSON document, or one `error`, a problem document",
            }
        }
    content["application/json"] = {
        "schema": {
            "title": f"{operation.title()}Result",
            "type": "object",
            "required": ["metadata"],
            "properties": properties,
        }
    }
    names = {
        METADATA_HEADER: "of an image: its metadata, a JSON document",
        BUNDLE_HEADER: "digest of the models that answered",
        CHANNEL_HEADER: "`production` or `canary`",
    }
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()
    }
    return {"description": "The result", "content": content, "headers": headers}


OPERATION_DOCS: dict[str, dict[str, Any]] = {
    operation: {
        "summary": _SUMMARIES[operation],
        "description": cleandoc(model.__doc__ or ""),
        "responses": {200: _answer(operation), **problem_responses()},
    }
    for operation, model in _MODELS.items()
}
