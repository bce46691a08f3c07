"""The same pipeline behind other servers, as their documentation shows.

    PYTHONPATH=outputs/peers python benchmarks/serving_peers.py NAME BUNDLE PORT EDITS_AT_ONCE

Each takes the JSON document of an edit at POST /predict and answers with the JSON result. An edit
has OMP_NUM_THREADS threads.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from litserve import LitAPI, LitServer

from neural_photo_editor.api.envelope import Reply, parse_row, render, render_error
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import Request
from neural_photo_editor.editing.pipeline import EditPipeline

FASTAPI, LITSERVE, LITSERVE_BATCHED = "FastAPI with a lock", "LitServe", "LitServe, our batches"
BATCH_TIMEOUT_S = 0.005  # the worker's own maxBatchDelay


def parse(document: dict[str, Any]) -> Request:
    """Read the JSON document of an edit."""
    return parse_row({"body": {**document, "operation": "edit"}})


def answer(pipeline: EditPipeline, requests: Sequence[Request]) -> list[Reply]:
    """Run requests together and write their results."""
    return [
        render_error(result)
        if isinstance(result, RequestError)
        else render(result, response="json")
        for result in pipeline.run(requests)
    ]


def to_response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, media_type=reply.headers["Content-Type"])


def serve_fastapi(bundle: Path, port: int) -> None:
    """One edit at a time: the pipeline is not for several threads."""
    app, lock = FastAPI(), Lock()
    pipeline = EditPipeline.from_bundle(bundle)

    @app.post("/predict")
    def predict(document: dict[str, Any]) -> Response:
        request = parse(document)
        with lock:
            reply = answer(pipeline, [request])[0]
        return to_response(reply)

    uvicorn.run(app, port=port, log_level="warning")


class Editor(LitAPI):  # type: ignore[misc]
    """LitServe starts its worker with a copy of this; the bundle is named in the environment."""

    def setup(self, device: str) -> None:
        self.pipeline = EditPipeline.from_bundle(
            Path(os.environ["BUNDLE"]),
            device=device,
            edits_at_once=int(os.environ["EDITS_AT_ONCE"]),
        )

    def decode_request(self, request: dict[str, Any]) -> Request:
        return parse(request)

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, x: Request | list[Request]) -> Any:
        return answer(self.pipeline, x) if isinstance(x, list) else answer(self.pipeline, [x])[0]

    def unbatch(self, output: list[Reply]) -> list[Reply]:
        return output

    def encode_response(self, output: Reply) -> Response:
        return to_response(output)


def serve_litserve(bundle: Path, port: int, *, max_batch_size: int) -> None:
    """One worker, as ours; batches wait for company as long as ours."""
    os.environ["BUNDLE"] = str(bundle)
    timeout_s = BATCH_TIMEOUT_S if max_batch_size > 1 else 0.0
    api = Editor(max_batch_size=max_batch_size, batch_timeout=timeout_s)
    server = LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


def main() -> None:
    name, bundle, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    os.environ["EDITS_AT_ONCE"] = sys.argv[4]
    if name == FASTAPI:
        serve_fastapi(bundle, port)
    else:
        serve_litserve(bundle, port, max_batch_size=4 if name == LITSERVE_BATCHED else 1)


if __name__ == "__main__":
    main()
