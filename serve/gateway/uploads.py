"""Reading request bodies within limits of size, time and memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from neural_photo_editor.api.errors import RequestError
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.records import record_of
from serve.gateway.settings import GatewaySettings

CONTENT_TYPES = ("multipart/form-data", "application/json")


class Uploads:
    """Reads bodies, and bounds the bytes of all that are held at once."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._held_bytes = 0

    def check_head(self, request: Request) -> None:
        """Refuse what the head shows to be too large or of a wrong type.

        Raises:
            RequestError: 413 too large, 415 neither a form nor JSON.
        """
        check_content_type(request)
        declared = request.headers.get("content-length", "0")
        size = int(declared) if declared.isdigit() else 0
        if size > self._settings.max_request_bytes:
            raise self._too_large()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body and hold it for the block.

        Raises:
            RequestError: 408 too slow, 413 too large, 503 too much is held already.
            ClientDisconnect: the sender left.
        """
        taken = 0
        record = record_of(request)
        chunks: list[bytes] = []
        try:
            async for chunk in self._chunks(request):
                taken += len(chunk)
                self._held_bytes += len(chunk)
                record.bytes_in = taken
                self._metrics.upload_bytes.inc(len(chunk))
                if taken > self._settings.max_request_bytes:
                    raise self._too_large()
                if self._held_bytes > self._settings.max_upload_bytes_total:
                    raise self._no_memory()
                chunks.append(chunk)
            whole = b"".join(chunks)
            chunks.clear()
            yield whole
        finally:
            self._held_bytes -= taken

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body as it arrives: at a rate on average, and without long pauses."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        started = loop.time()
        read = 0
        stream = request.stream()
        while True:
            allowed_s = settings.rate_grace_s + read / settings.min_bytes_per_s
            deadline = started + min(allowed_s, settings.body_timeout_s)
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + settings.rate_grace_s)):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise self._too_slow() from None
            if chunk is None:
                return
            read += len(chunk)
            yield chunk

    def _too_slow(self) -> RequestError:
        self._metrics.refusals.labels("slow_body").inc()
        return RequestError(
            408,
            "the request's body did not arrive in time",
            field=None,
            remedy=f"send it within {self._settings.body_timeout_s:g} s and at no less than "
            f"{self._settings.min_bytes_per_s:,} bytes/s",
        )

    def _too_large(self) -> RequestError:
        self._metrics.refusals.labels("too_large").inc()
        return RequestError(
            413,
            f"the request has more than {self._settings.max_request_bytes:,} bytes",
            field=None,
            remedy="send smaller or more strongly compressed images",
        )

    def _no_memory(self) -> RequestError:
        self._metrics.refusals.labels("uploads").inc()
        return RequestError(
            503,
            "too many uploads are under way",
            field=None,
            remedy="send it again after the time in Retry-After",
            retry_after_s=self._settings.retry_after_s,
        )


def content_type_of(request: Request) -> str:
    """Return the media type without its parameters, in lower case."""
    given: str = request.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower()


def check_content_type(request: Request) -> None:
    """Raise RequestError 415 unless the body is a multipart form or JSON."""
    if content_type_of(request) not in CONTENT_TYPES:
        given = request.headers.get("content-type", "")[:80]
        raise RequestError(
            415,
            f"the content type {given!a} is not supported" if given else "no content type is given",
            field=None,
            remedy=f"send {' or '.join(CONTENT_TYPES)}",
        )
