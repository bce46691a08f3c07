"""The wire: requests and results, image codec, TorchServe envelope and clients. Needs no torch."""

from neural_photo_editor.api.client import AsyncEditClient, EditClient, EditError
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)

__all__ = [
    "AsyncEditClient",
    "EditClient",
    "EditError",
    "EditRequest",
    "EditResult",
    "RequestError",
    "SegmentRequest",
    "SegmentResult",
    "UpscaleRequest",
    "UpscaleResult",
]
