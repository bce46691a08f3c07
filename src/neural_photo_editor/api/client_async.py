"""Asynchronous client of the editing endpoint: :mod:`api.client` with coroutines."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from neural_photo_editor.api.client_answers import AnswerReader, wait_before_retry_s
from neural_photo_editor.api.client_calls import (
    DEFAULT_URL,
    WITHOUT_PROXY,
    Call,
    EditOptions,
    Endpoint,
    edit_request,
)
from neural_photo_editor.api.client_errors import EditCanceled, EditError, no_answer
from neural_photo_editor.api.image_input import ImageInput
from neural_photo_editor.api.schema import EditRequest, EditResult, SegmentResult, UpscaleResult
from neural_photo_editor.api.stream import Progress

T = TypeVar("T")
OnProgress = Callable[[Progress], bool | Awaitable[bool | None] | None]


class AsyncEditClient:
    """Asynchronous client: the methods of :class:`~neural_photo_editor.api.client.EditClient` as
    coroutines; the arguments are the same.

    >>> async with AsyncEditClient() as client:
    ...     edits = (client.edit(photo, regions=["hair"], color="#8a3ffc") for photo in photos)
    ...     results = await asyncio.gather(*edits)

    A task that is canceled closes its connection, and the server gives the edit up.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        events_timeout_s: float = 30.0,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            base_url,
            api_key=api_key,
            model=model,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            events_timeout_s=events_timeout_s,
        )
        self._max_retries = max_retries
        self._http = httpx.AsyncClient(transport=transport, mounts=WITHOUT_PROXY)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._endpoint)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._http.aclose()

    async def segment(self, photo: ImageInput) -> SegmentResult:
        """Return the label map of a photo and a table of its regions; raises EditError."""
        # Encoding and decoding large images takes long: not in the event loop.
        return await self._send(await asyncio.to_thread(self._endpoint.segment, photo), None)

    async def upscale(self, photo: ImageInput) -> UpscaleResult:
        """Return the photo enlarged by the server's upscaler; raises EditError."""
        return await self._send(await asyncio.to_thread(self._endpoint.upscale, photo), None)

    async def info(self) -> dict[str, Any]:
        """Return the server's limits, regions, bundles and receipt keys; raises EditError."""
        return await self._send(self._endpoint.info(), None)

    async def edit(
        self,
        photo: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> EditResult:
        """Return the photo with its marked pixels repainted.

        Args:
            on_progress: a function or a coroutine function; is called while the edit is made, at
                most about 8 times a second, with a preview; when it returns False, the edit is
                given up, on the server, too.
            options: as in :class:`~neural_photo_editor.api.schema.EditRequest`. All variations are
                in the result's ``images``, their signed receipts in its ``receipts``.

        Raises:
            EditError: the server refused or failed, or cannot be reached.
            EditCanceled: ``on_progress`` returned False.
        """
        request = await asyncio.to_thread(edit_request, photo, **options)
        return await self.send_edit(request, on_progress=on_progress)

    async def send_edit(
        self, request: EditRequest, *, on_progress: OnProgress | None = None
    ) -> EditResult:
        """Send an edit that was built before, such as a recipe's; otherwise like :meth:`edit`."""
        call = self._endpoint.edit(request, wants_events=on_progress is not None)
        return await self._send(call, on_progress)

    async def _send(self, call: Call[T], on_progress: OnProgress | None) -> T:
        # Outside of what reads: errors of the caller's function are not the connection's.
        receiving = self._receive(call)
        async with aclosing(receiving) as received:
            async for item in received:
                if not isinstance(item, Progress):
                    return item
                if on_progress is not None and await _goes_on(on_progress(item)) is False:
                    raise EditCanceled
        raise AssertionError("an answer ends with its result")

    async def _receive(self, call: Call[T]) -> AsyncGenerator[Progress | T, None]:
        """Send, again where that is safe, and yield what comes back, the result at last."""
        attempt = 0
        while True:
            try:
                async with self._http.stream(**call.options) as response:
                    reader = AnswerReader(call, response)
                    async for chunk in response.aiter_bytes():
                        for progress in reader.feed(chunk):
                            yield progress
                result = await asyncio.to_thread(reader.finish)
                break
            except EditError as error:
                failure = error
            except httpx.HTTPError as error:
                failure = no_answer(error)
            wait_s = wait_before_retry_s(failure, attempt=attempt, max_retries=self._max_retries)
            if wait_s is None:
                raise failure
            await asyncio.sleep(wait_s)
            attempt += 1
        yield result


async def _goes_on(answer: bool | Awaitable[bool | None] | None) -> bool | None:
    return await answer if inspect.isawaitable(answer) else answer
