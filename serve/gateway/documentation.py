"""What OpenAPI says of the three operations; taken from the schema of the wire."""

from typing import Any

from pydantic import BaseModel

from neural_photo_editor.api.envelope import FILE_FIELDS, METADATA_HEADER
from neural_photo_editor.api.errors import PROBLEM_CONTENT_TYPE
from neural_photo_editor.api.schema import EditRequest, SegmentRequest, UpscaleRequest
from serve.gateway.event_stream import EVENT_CONTENT_TYPE
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER

_MODELS: dict[str, type[BaseModel]] = {
    "edit": EditRequest,
    "segment": SegmentRequest,
    "upscale": UpscaleRequest,
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
# One red pixel: enough to show the form of a value.
_EXAMPLE_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
_EXAMPLES: dict[str, dict[str, Any]] = {
    "edit": {"photo": _EXAMPLE_PNG, "regions": ["hair"], "color": "#8a3ffc", "response": "json"},
    "segment": {"photo": _EXAMPLE_PNG},
    "upscale": {"photo": _EXAMPLE_PNG},
}
_REFUSALS = {
    400: "The body cannot be read",
    401: "No key, or not a good one",
    403: "The key does not allow this operation",
    408: "The body did not arrive in time",
    409: "The request was canceled",
    413: "The request or an image is too large",
    415: "Neither a form nor JSON, or a file that is no JPEG, PNG or WebP",
    422: "A field is wrong; `field` names it, `remedy` says what to send",
    429: "Beyond the key's limits; see Retry-After",
    500: "The server failed",
    503: "No room or not ready; see Retry-After",
    504: "Not answered in time",
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A problem document, RFC 9457",
    "required": ["type", "title", "status", "detail", "field", "remedy"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong"},
        "field": {"type": ["string", "null"], "description": "the field at fault"},
        "remedy": {"type": "string", "description": "what to send instead"},
    },
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's entries for refusals of these statuses, or of all."""
    return {
        status: {
            "description": _REFUSALS[status],
            "content": {PROBLEM_CONTENT_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses or _REFUSALS
    }


def _body(operation: str) -> dict[str, Any]:
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
    for name in FILE_FIELDS:
        if name in schema["properties"]:
            old = schema["properties"][name]
            new = {"format": "binary"} if is_form else {"contentEncoding": "base64"}
            kept = {key: old[key] for key in ("title", "description") if key in old}
            schema["properties"][name] = {"type": "string", **new, **kept}
    if is_form and "regions" in schema["properties"]:
        schema["properties"]["regions"] |= {"type": "string", "default": ""}
        schema["properties"]["regions"].pop("items", None)
    return schema


def _answer(operation: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in _IMAGE_TYPES[operation]
    }
    content["application/json"] = {
        "schema": {
            "type": "object",
            "required": ["metadata"],
            "properties": {
                "image": {"type": "string", "contentEncoding": "base64"},
                "images": {"type": "array", "items": {"type": "string"}},
                "metadata": {"type": "object"},
                "receipt": {"type": "object"},
                "receipts": {"type": "array", "items": {"type": "object"}},
            },
        }
    }
    if operation == "edit":
        content[EVENT_CONTENT_TYPE] = {
            "schema": {
                "type": "string",
                "description": "events `progress`, then one `result` or `error`",
            }
        }
    names = (METADATA_HEADER, BUNDLE_HEADER, CHANNEL_HEADER)
    headers = {name: {"schema": {"type": "string"}} for name in names}
    return {"description": "The result", "content": content, "headers": headers}


OPERATION_DOCS: dict[str, dict[str, Any]] = {
    operation: {
        "summary": _SUMMARIES[operation],
        "description": model.__doc__,
        "openapi_extra": {"requestBody": _body(operation)},
        "responses": {200: _answer(operation), **problem_responses()},
    }
    for operation, model in _MODELS.items()
}
