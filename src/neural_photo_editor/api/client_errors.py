"""What the clients raise, and how answers of servers and failures of networks become that."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

_REQUEST_ID_HEADER = "x-npe-request-id"
_DECLINED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_MAX_TEXT_CHARACTERS = 500


class EditError(Exception):
    """The server refused or failed, or could not be reached.

    Attributes:
        status: HTTP status, or None when no answer came.
        detail: what is wrong.
        field: name of the request field at fault, if one is.
        remedy: what to do about it, if known.
        request_id: name of the request in the server's log, if it was answered.
        retry_after_s: when to try again, in seconds, if the server says so.
        retryable: whether the request was not begun: no connection was made, or it was declined
            with 429 or 503.
    """

    def __init__(
        self,
        status: int | None,
        detail: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.remedy = remedy
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.retryable = retryable

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        status = f"[{self.status}] " if self.status else ""
        return f"{status}{where}{self.detail}{remedy}"


class WrongRequestError(EditError):
    """The request is wrong, as the server would say; it was not sent."""


class EditCanceled(Exception):  # noqa: N818 -- nothing went wrong
    """``on_progress`` returned False; the connection is closed, and the server gives up, too."""


def no_answer(error: httpx.HTTPError) -> EditError:
    """Return the error of a request that no answer, or no whole answer, came to."""
    kind = type(error).__name__
    failure = EditError(
        None,
        f"no answer from the server: {error or kind} ({kind})",
        remedy="check that the server runs at this address, or allow a longer timeout",
        retryable=isinstance(error, _NOTHING_SENT),
    )
    failure.__cause__ = error
    return failure


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> EditError:
    """Read a problem document, or make the best of another body (proxies, TorchServe itself)."""
    failure = _from_problem(status, _json_object(body))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and failure.remedy is None:
        failure.remedy = "send smaller images: the server reads at most 32 MiB in one request"
    failure.request_id = request_id(headers)
    failure.retry_after_s = retry_after_s(headers)
    failure.retryable = status in _DECLINED
    return failure


def streamed_error(data: str, headers: Mapping[str, str]) -> EditError:
    """Return the error of an event ``error``; the edit was begun, so it is never retryable."""
    problem = _json_object(data.encode())
    status = problem.get("status")
    failure = _from_problem(status if isinstance(status, int) else 500, problem)
    failure.request_id = request_id(headers)
    wait_s = problem.get("retry_after_s")
    if isinstance(wait_s, int | float) and not isinstance(wait_s, bool) and 0 <= wait_s < math.inf:
        failure.retry_after_s = float(wait_s)
    return failure


def foreign_answer(status: int, reason: str, headers: Mapping[str, str]) -> EditError:
    """Return the error of an answer that is not what this program's server sends."""
    return EditError(
        status,
        f"the answer is not one of this program's: {reason}",
        remedy="check that the address is a Neural Photo Editor server of this version",
        request_id=request_id(headers),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return what the server's log calls the request, if the answer says so."""
    return _text(headers.get(_REQUEST_ID_HEADER))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, given in seconds or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _from_problem(status: int, problem: Mapping[str, Any]) -> EditError:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"status {status}"
    return EditError(
        status,
        _text(problem.get("detail")) or _text(problem.get("message")) or phrase,
        field=_text(problem.get("field")),
        remedy=_text(problem.get("remedy")),
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str | None:
    """Return a server's text as it may be shown on a terminal, or None where there is none."""
    if not isinstance(value, str):
        return None
    return "".join(c for c in value[:_MAX_TEXT_CHARACTERS] if c.isprintable()) or None
