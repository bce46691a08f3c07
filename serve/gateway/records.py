"""What is noted about one HTTP request while it is answered, for the log and the metrics."""

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Scope

_KEY = "npe.record"

CLIENT_GONE = 499  # nginx' number for a client that left before it was answered


@dataclass
class RequestRecord:
    """Filled in by whoever learns it.

    Attributes:
        request_id: 32 hexadecimal digits, in the reply's header and the log.
        started: time.perf_counter() when the head had arrived.
        operation: ``edit``, ``segment``, ``upscale``, or what else was asked for.
        key_id: public name of the key.
        bytes_in, bytes_out: sizes of the bodies as far as they were read and written.
        bundle_digest, channel: who answered.
        status: how it ended, where that is not the status of its head.
        held: what is given back when the answer is out.
    """

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.perf_counter)
    operation: str = "other"
    key_id: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    bundle_digest: str = ""
    channel: str = ""
    status: int | None = None
    held: ExitStack = field(default_factory=ExitStack)


def begin_record(scope: Scope) -> RequestRecord:
    """Start the record of a request."""
    record = RequestRecord()
    scope[_KEY] = record
    return record


def record_of(request: Request) -> RequestRecord:
    """Return the record of the request that is being answered."""
    record = request.scope[_KEY]
    assert isinstance(record, RequestRecord)
    return record
