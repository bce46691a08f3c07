"""Answering before a body has arrived: the answer must still reach its client.

A connection that is closed while its client is sending is reset, and the client may lose what it
was sent. So after a refusal the rest of the body is read and forgotten, for a while.
"""

import asyncio
import contextlib
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S = 5.0
_LINGER_BYTES = 64 * 2**20
_KEPT_BODY_BYTES = 2**20  # after refusing smaller bodies the connection stays open


class LingeringMiddleware:
    """Sends an early answer at once and reads what is left of the body before it ends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        unread = True

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                unread = False
            return message

        async def send_first(message: Message) -> None:
            nonlocal unread
            if not unread:
                await _send_to_the_end(send, message)
            elif message["type"] == "http.response.start":
                too_slow = message["status"] == HTTPStatus.REQUEST_TIMEOUT
                if too_slow or not _is_small(Headers(scope=scope)):
                    MutableHeaders(scope=message)["Connection"] = "close"
                unread = not too_slow  # It was waited for long enough.
                await send(message)
            elif message.get("more_body", False):
                await send(message)
            else:
                await send({**message, "more_body": True})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_S):
                        await _discard(receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive_noting, send_first)


async def _send_to_the_end(send: Send, message: Message) -> None:
    """Send; a large answer's request goes on, and counts, until the client has taken most of it."""
    if message["type"] == "http.response.body" and not message.get("more_body", False):
        # The server waits for the client before it sends what follows.
        await send({**message, "more_body": True})
        message = {"type": "http.response.body", "body": b"", "more_body": False}
    await send(message)


async def _discard(receive: Receive) -> None:
    read = 0
    while read < _LINGER_BYTES:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _is_small(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return length.isdigit() and int(length) <= _KEPT_BODY_BYTES
