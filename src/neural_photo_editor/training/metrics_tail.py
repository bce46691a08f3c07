"""Reading a metrics.csv while it is written."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class MetricsTail:
    """Yields each row of a metrics.csv once, from the row ``first`` on.

    Only what was appended is read, and all of it again where the file was replaced, as it is for a
    new column.

    Args:
        path: the file; it may not exist yet.
        first: number of the first row wanted; the one below the header is 0.
    """

    def __init__(self, path: Path, *, first: int = 0) -> None:
        self.path = path
        self.next_row = first
        self._file: IO[bytes] | None = None
        self._columns: list[str] | None = None
        self._number = 0

    def read(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield number and values of every new row that is complete."""
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
            number, self._number = self._number, self._number + 1
            if number >= self.next_row:
                self.next_row = number + 1
                pairs = zip(self._columns, values, strict=True)
                yield number, {name: float(value) for name, value in pairs if value}

    def _open(self) -> bool:
        """Open the file, anew if it was replaced: while it is open, its id cannot be reused."""
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
