"""POST /v1/edit, /v1/segment and /v1/upscale."""

import asyncio
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from neural_photo_editor.api import schema
from neural_photo_editor.api.envelope import Reply
from neural_photo_editor.api.image_opening import ImageLimits
from serve.gateway.callers import Callers
from serve.gateway.disconnects import while_connected
from serve.gateway.documentation import OPERATION_DOCS
from serve.gateway.event_stream import EVENT_CONTENT_TYPE, EventStream
from serve.gateway.forms import parse_request
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER, OnProgress
from serve.gateway.problems import to_response
from serve.gateway.records import RequestRecord, record_of
from serve.gateway.service import EditService, Principal
from serve.gateway.settings import GatewaySettings
from serve.gateway.uploads import Uploads


class EditEndpoint:
    """Reads, checks and answers the requests of one operation."""

    def __init__(
        self,
        operation: str,
        *,
        service: EditService,
        callers: Callers,
        uploads: Uploads,
        settings: GatewaySettings,
    ) -> None:
        self._operation = operation
        self._service = service
        self._callers = callers
        self._uploads = uploads
        self._heartbeat_s = settings.heartbeat_s
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )

    async def __call__(self, request: Request) -> Response:
        """Answer; what can be refused without the body is refused without it."""
        record = record_of(request)
        record.operation = self._operation
        principal = self._callers.authenticate(request)
        self._uploads.check_head(request)
        record.held.enter_context(self._service.admit(principal, self._operation))
        async with self._uploads.body(request) as body:
            parsed = await asyncio.to_thread(
                parse_request,
                self._operation,
                body,
                content_type=request.headers["content-type"],
                limits=self._limits,
            )
        del body  # The parsed request, which waits for its answer, has copies.
        if isinstance(parsed, schema.EditRequest) and _wants_events(request):
            return await self._stream(parsed, principal, record)
        reply = await while_connected(
            request,
            self._submit(parsed, principal, record, None),
        )
        return to_response(reply)

    async def _stream(
        self, parsed: schema.EditRequest, principal: Principal, record: RequestRecord
    ) -> Response:
        as_json = parsed.model_copy(update={"response": "json"})
        submit = partial(self._submit, as_json, principal, record)
        stream = EventStream(submit, heartbeat_s=self._heartbeat_s)
        await stream.until_begun()
        return stream

    async def _submit(
        self,
        parsed: schema.Request,
        principal: Principal,
        record: RequestRecord,
        on_progress: OnProgress | None,
    ) -> Reply:
        reply = await self._service.submit(
            parsed, principal=principal, request_id=record.request_id, on_progress=on_progress
        )
        record.bundle_digest = reply.headers.get(BUNDLE_HEADER, "")
        record.channel = reply.headers.get(CHANNEL_HEADER, "")
        return reply


def edit_router(
    service: EditService, callers: Callers, uploads: Uploads, settings: GatewaySettings
) -> APIRouter:
    """Return the three operations."""
    router = APIRouter(prefix="/v1", tags=["images"])
    for operation, docs in OPERATION_DOCS.items():
        endpoint = EditEndpoint(
            operation, service=service, callers=callers, uploads=uploads, settings=settings
        )
        router.add_api_route(
            f"/{operation}",
            endpoint.__call__,
            methods=["POST"],
            operation_id=operation,
            response_class=Response,
            **docs,
        )
    return router


def _wants_events(request: Request) -> bool:
    return EVENT_CONTENT_TYPE in request.headers.get("accept", "").lower()
