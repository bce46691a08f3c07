"""Requests and results as TorchServe carries them, both directions.

A multipart form: the files ``photo``, ``mask``, ``strokes``, ``strength_map`` and text fields,
``operation`` among them. A JSON document: the same names, files as base64 text. A result is an
image file with its metadata in the header ``X-NPE-Metadata``, or with ``response=json`` one JSON
document: ``image`` (of an edit with several variations the list ``images``) as base64 text,
``metadata``, and ``receipt`` (``receipts``) where asked for. A refusal is a problem document (RFC
9457).
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neural_photo_editor.api.errors import PROBLEM_CONTENT_TYPE, RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    Request,
    Result,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.api.validation import validate_request

METADATA_HEADER = "X-NPE-Metadata"
FILE_FIELDS = ("photo", "mask", "strokes", "strength_map")

_REQUESTS: dict[str, type[EditRequest] | type[SegmentRequest] | type[UpscaleRequest]] = {
    "segment": SegmentRequest,
    "edit": EditRequest,
    "upscale": UpscaleRequest,
}
_RESULTS: dict[str, type[EditResult] | type[SegmentResult] | type[UpscaleResult]] = {
    "segment": SegmentResult,
    "edit": EditResult,
    "upscale": UpscaleResult,
}
_NUMBERS: dict[str, type[float] | type[int]] = {
    "strength": float,
    "timestep": int,
    "steps": int,
    "resamples": int,
    "seed": int,
    "variations": int,
}
_TRUTHS = {"true": True, "false": False}
_CONTENT_TYPES = "send multipart/form-data or application/json"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; phrase and header values are ASCII without line breaks."""

    status: int
    phrase: str
    headers: dict[str, str]
    body: bytes


def operation_of(request: Request) -> str:
    """Return ``segment``, ``edit`` or ``upscale``."""
    return next(name for name, model in _REQUESTS.items() if isinstance(request, model))


def parse_row(row: Mapping[str, Any], *, content_type: str = "") -> Request:
    """Turn one row of a TorchServe batch into a request.

    Args:
        row: form fields by name (files as bytearray, text as str or bytes), or one entry ``body``
            or ``data``: a dict for a JSON document, raw bytes for one that could not be parsed and
            for every other content type.
        content_type: the request's Content-Type header, where known.

    Raises:
        RequestError: 400 malformed JSON, 415 another content type, 422 a field is wrong.
    """
    if len(row) == 1 and ("body" in row or "data" in row):
        given: Mapping[str, Any] = _json_object(*row.values(), content_type=content_type)
        fields = _from_json(given)
    else:
        given, fields = row, _from_form(row)
    operation = fields.pop("operation", None)
    if not isinstance(operation, str) or operation not in _REQUESTS:
        detail = "required field is missing" if operation is None else "no such operation"
        raise RequestError(
            422, detail, field="operation", remedy=f"choose from {', '.join(_REQUESTS)}"
        )
    model = _REQUESTS[operation]
    # A name that there is not is refused also where its value counts as absent.
    misnamed = {n: v for n, v in given.items() if n not in model.model_fields and n != "operation"}
    return validate_request(model, {**fields, **misnamed})


