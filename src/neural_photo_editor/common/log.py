"""Logging that only process 0 of a distributed job writes at levels below WARNING."""

import logging
import os
import sys


class _RankZeroFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Read at each record: launchers set RANK after this module is imported.
        rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        return rank == 0 or record.levelno >= logging.WARNING


def configure_logging(level: int = logging.INFO) -> None:
    """Send the package's log to stderr, one line a record; safe to call more than once."""
    root = logging.getLogger("neural_photo_editor")
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    handler.addFilter(_RankZeroFilter())
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False


def get_logger(name: str) -> logging.Logger:
    """Return a logger below ``neural_photo_editor`` for a module's ``__name__``."""
    if not name.startswith("neural_photo_editor"):
        name = f"neural_photo_editor.{name}"
    return logging.getLogger(name)
