"""The editor over gRPC: the same requests, keys, limits and refusals as over HTTP."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc

from neural_photo_editor.api.envelope import Reply
from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.image_opening import ImageLimits
from serve.gateway.access import secret_from
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER, REQUEST_ID_HEADER, OnProgress
from serve.gateway.grpc_messages import (
    progress_event,
    read_request,
    result_event,
    write_response,
)
from serve.gateway.grpc_status import code_of, metadata_of
from serve.gateway.logs import log_request
from serve.gateway.records import CLIENT_GONE, RequestRecord
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

SERVICE = "neural_photo_editor.v1.Editor"

_WAITING_EVENTS = 8  # a client that reads slowly misses previews, not the result

Messages = AsyncIterator[bytes]
Context = grpc.aio.ServicerContext[bytes, bytes]


class EditorService:
    """Answers the methods of editor.proto.

    Every method is handled as if messages streamed both ways, which on the wire is the same: so a
    key is checked before the message is read, which has a time limit.
    """

    def __init__(self, settings: GatewaySettings, service: EditService) -> None:
        self._settings = settings
        self._service = service
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        # A message is in memory, by an unknown share, from its first byte until it is decoded.
        at_once = settings.max_upload_bytes_total // settings.max_request_bytes
        self._reading = asyncio.Semaphore(max(1, at_once))

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a server needs to be told."""
        methods: dict[str, Callable[[Messages, Context], Awaitable[None]]] = {
            "Edit": partial(self._answer, "edit"),
            "EditStream": self._stream,
            "Segment": partial(self._answer, "segment"),
            "Upscale": partial(self._answer, "upscale"),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {name: grpc.stream_stream_rpc_method_handler(one) for name, one in methods.items()},
        )

    async def _answer(self, operation: str, messages: Messages, context: Context) -> None:
        async with self._rpc(operation, context) as record:
            reply = await self._submit(messages, context, record, None)
            response = await asyncio.to_thread(write_response, operation, reply)
            await self._write(context, record, response)

    async def _stream(self, messages: Messages, context: Context) -> None:
        events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def on_progress(event: dict[str, Any]) -> None:
            if events.qsize() < _WAITING_EVENTS:
                events.put_nowait(event)

        async with self._rpc("edit", context) as record:
            work = asyncio.create_task(self._submit(messages, context, record, on_progress))
            work.add_done_callback(lambda _: events.put_nowait(None))
            try:
                while (event := await events.get()) is not None:
                    await self._write(context, record, progress_event(event))
                result = await asyncio.to_thread(result_event, await work)
                await self._write(context, record, result)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _submit(
        self,
        messages: Messages,
        context: Context,
        record: RequestRecord,
        on_progress: OnProgress | None,
    ) -> Reply:
        principal = self._service.authenticate(secret_from(_metadata_of(context)))
        record.key_id = principal.key_id
        record.held.enter_context(self._service.admit(principal, record.operation))
        async with self._message(messages, record) as data:
            request = await asyncio.to_thread(
                read_request, record.operation, data, limits=self._limits
            )
        reply = await self._service.submit(
            request,
            principal=principal,
            request_id=record.request_id,
            on_progress=on_progress,
            timeout_s=context.time_remaining(),
        )
        record.bundle_digest = reply.headers.get(BUNDLE_HEADER, "")
        record.channel = reply.headers.get(CHANNEL_HEADER, "")
        return reply

    @asynccontextmanager
    async def _message(self, messages: Messages, record: RequestRecord) -> AsyncIterator[bytes]:
        """Read a call's message and hold it for the block; raises RequestError 400 or 408."""
        timeout_s = self._settings.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._reading.acquire()
                try:
                    data = await anext(messages, None)
                except BaseException:
                    self._reading.release()
                    raise
        except TimeoutError:
            self._service.metrics.refusals.labels("slow_body").inc()
            raise RequestError(
                408,
                "the message did not arrive in time",
                field=None,
                remedy=f"send it within {timeout_s:g} s",
            ) from None
        try:
            if data is None:
                raise RequestError(400, "no message came", field=None, remedy="send one message")
            record.bytes_in = len(data)
            self._service.metrics.upload_bytes.inc(len(data))
            yield data
        finally:
            self._reading.release()

    async def _write(self, context: Context, record: RequestRecord, message: bytes) -> None:
        """Send a message; a caller who does not read is cut with his connection, by its age."""
        await context.write(message)
        record.bytes_out += len(message)

    @asynccontextmanager
    async def _rpc(self, operation: str, context: Context) -> AsyncIterator[RequestRecord]:
        """Note and log a call; turn what its block raises into a status."""
        record = RequestRecord(operation=operation)
        status = CLIENT_GONE
        try:
            given = _metadata_of(context).get("traceparent")
            with self._service.tracing.request("request", given):
                yield record
            status = 200
            context.set_trailing_metadata(_trailing(record))
        except RequestError as error:
            status = int(error.status)
            await _abort(context, record, error)
        except Exception:
            logger.exception("a call failed")
            status = 500
            await _abort(context, record, internal_error())
        finally:
            record.held.close()
            seconds = time.perf_counter() - record.started
            log_request(record, status=status, seconds=seconds)
            metrics = self._service.metrics
            metrics.requests.labels(operation, str(status), record.channel).inc()
            metrics.latency.labels(operation).observe(seconds)


async def _abort(context: Context, record: RequestRecord, error: RequestError) -> None:
    trailing = (*_trailing(record), *metadata_of(error))
    await context.abort(code_of(error), str(error), trailing)


def _trailing(record: RequestRecord) -> tuple[tuple[str, str], ...]:
    told = {
        REQUEST_ID_HEADER: record.request_id,
        BUNDLE_HEADER: record.bundle_digest,
        CHANNEL_HEADER: record.channel,
    }
    return tuple((name.lower(), value) for name, value in told.items() if value)


def _metadata_of(context: Context) -> dict[str, str]:
    """Return the call's text metadata; several values of a name are joined by commas."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found[name] = f"{found[name]},{value}" if name in found else value
    return found
