"""An edit as server-sent events: previews while it is made, then the result or the error."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from neural_photo_editor.api.envelope import Reply
from neural_photo_editor.api.errors import RequestError, internal_error
from serve.gateway.disconnects import wait_until_gone
from serve.gateway.forwarding import OnProgress
from serve.gateway.records import CLIENT_GONE, record_of

logger = logging.getLogger(__name__)

EVENT_CONTENT_TYPE = "text/event-stream"

_HEADERS = [
    (b"content-type", EVENT_CONTENT_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events
]
_HEARTBEAT = b": still working\n\n"
_EARLY_S = 1.0  # refusals within this time are answered with their own status
_WAITING_EVENTS = 8  # a client that reads slowly misses previews, not the result

Submit = Callable[[OnProgress], Coroutine[Any, Any, Reply]]


class EventStream(Response):
    """Runs an edit and tells of it; the edit is canceled when its client leaves.

    Args:
        submit: starts the edit, given what to call with each step.
        heartbeat_s: between comments that keep a quiet connection open, in seconds.
    """

    media_type = EVENT_CONTENT_TYPE

    def __init__(self, submit: Submit, *, heartbeat_s: float) -> None:
        super().__init__()
        self._heartbeat_s = heartbeat_s
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._first = asyncio.Event()
        self._work = asyncio.create_task(submit(self._on_progress))
        self._work.add_done_callback(lambda _: self._wake())

    async def until_begun(self) -> None:
        """Return once the edit is under way; raises the RequestError of one that is refused."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EARLY_S):
                    await self._first.wait()
        except asyncio.CancelledError:
            self._work.cancel()
            raise
        if self._work.done() and isinstance(self._work.exception(), RequestError):
            self._work.result()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(Request(scope))
        gone = asyncio.create_task(wait_until_gone(receive))
        gone.add_done_callback(lambda _: self._wake())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._send_progress(send, gone)
            if self._work.done():
                record.status, event = await self._outcome()
                await _send(send, event, more=False)
            else:
                record.status = CLIENT_GONE
        finally:
            for task in (gone, self._work):
                task.cancel()
            await asyncio.gather(gone, self._work, return_exceptions=True)

    async def _send_progress(self, send: Send, gone: asyncio.Task[None]) -> None:
        """Send what comes until the edit is done or its client has left."""
        while not gone.done():
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    event = await self._events.get()
            except TimeoutError:
                await _send(send, _HEARTBEAT, more=True)
                continue
            if event is not None:
                await _send(send, format_event("progress", json.dumps(event)), more=True)
            elif self._work.done():
                return

    async def _outcome(self) -> tuple[int, bytes]:
        try:
            reply = await self._work
        except RequestError as refusal:
            error = refusal
        except Exception:
            logger.exception("an edit failed")
            error = internal_error()
        else:
            return reply.status, format_event("result", reply.body.decode("ascii"))
        problem = error.to_problem()
        if error.retry_after_s is not None:  # There is no header any more.
            problem["retry_after_s"] = error.retry_after_s
        return int(error.status), format_event("error", json.dumps(problem))

    async def _on_progress(self, event: dict[str, Any]) -> None:
        if self._events.qsize() < _WAITING_EVENTS:
            self._events.put_nowait(event)
        self._first.set()

    def _wake(self) -> None:
        self._events.put_nowait(None)
        self._first.set()


def format_event(name: str, data: str) -> bytes:
    """Write one event; the data is one line."""
    return f"event: {name}\ndata: {data}\n\n".encode()


async def _send(send: Send, data: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
