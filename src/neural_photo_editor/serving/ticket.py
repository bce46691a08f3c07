"""What the gateway says of a request besides the request: who it is, how long it may take."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.serving.job_registry import parse_job_id

REQUEST_ID_HEADER = "X-NPE-Request-Id"
DEADLINE_HEADER = "X-NPE-Deadline"
SENT_HEADER = "X-NPE-Sent"
TRACE_HEADER = "traceparent"


@dataclass(frozen=True)
class Ticket:
    """The headers of one request; None is what was absent or cannot be read.

    Attributes:
        job_id: X-NPE-Request-Id, 32 hexadecimal digits.
        deadline: X-NPE-Deadline, when the answer is of use no longer, in seconds of Unix time.
        sent: X-NPE-Sent, when the gateway sent the request, in seconds of Unix time.
        traceparent: W3C trace context.
    """

    job_id: str | None = None
    deadline: float | None = None
    sent: float | None = None
    traceparent: str | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "Ticket":
        """Read headers, whose names may be in any case."""
        values = {name.lower(): str(value).strip() for name, value in headers.items()}
        return cls(
            job_id=parse_job_id(values.get(REQUEST_ID_HEADER.lower(), "")),
            deadline=_seconds(values.get(DEADLINE_HEADER.lower())),
            sent=_seconds(values.get(SENT_HEADER.lower())),
            traceparent=values.get(TRACE_HEADER),
        )


def deadline_error() -> RequestError:
    """Return the answer to a request whose time is over."""
    return RequestError(
        504,
        "the request was not answered in the time it had",
        field=None,
        remedy="send it again later, with fewer steps or variations, or with more time",
    )


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