def to_form(request: Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return a request's text fields and files: the inverse of :func:`parse_row` for forms."""
    values = request.model_dump(exclude_defaults=True)
    files = {name: values.pop(name) for name in FILE_FIELDS if name in values}
    texts = {"operation": operation_of(request)}
    for name, value in values.items():
        text = ",".join(value) if name == "regions" else str(value)
        texts[name] = text.lower() if isinstance(value, bool) else text
    return texts, files


def render(result: Result, *, response: str = "image") -> Reply:
    """Write a result as an image file with a metadata header, or ``"json"`` as a JSON document.

    The image file holds one variation, the first.
    """
    metadata = result.metadata.model_dump(mode="json")
    if response == "json":
        images = [
            base64.b64encode(image).decode("ascii")
            for image in (result.images if isinstance(result, EditResult) else (result.image,))
        ]
        body: dict[str, Any] = _one_or_list("image", images)
        if isinstance(result, EditResult) and result.receipts:
            body |= _one_or_list("receipt", result.receipts)
        encoded = json.dumps({**body, "metadata": metadata}).encode("ascii")
        return Reply(200, "OK", {"Content-Type": "application/json"}, encoded)
    content_type = f"image/{metadata.get('format', 'png')}"
    headers = {"Content-Type": content_type, METADATA_HEADER: json.dumps(metadata)}
    return Reply(200, "OK", headers, result.image)


def read_result(operation: str, headers: Mapping[str, str], body: bytes) -> Result:
    """Read a rendered result of either format: the inverse of :func:`render`.

    Raises:
        ValueError: this is not a result of that operation.
    """
    if not headers.get("content-type", "").startswith("application/json"):
        metadata = json.loads(headers.get(METADATA_HEADER.lower(), "null"))
        return _RESULTS[operation].model_validate({"image": body, "metadata": metadata})
    document = json.loads(body)
    texts = document["images"] if "images" in document else [document["image"]]
    first, *more = (base64.b64decode(text) for text in texts)
    fields = {"image": first, "metadata": document["metadata"]}
    if more:
        fields["more_images"] = tuple(more)
    if "receipts" in document or "receipt" in document:
        fields["receipts"] = tuple(document.get("receipts") or [document["receipt"]])
    return _RESULTS[operation].model_validate(fields)


def _one_or_list(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {name: values[0]} if len(values) == 1 else {f"{name}s": list(values)}


def render_error(error: RequestError) -> Reply:
    """Write a refusal as a problem document."""
    headers = {"Content-Type": PROBLEM_CONTENT_TYPE}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return Reply(
        int(error.status),
        error.status.phrase,
        headers,
        json.dumps(error.to_problem()).encode("ascii"),
    )


def _json_object(body: object, *, content_type: str) -> dict[str, Any]:
    if body in (b"", ""):
        raise _no_body()
    if isinstance(body, bytes | bytearray | str):
        start = (body.encode() if isinstance(body, str) else body).lstrip()[:1]
        if not content_type.lower().startswith("application/json") and start not in (b"{", b"["):
            raise RequestError(
                415,
                f"the content type {content_type[:80] or 'of the request'!a} is not supported",
                field=None,
                remedy=_CONTENT_TYPES,
            )
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError(
                400, "the body is not valid JSON", field=None, remedy="send one JSON object, UTF-8"
            ) from None
    if not isinstance(body, dict):
        raise RequestError(
            400, "the JSON body is not an object", field=None, remedy="send one JSON object"
        )
    return body


def _from_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """Decode a JSON document's files; null counts as absent."""
    fields = {name: value for name, value in document.items() if value is not None}
    for name in FILE_FIELDS:
        value = fields.get(name)
        if isinstance(value, str):
            try:
                fields[name] = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise RequestError(
                    422,
                    "not valid base64",
                    field=name,
                    remedy="send the file's bytes in standard base64, without a data: prefix",
                ) from None
    return fields


def _from_form(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a form's text to the types of the schema; empty text counts as absent."""
    if not row:
        raise _no_body()
    fields: dict[str, Any] = {}
    for name, value in row.items():
        if name in FILE_FIELDS:
            fields[name] = _file(name, value)
            continue
        text = _text(name, value)
        if text == "":
            continue
        if name == "regions":
            fields[name] = tuple(part.strip() for part in text.split(",") if part.strip())
        elif name in _NUMBERS:
            fields[name] = _number(name, text)
        elif name == "receipt":
            fields[name] = _truth(name, text)
        else:
            fields[name] = text
    return fields


def _no_body() -> RequestError:
    return RequestError(400, "the request has no body", field=None, remedy=_CONTENT_TYPES)


def _file(name: str, value: object) -> bytes:
    # A part that calls itself text or JSON arrives decoded.
    if isinstance(value, bytes | bytearray | str):
        return value.encode() if isinstance(value, str) else bytes(value)
    raise RequestError(
        415, "the part is not an image file", field=name, remedy="send the file as image/png"
    )


def _text(name: str, value: object) -> str:
    try:
        text = value.decode() if isinstance(value, bytes | bytearray) else str(value)
    except UnicodeDecodeError:
        raise RequestError(
            422, "the field is not UTF-8 text", field=name[:40], remedy="send it as UTF-8 text"
        ) from None
    return text.strip()


def _number(name: str, text: str) -> float | int:
    try:
        return _NUMBERS[name](text)
    except ValueError:
        kind = "number" if _NUMBERS[name] is float else "whole number"
        raise RequestError(
            422, f"{text[:40]!a} is not a {kind}", field=name, remedy=f"send a {kind}"
        ) from None


def _truth(name: str, text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise RequestError(
            422, f"{text[:40]!a} is not a truth value", field=name, remedy="send true or false"
        )
    return _TRUTHS[text.lower()]
