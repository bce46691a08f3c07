"""Reading a metrics.csv while it is written."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

FileState = list[int]
"""Inode number and time of change, in nanoseconds: another one after every replacement."""


def file_state(path: Path) -> FileState | None:
    """Return a file's state, None if it is absent."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_ino, stat.st_mtime_ns]


class MetricsTail:
    """Yields the rows of a metrics.csv as they come.

    Only what was appended is read. Where the file was replaced, as it is for a new column, it is
    read again and yields its rows from the first one that differs.

    Args:
        path: the file; it may not exist yet.
        stale: state of the file that an earlier training left, whose last rows this training will
            replace: while it is in that state, nothing is read.
    """

    def __init__(self, path: Path, *, stale: FileState | None = None) -> None:
        self.path = path
        self.stale = stale
        self._file: IO[bytes] | None = None
        self._columns: list[str] | None = None
        self._number = 0
        self._seen: list[int] = []

    def read(self) -> Iterator[dict[str, float]]:
        """Yield the new rows that are complete."""
        if not self._open():
            return
        assert self._file is not None
        start = self._file.tell()
        data = self._file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._file.seek(start + len(complete))
        for values in csv.reader(complete.decode().splitlines()):
            if self._columns is None:
                self._columns = values
                continue
            pairs = zip(self._columns, values, strict=True)
            row = {name: float(value) for name, value in pairs if value}
            number, self._number = self._number, self._number + 1
            # By what the numbers look like: NaN equals nothing, itself included.
            content = hash(frozenset((name, repr(value)) for name, value in row.items()))
            if self._seen[number : number + 1] != [content]:
                self._seen[number:] = [content]
                yield row

    def _open(self) -> bool:
        """Open the file, anew if it was replaced: while it is open, its id cannot be reused."""
        if self.stale is not None and file_state(self.path) == self.stale:
            return False
        try:
            current = self.path.stat()
        except FileNotFoundError:
            return False
        if self._file is not None:
            if os.path.samestat(os.fstat(self._file.fileno()), current):
                return True
            self._file.close()
        self._file = self.path.open("rb")
        self._columns, self._number = None, 0
        return True
