"""The wire: requests and results, image codec, envelope and clients. Needs no torch."""

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.client_async import AsyncEditClient
from neural_photo_editor.api.client_calls import EditOptions, edit_request
from neural_photo_editor.api.client_errors import EditCanceled, EditError, WrongRequestError
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.api.stream import Progress

__all__ = [
    "AsyncEditClient",
    "EditCanceled",
    "EditClient",
    "EditError",
    "EditOptions",
    "EditRequest",
    "EditResult",
    "Progress",
    "RequestError",
    "SegmentRequest",
    "SegmentResult",
    "UpscaleRequest",
    "UpscaleResult",
    "WrongRequestError",
    "edit_request",
]
