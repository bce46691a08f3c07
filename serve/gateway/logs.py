"""Logs as lines of JSON. None holds an image, a key, a file's name or a path."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from serve.gateway.records import RequestRecord

_access = logging.getLogger("serve.gateway.access_log")
_QUIET = ("httpx", "httpcore", "asyncio", "python_multipart")


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what ``extra={"fields": ...}`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _describe(record.exc_info[1])
        return json.dumps(line)


def _describe(error: BaseException) -> dict[str, Any]:
    """Tell an exception's kind and place. Its text may quote a request, and files are paths."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "stack": [f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _module(filename: str) -> str:
    return "/".join(filename.rsplit("/", maxsplit=2)[-2:])


def configure_logs() -> None:
    """Send every log of this process to stderr, one line of JSON each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_request(record: RequestRecord, *, status: int, seconds: float) -> None:
    """Write the line of one answered request."""
    fields = {
        "request_id": record.request_id,
        "key_id": record.key_id,
        "operation": record.operation,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "bundle_digest": record.bundle_digest,
        "channel": record.channel,
    }
    _access.info("request", extra={"fields": fields})
