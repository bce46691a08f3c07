"""Edits as streams of events, by both clients: progress, cancellation, errors on the way."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from neural_photo_editor.api import (
    AsyncEditClient,
    EditCanceled,
    EditClient,
    EditError,
    EditResult,
    Progress,
    RequestError,
)
from neural_photo_editor.api.client_errors import streamed_error
from neural_photo_editor.api.envelope import render
from neural_photo_editor.api.schema import EditMetadata
from serve.gateway.event_stream import format_event

RESULT = EditResult(
    image=b"a",
    more_images=(b"b",),
    receipts=({"n": 1}, {"n": 2}),
    metadata=EditMetadata(
        width=4,
        height=4,
        bundle_digest="d",
        seed=1,
        sampler="ddim",
        steps=4,
        timestep=9,
        strength=1,
    ),
)
DONE = format_event("result", render(RESULT, response="json").body.decode())
REFUSED = RequestError(503, "no worker", field=None, remedy="wait", retry_after_s=1)
HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-npe-request-id": "a1"}


def step(number: int) -> bytes:
    preview = base64.b64encode(b"webp %d" % number).decode()
    event = {"step": number, "total_steps": 4, "crop": [0, 0, 4, 4], "preview": preview}
    return format_event("progress", json.dumps(event))


class Wire(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Sends chunks, or fails in their place, and knows how far it came."""

    def __init__(self, *chunks: bytes | httpx.TransportError) -> None:
        self.chunks = chunks
        self.num_sent = 0
        self.requests: list[httpx.Request] = []
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, httpx.TransportError):
                raise chunk
            self.num_sent += 1
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, headers=HEADERS, stream=self)


def edit_blocking(wire: Wire, on_progress: Callable[[Progress], Any]) -> EditResult:
    with EditClient("http://server", transport=httpx.MockTransport(wire.answer)) as client:
        return client.edit(b"photo", regions=["hair"], on_progress=on_progress)


def edit_async(wire: Wire, on_progress: Callable[[Progress], Any]) -> EditResult:
    async def edit() -> EditResult:
        transport = httpx.MockTransport(wire.answer)
        async with AsyncEditClient("http://server", transport=transport) as client:
            return await client.edit(b"photo", regions=["hair"], on_progress=on_progress)

    return asyncio.run(edit())


def edit_with_a_coroutine(wire: Wire, on_progress: Callable[[Progress], Any]) -> EditResult:
    async def call(progress: Progress) -> Any:
        await asyncio.sleep(0)
        return on_progress(progress)

    return edit_async(wire, call)


every = pytest.mark.parametrize("edit", [edit_blocking, edit_async, edit_with_a_coroutine])
Edit = Callable[[Wire, Callable[[Progress], Any]], EditResult]


@every
def test_progress_and_then_the_result(edit: Edit) -> None:
    seen: list[Progress] = []
    text = step(1) + b": still working\n\n" + step(4) + DONE
    wire = Wire(text[:50], text[50:300], text[300:])
    result = edit(wire, seen.append)
    assert result == RESULT
    assert seen == [Progress(n, 4, b"webp %d" % n, (0, 0, 4, 4)) for n in (1, 4)]
    assert wire.requests[0].headers["accept"] == "text/event-stream"
    assert wire.requests[0].headers["accept-encoding"] == "identity"
    assert wire.closed


@every
def test_false_closes_the_stream_and_other_answers_do_not(edit: Edit) -> None:
    wire = Wire(step(1), step(2), step(3), DONE)
    with pytest.raises(EditCanceled):
        edit(wire, lambda progress: progress.step < 2)
    assert (wire.num_sent, wire.closed) == (2, True)
    assert edit(Wire(step(1), step(2), DONE), lambda progress: 0) == RESULT


@every
@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt(), httpx.ConnectError("x"), EditError(503, "x", retryable=True)]
)
def test_what_the_callers_function_raises_closes_the_stream_and_is_not_retried(
    edit: Edit, raised: BaseException
) -> None:
    def fail(progress: Progress) -> None:
        raise raised

    wire = Wire(step(1), DONE)
    with pytest.raises(type(raised)) as caught:
        edit(wire, fail)
    assert caught.value is raised
    assert (wire.num_sent, wire.closed, len(wire.requests)) == (1, True, 1)


@every
@pytest.mark.parametrize(
    ("wire", "status", "detail"),
    [
        (Wire(step(1), format_event("error", json.dumps(REFUSED.to_problem()))), 503, "no worker"),
        (Wire(format_event("error", "?")), 500, "Internal Server Error"),
        (Wire(step(1), httpx.ReadError("reset")), None, "reset"),
        (Wire(step(1), httpx.ReadTimeout("slow")), None, "slow"),
        (Wire(step(1)), 200, "ended without a result"),
        (Wire(step(1), DONE[:-1]), 200, "ended without a result"),
        (Wire(format_event("progress", "{}")), 200, "not one of this program's"),
        (Wire(format_event("result", "{}")), 200, "cannot be read"),
        (Wire(b"data: \xff\n"), 200, "not one of this program's"),
    ],
)  # fmt: skip
def test_a_stream_that_was_begun_is_never_sent_again(
    edit: Edit, wire: Wire, status: int | None, detail: str
) -> None:
    wire.requests.clear()
    with pytest.raises(EditError, match=detail) as caught:
        edit(wire, lambda progress: None)
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert caught.value.request_id == (None if status is None else "a1")
    assert len(wire.requests) == 1


def test_a_canceled_task_closes_the_stream() -> None:
    wire = Wire(step(1), step(2), DONE)

    async def edit() -> None:
        task = asyncio.current_task()
        assert task is not None

        async def cancel(progress: Progress) -> None:
            task.cancel()
            await asyncio.sleep(0)

        async with AsyncEditClient(
            "http://a", transport=httpx.MockTransport(wire.answer)
        ) as client:
            await client.edit(b"photo", regions=["hair"], on_progress=cancel)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(edit())
    assert (wire.num_sent, wire.closed) == (1, True)


def test_a_server_that_streams_nothing_is_understood() -> None:
    reply = render(RESULT, response="json")
    answer = httpx.Response(200, headers=reply.headers, content=reply.body)
    transport = httpx.MockTransport(lambda request: answer)
    seen: list[Progress] = []
    with EditClient("http://server", transport=transport) as client:
        assert client.edit(b"photo", regions=["hair"], on_progress=seen.append) == RESULT
    assert seen == []


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(2.5, 2.5), (0, 0.0), (-1, None), ("2", None), (True, None), (None, None)],
)
def test_an_error_on_the_way_says_when_to_try_again(wait: object, expected: float | None) -> None:
    problem = {**REFUSED.to_problem(), "retry_after_s": wait}
    error = streamed_error(json.dumps(problem), HEADERS)
    assert error.retry_after_s == expected
    assert not error.retryable  # It was begun.
