"""TorchServe handler: verbs only. What they do lives in the library; nothing of TorchServe is used.

TorchServe fails a whole batch when a handler raises, and ends the worker when a header or a status
phrase is not plain ASCII or a reply is too long. So every request is answered on its own, and what
goes into the context is cleaned first.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.envelope import Reply, parse_row, render, render_error
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import (
    EditRequest,
    Request,
    Result,
    SegmentRequest,
    UpscaleRequest,
)
from neural_photo_editor.api.signing import SigningKey
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.receipts import ReceiptSigner
from neural_photo_editor.serving.edit_worker import EditWorker
from neural_photo_editor.serving.options import ControlAddress, HandlerOptions
from neural_photo_editor.serving.spans import Spans
from neural_photo_editor.serving.ticket import Ticket

# Below max_response_size in config.properties: TorchServe ends a worker that answers more.
MAX_REPLY_BYTES = 60 * 2**20
WARM_UP_SIDE = 64  # pixels

_logger = logging.getLogger("neural_photo_editor.serve.handler")


class NeuralPhotoEditorHandler:
    """Serves one bundle; ready means that it has answered one request of each kind."""

    worker: EditWorker

    def initialize(self, context: Any) -> None:
        """Load the bundle from the model's folder and warm up.

        Raises:
            ValueError: the bundle is damaged, its parts disagree, a setting is wrong, or
                NPE_RECEIPT_KEY is no key.
            OSError: the control server's address cannot be used.
            RuntimeError: the warm-up failed; the worker must not become ready.
        """
        properties = context.system_properties
        model_config = getattr(context, "model_yaml_config", None) or {}
        options = HandlerOptions.read(model_config)
        address = ControlAddress.choose(options, os.environ)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(min(options.torch_threads, os.cpu_count() or 1))
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        pipeline = EditPipeline.from_bundle(
            Path(properties["model_dir"]),
            device=device,
            acceleration=options.acceleration,
            max_batch_pixels=options.max_batch_pixels,
            edits_at_once=options.edits_at_once,
        )
        if (key := SigningKey.from_environment()) is not None:
            precision = options.acceleration.precision
            pipeline.sign_receipts = ReceiptSigner(key, device=device, precision=precision)
        failed = [a for a in pipeline.run(_warm_up_requests()) if isinstance(a, RequestError)]
        if failed:
            raise RuntimeError(f"the warm-up failed: {failed[0]}")
        self.worker = EditWorker(
            pipeline,
            model_name=getattr(context, "model_name", ""),
            spans=Spans.from_environment(),
        )
        if address is not None:
            max_batch = int(model_config.get("batchSize", 1))
            self.worker.serve_control(address, max_batch=max_batch)

    def preprocess(
        self, rows: Sequence[Mapping[str, Any]], context: Any
    ) -> list[Request | RequestError]:
        """Turn each row into a request or into the reason why it is none."""
        requests: list[Request | RequestError] = []
        for index, row in enumerate(rows):
            try:
                content_type = _headers(context, index).get("content-type", "")
                requests.append(parse_row(row, content_type=content_type))
            except RequestError as error:
                requests.append(error)
            except Exception:
                _logger.exception("a request could not be read")
                requests.append(internal_error())
        return requests

    def inference(
        self, requests: Sequence[Request | RequestError], tickets: Sequence[Ticket]
    ) -> list[Result | RequestError]:
        """Answer the requests, each within the limits of its ticket."""
        return self.worker.answer(requests, tickets)

    def postprocess(
        self,
        requests: Sequence[Request | RequestError],
        answers: Sequence[Result | RequestError],
    ) -> list[Reply]:
        """Write each answer as an HTTP reply."""
        return [
            _to_reply(request, answer) for request, answer in zip(requests, answers, strict=True)
        ]

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch; status and headers of each item go into the context."""
        tickets = [Ticket.read(_headers(context, index)) for index in range(len(rows))]
        requests = self.preprocess(rows, context)
        replies = self.postprocess(requests, self.inference(requests, tickets))
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            self.worker.count(request, reply.status)
            _set_head(context, index, reply)
        return [reply.body for reply in replies]


def _to_reply(request: Request | RequestError, answer: Result | RequestError) -> Reply:
    if isinstance(request, RequestError) or isinstance(answer, RequestError):
        return render_error(answer if isinstance(answer, RequestError) else internal_error())
    try:
        reply = render(answer, response=request.response)
    except Exception:
        _logger.exception("a result could not be written")
        return render_error(internal_error())
    if len(reply.body) <= MAX_REPLY_BYTES:
        return reply
    return render_error(
        RequestError(
            413,
            f"the result has {len(reply.body):,} bytes, more than {MAX_REPLY_BYTES:,}",
            field="photo",
            remedy="send a smaller photo, or ask for fewer variations or format=jpeg",
        )
    )


def _headers(context: Any, index: int) -> dict[str, str]:
    """Return a request's headers by lower-case name: TorchServe looks them up as they were sent."""
    headers = context.get_all_request_header(index) or {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _set_head(context: Any, index: int, reply: Reply) -> None:
    context.set_response_status(code=reply.status, phrase=_ascii_line(reply.phrase), idx=index)
    for name, value in reply.headers.items():
        # TorchServe looks for the content type under its lower-case name.
        context.set_response_header(index, name.lower(), _ascii_line(value))


def _ascii_line(text: object) -> str:
    """Return text as one line of printable ASCII; anything else becomes a question mark."""
    return "".join(char if " " <= char <= "~" else "?" for char in str(text))


def _warm_up_requests() -> list[Request]:
    side = WARM_UP_SIDE
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    photo = encode_png(np.ascontiguousarray(np.broadcast_to(ramp[:, None, None], (side, side, 3))))
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    return [
        SegmentRequest(photo=photo),
        EditRequest(photo=photo, mask=encode_png(mask), color="#804020", strength=0.5, seed=0),
        UpscaleRequest(photo=photo),
    ]
