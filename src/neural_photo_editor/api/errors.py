"""What a refused request gets back: an HTTP status and an RFC 9457 problem document."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

PROBLEM_CONTENT_TYPE = "application/problem+json"


class RequestError(ValueError):
    """A request that cannot be answered, and what its sender can do about it.

    Attributes:
        status: HTTP status, 400..599.
        detail: one sentence saying what is wrong with this request.
        field: name of the request field at fault, or None when it is the request as a whole.
        remedy: one sentence saying what to change.
        retry_after_s: when sending it again may help, in seconds, or None; the header Retry-After.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None,
        remedy: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.field = field
        self.remedy = remedy
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.detail} ({self.remedy})"

    def to_problem(self) -> dict[str, Any]:
        """Return the members of an RFC 9457 problem document, plus ``field`` and ``remedy``."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "field": self.field,
            "remedy": self.remedy,
        }

    @classmethod
    def from_problem(cls, status: int, problem: Mapping[str, Any]) -> Self:
        """Read a problem document: the inverse of :meth:`to_problem`; what is missing is empty."""
        field = problem.get("field")
        return cls(
            status,
            str(problem.get("detail") or HTTPStatus(status).phrase),
            field=str(field) if field is not None else None,
            remedy=str(problem.get("remedy") or ""),
        )


def internal_error() -> RequestError:
    """Return the answer to a request that failed for a reason that is not the sender's."""
    return RequestError(
        500,
        "the server failed to answer this request",
        field=None,
        remedy="send it again; if it fails again, report it with the server's log",
    )
