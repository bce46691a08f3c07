"""One request to one backend: how it is written, what its answer means, and its progress."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from neural_photo_editor.api.envelope import METADATA_HEADER, Reply, to_form
from neural_photo_editor.api.errors import PROBLEM_CONTENT_TYPE, RequestError, internal_error
from neural_photo_editor.api.schema import Request
from serve.gateway.backends import Backend

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-NPE-Request-Id"
BUNDLE_HEADER = "X-NPE-Bundle"
CHANNEL_HEADER = "X-NPE-Channel"
DEADLINE_HEADER = "X-NPE-Deadline"
SENT_HEADER = "X-NPE-Sent"

_PASSING_STATUSES = (408, 429)  # those below 500 that TorchServe may answer otherwise next time
_QUEUE_FULL = "ServiceUnavailableException"

OnProgress = Callable[[dict[str, Any]], Awaitable[None]]


class NotSentError(Exception):
    """The backend could not be reached: it knows nothing of the request."""


class WorkerLostError(Exception):
    """The backend had the request and lost it: its worker or TorchServe itself died."""


class QueueFullError(Exception):
    """TorchServe has more requests waiting than it takes."""


@dataclass(frozen=True)
class EncodedForm:
    """A request as TorchServe takes it."""

    body: bytes
    content_type: str


def encode_form(request: Request) -> EncodedForm:
    """Write a request as a multipart form; takes tens of ms for large photos."""
    texts, files = to_form(request)
    # A content type of text/* or JSON would make TorchServe decode the part.
    parts = {name: (name, data, "application/octet-stream") for name, data in files.items()}
    written = httpx.Request("POST", "http://backend", data=texts, files=parts)
    return EncodedForm(written.read(), written.headers["content-type"])


async def send_form(backend: Backend, form: EncodedForm, headers: Mapping[str, str]) -> Reply:
    """Have a backend answer a form.

    Raises:
        RequestError: what the worker refused it with, 413, or 500 where it knows no such model.
        NotSentError, WorkerLostError, QueueFullError: the worker gave no answer.
    """
    try:
        response = await backend.predictions.post(
            f"/predictions/{backend.route.model}",
            content=form.body,
            headers={"Content-Type": form.content_type, **headers},
        )
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotSentError(type(error).__name__) from None
    except httpx.HTTPError as error:
        raise WorkerLostError(type(error).__name__) from None
    return _read_answer(response, backend)


def _read_answer(response: httpx.Response, backend: Backend) -> Reply:
    content_type = response.headers.get("content-type", "")
    if response.status_code == 200:
        return _to_reply(response, backend)
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    if content_type.startswith(PROBLEM_CONTENT_TYPE):
        raise RequestError.from_problem(response.status_code, problem)
    # The rest are TorchServe's own words.
    if response.status_code == 413:
        raise RequestError(
            413, "the request is too large", field=None, remedy="send smaller images"
        )
    if response.status_code == 503 and problem.get("type") == _QUEUE_FULL:
        raise QueueFullError
    if response.status_code < 500 and response.status_code not in _PASSING_STATUSES:
        logger.error(
            "backend %s answered %d: check its model's name in the routes",
            backend.route.url,
            response.status_code,
        )
        raise internal_error()
    raise WorkerLostError(f"status {response.status_code}")


def _to_reply(response: httpx.Response, backend: Backend) -> Reply:
    headers = {
        "Content-Type": response.headers.get("content-type", "application/octet-stream"),
        CHANNEL_HEADER: backend.channel,
    }
    digest = backend.bundle_digest
    metadata = response.headers.get(METADATA_HEADER)
    if metadata is not None:
        headers[METADATA_HEADER] = metadata
        # The worker may have changed since it was last asked.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            digest = str(json.loads(metadata)["bundle_digest"])
    if digest is not None:
        headers[BUNDLE_HEADER] = digest
    return Reply(200, "OK", headers, response.content)


@contextlib.asynccontextmanager
async def relayed_progress(
    backend: Backend, request_id: str, on_progress: OnProgress | None
) -> AsyncIterator[None]:
    """Pass the worker's events to a callback while the block runs; failures fail no request."""
    if on_progress is None:
        yield
        return
    relay = asyncio.create_task(_relay(backend, request_id, on_progress))
    try:
        yield
    finally:
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)


async def _relay(backend: Backend, request_id: str, on_progress: OnProgress) -> None:
    try:
        async with backend.control.stream("GET", f"/jobs/{request_id}/events") as response:
            if response.status_code != 200:
                logger.warning("no events of a job: status %d", response.status_code)
                return
            async for line in response.aiter_lines():
                event = json.loads(line) if line.strip() else {}
                if event.get("end"):
                    return
                if event:
                    await on_progress(event)
    except (httpx.HTTPError, ValueError) as error:
        logger.warning("the events of a job ended early: %s", type(error).__name__)


async def cancel_job(backend: Backend, request_id: str) -> None:
    """Tell the worker to give a job up; a worker that cannot be reached has given it up."""
    try:
        with backend.kept_open():
            await backend.control.delete(f"/jobs/{request_id}", timeout=5.0)
    except httpx.HTTPError as error:
        logger.warning("a job could not be canceled: %s", type(error).__name__)
