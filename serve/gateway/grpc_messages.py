"""Messages of the gRPC service to requests, and replies to messages."""

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from neural_photo_editor.api.envelope import Reply, read_result
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits
from neural_photo_editor.api.receipt import canonical_json
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    Request,
    Result,
    SegmentRequest,
    UpscaleRequest,
)
from neural_photo_editor.api.validation import validate_request
from serve.gateway.forms import check_images
from serve.gateway.protos import editor_pb2

_REQUESTS: Mapping[str, tuple[type[Message], type[EditRequest | SegmentRequest | UpscaleRequest]]]
_REQUESTS = {
    "edit": (editor_pb2.EditRequest, EditRequest),
    "segment": (editor_pb2.SegmentRequest, SegmentRequest),
    "upscale": (editor_pb2.UpscaleRequest, UpscaleRequest),
}


def read_request(operation: str, data: bytes, *, limits: ImageLimits) -> Request:
    """Turn a message into a request whose images' headers have been checked.

    Raises:
        RequestError: 400 malformed or from a newer editor.proto, 413, 415 or 422 as over HTTP.
    """
    kind, model = _REQUESTS[operation]
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise RequestError(
            400, "the message cannot be decoded", field=None, remedy="use editor.proto"
        ) from None
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise RequestError(
            400,
            f"the message has the unknown field {unknown[0].field_number}",
            field=None,
            remedy="leave out what this server's editor.proto does not have",
        )
    fields: dict[str, Any] = {
        field.name: tuple(value) if field.is_repeated else value
        for field, value in message.ListFields()
    }
    wants_document = fields.get("variations", 1) != 1 or fields.get("receipt", False)
    request = validate_request(model, {**fields, "response": "json" if wants_document else "image"})
    check_images(request, limits)
    return request


def write_response(operation: str, reply: Reply) -> bytes:
    """Turn a worker's answer into the operation's response."""
    result = _read(operation, reply)
    if isinstance(result, EditResult):
        return _edit_response(result).SerializeToString()
    kind = editor_pb2.SegmentResponse if operation == "segment" else editor_pb2.UpscaleResponse
    metadata = result.metadata.model_dump_json()
    return kind(image=result.image, metadata_json=metadata).SerializeToString()


def result_event(reply: Reply) -> bytes:
    """Turn a worker's answer into the last event of a stream."""
    result = _read("edit", reply)
    assert isinstance(result, EditResult)
    return editor_pb2.EditEvent(result=_edit_response(result)).SerializeToString()


def progress_event(event: Mapping[str, Any]) -> bytes:
    """Turn a line of the worker's events into an event of a stream."""
    names = ("step", "total_steps", "crop", "width", "height")
    progress = editor_pb2.Progress(
        **{name: event[name] for name in names if name in event},
        preview=base64.b64decode(event.get("preview", "")),
    )
    return editor_pb2.EditEvent(progress=progress).SerializeToString()


def _read(operation: str, reply: Reply) -> Result:
    headers = {name.lower(): value for name, value in reply.headers.items()}
    return read_result(operation, headers, reply.body)


def _edit_response(result: EditResult) -> editor_pb2.EditResponse:
    return editor_pb2.EditResponse(
        images=result.images,
        metadata_json=result.metadata.model_dump_json(),
        receipts_json=[canonical_json(receipt).decode() for receipt in result.receipts],
    )
