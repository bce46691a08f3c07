"""Files that a training can do without when the disk is full."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from neural_photo_editor.common.log import get_logger

_log = get_logger(__name__)


def write_optional(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, so that whoever follows its folder sees all of it or nothing.

    Where that fails, such as on a full disk, a warning is all, and an older file stays.

    Args:
        path: of the file; its folder is made.
        write: writes it to the path it gets.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        _log.warning("%s was not written: %s", path, error)
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
