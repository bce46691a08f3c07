"""KServe's Open Inference Protocol, version 2: the editor as a model of tensors, under /v2."""

import asyncio
from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from neural_photo_editor.api.envelope import operation_of
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_opening import ImageLimits
from serve.gateway.callers import Callers
from serve.gateway.disconnects import while_connected
from serve.gateway.documentation import EXAMPLE_PNG, problem_responses
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER
from serve.gateway.health import check_ready
from serve.gateway.kserve_tensors import (
    INPUTS,
    MODEL,
    OUTPUTS,
    InferResponse,
    read_infer_request,
    write_infer_response,
)
from serve.gateway.records import record_of
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings
from serve.gateway.uploads import Uploads, content_type_of

_JSON = "application/json"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            _JSON: {
                "schema": {"$ref": "#/components/schemas/InferRequest"},
                "example": {
                    "inputs": [
                        {
                            "name": "photo",
                            "datatype": "BYTES",
                            "shape": [1],
                            "parameters": {"content_type": "base64"},
                            "data": [EXAMPLE_PNG],
                        }
                    ],
                    "parameters": {"regions": "hair", "color": "#8a3ffc"},
                },
            }
        },
    }
}


class ServerMetadata(BaseModel):
    """What answers."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor; -1 stands for any number. Inputs but ``photo`` may be left out."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model's tensors; its versions are the digests of the bundles that are being served."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class InferEndpoint:
    """Reads, checks and answers inference requests."""

    def __init__(
        self, service: EditService, callers: Callers, uploads: Uploads, settings: GatewaySettings
    ) -> None:
        self._service = service
        self._callers = callers
        self._uploads = uploads
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )

    async def __call__(self, request: Request) -> Response:
        """Answer; what can be refused without the body is refused without it."""
        record = record_of(request)
        record.operation = "infer"
        principal = self._callers.authenticate(request)
        _check_is_json(request)
        self._uploads.check_head(request)
        # Which operation it is stands in the body; submit() checks that the key allows it.
        operation = min(principal.allows, default="edit")
        record.held.enter_context(self._service.admit(principal, operation))
        async with self._uploads.body(request) as body:
            parsed, infer = await asyncio.to_thread(read_infer_request, body, limits=self._limits)
        del body  # The parsed request, which waits for its answer, has copies.
        record.operation = operation_of(parsed)
        reply = await while_connected(
            request,
            self._service.submit(parsed, principal=principal, request_id=record.request_id),
        )
        record.bundle_digest = reply.headers.get(BUNDLE_HEADER, "")
        record.channel = reply.headers.get(CHANNEL_HEADER, "")
        answer = await asyncio.to_thread(write_infer_response, reply, infer)
        named = (BUNDLE_HEADER, CHANNEL_HEADER)
        headers = {name: reply.headers[name] for name in named if name in reply.headers}
        return Response(answer, media_type=_JSON, headers=headers)


def kserve_router(
    service: EditService, callers: Callers, uploads: Uploads, settings: GatewaySettings
) -> APIRouter:
    """Return the paths of the protocol."""
    router = APIRouter(prefix="/v2", tags=["inference protocol"])
    router.add_api_route(
        f"/models/{MODEL}/infer",
        InferEndpoint(service, callers, uploads, settings).__call__,
        methods=["POST"],
        operation_id="infer",
        summary="Ask for an edit, regions or an enlarged photo as tensors",
        description="Inputs are named as the fields of the operations; `operation` says which of "
        "the three it is, and without it is an edit.",
        response_class=Response,
        responses={200: {"model": InferResponse}, **problem_responses()},
        openapi_extra=_BODY,
    )

    @router.get(f"/models/{MODEL}", operation_id="model_metadata", responses=problem_responses(401))
    async def model_metadata(request: Request) -> ModelMetadata:
        """Tell the model's inputs, outputs and versions."""
        record_of(request).operation = "info"
        callers.authenticate(request)
        return describe_model(service)

    _add_probes(router, service)
    return router


def _add_probes(router: APIRouter, service: EditService) -> None:
    @router.get("", operation_id="server_metadata")
    async def server_metadata(request: Request) -> ServerMetadata:
        """Tell what answers."""
        record_of(request).operation = "info"
        return ServerMetadata(name=MODEL, version=version("neural-photo-editor"), extensions=[])

    @router.get("/health/live", operation_id="live")
    async def live(request: Request) -> Live:
        """Tell that the process answers."""
        record_of(request).operation = "healthz"
        return Live(live=True)

    @router.get("/health/ready", operation_id="ready", responses=problem_responses(503))
    async def ready(request: Request) -> Ready:
        """Tell whether requests are welcome."""
        record_of(request).operation = "readyz"
        check_ready(service)
        return Ready(ready=True)

    @router.get(
        f"/models/{MODEL}/ready", operation_id="model_ready", responses=problem_responses(503)
    )
    async def model_ready(request: Request) -> ModelReady:
        """Tell whether requests are welcome."""
        record_of(request).operation = "readyz"
        check_ready(service)
        return ModelReady(name=MODEL, ready=True)


def describe_model(service: EditService) -> ModelMetadata:
    """Return the model's tensors and the bundles behind it."""
    digests = {backend.bundle_digest for backend in service.pool.production()}
    return ModelMetadata(
        name=MODEL,
        versions=sorted(digest for digest in digests if digest),
        platform="pytorch_mar",
        inputs=[
            TensorMetadata(
                name=name, datatype=datatypes[0], shape=[-1] if name == "regions" else [1]
            )
            for name, datatypes in INPUTS.items()
        ],
        outputs=[
            TensorMetadata(name=name, datatype="BYTES", shape=[1] if name == "metadata" else [-1])
            for name in OUTPUTS
        ],
    )


def _check_is_json(request: Request) -> None:
    if content_type_of(request) != _JSON:
        raise RequestError(
            415,
            "the body is not JSON",
            field=None,
            remedy=f"send {_JSON}; binary tensors are not taken",
        )
