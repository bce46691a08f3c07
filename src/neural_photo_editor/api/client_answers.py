"""Answers as they come in: a body or a stream of events, turned into progress and a result."""

import random
from typing import Generic, TypeVar

import httpx

from neural_photo_editor.api.client_calls import Call
from neural_photo_editor.api.client_errors import (
    EditError,
    foreign_answer,
    refusal,
    streamed_error,
)
from neural_photo_editor.api.stream import (
    EVENT_CONTENT_TYPE,
    EventParser,
    Progress,
    read_progress,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 128 * 2**20
"""Of a body, or of one event. Servers send at most 64 MiB."""

_MAX_REFUSAL_BYTES = 2**20
_FIRST_BACKOFF_S = 0.5
_MAX_WAIT_S = 30.0


class AnswerReader(Generic[T]):
    """Reads one answer; does no input or output."""

    def __init__(self, call: Call[T], response: httpx.Response) -> None:
        self._read = call.read
        self._status = response.status_code
        self._headers = response.headers
        self._body: list[bytes] = []
        self._num_bytes = 0
        self._events: EventParser | None = None
        self._result: str | None = None
        content_type = self._headers.get("content-type", "")
        if self._status == 200 and content_type.startswith(EVENT_CONTENT_TYPE):
            self._events = EventParser(max_bytes=MAX_ANSWER_BYTES)

    def feed(self, chunk: bytes) -> list[Progress]:
        """Take bytes and return the progress that they tell of; raises EditError."""
        if self._events is None:
            self._add(chunk)
            return []
        try:
            return self._read_events(self._events, chunk)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise foreign_answer(200, str(error), self._headers) from error

    def finish(self) -> T:
        """Return the result; raises EditError, also where the answer is cut off."""
        headers, body = self._headers, b"".join(self._body)
        if self._status != 200:
            raise refusal(self._status, headers, body)
        if self._events is not None:
            if self._result is None:
                raise foreign_answer(200, "it ended without a result", headers)
            headers, body = (
                httpx.Headers({"content-type": "application/json"}),
                self._result.encode(),
            )
        try:
            return self._read(headers, body)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise foreign_answer(200, "it cannot be read", self._headers) from error

    def _add(self, chunk: bytes) -> None:
        self._num_bytes += len(chunk)
        if self._status != 200:
            # What is beyond cannot be a problem document.
            if self._num_bytes <= _MAX_REFUSAL_BYTES:
                self._body.append(chunk)
            else:
                raise refusal(self._status, self._headers, b"")
        elif self._num_bytes > MAX_ANSWER_BYTES:
            raise foreign_answer(200, f"it has more than {MAX_ANSWER_BYTES:,} bytes", self._headers)
        else:
            self._body.append(chunk)

    def _read_events(self, parser: EventParser, chunk: bytes) -> list[Progress]:
        progress = []
        for event in parser.feed(chunk):
            if event.name == "progress":
                progress.append(read_progress(event.data))
            elif event.name == "result":
                self._result = event.data
            elif event.name == "error":
                raise streamed_error(event.data, self._headers)
        return progress


def wait_before_retry_s(failure: EditError, *, attempt: int, max_retries: int) -> float | None:
    """Return how long to wait before sending again, or None when this failure is final.

    Args:
        attempt: how often the request was sent again already.
    """
    if attempt >= max_retries or not failure.retryable:
        return None
    backoff_s: float = _FIRST_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5)
    asked_s = failure.retry_after_s
    if asked_s is None:
        return backoff_s
    # Jitter on top, so that clients turned away together do not come back together.
    return asked_s + backoff_s if asked_s <= _MAX_WAIT_S else None
