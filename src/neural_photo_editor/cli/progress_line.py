"""How far an edit is, on a terminal as one line that changes, elsewhere as lines."""

import time
from collections.abc import Callable
from typing import TextIO

from neural_photo_editor.api.stream import Progress

_ERASE_TO_END = "\x1b[K"
_PLAIN_LINES = 10


class ProgressLine:
    """Writes progress; where nobody looks at a terminal, a line for every tenth of the steps.

    Args:
        stream: usually stderr.
        clock: returns seconds that only grow.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._first: tuple[int, float] | None = None
        self._tenths = 0
        self._is_open = False

    def show(self, progress: Progress) -> None:
        """Write how far the edit is."""
        now = self._clock()
        if self._first is None:
            self._first = progress.step, now
        text = f"npe: {_describe(progress, first=self._first, now=now)}"
        if self._is_terminal:
            self._write(f"\r{text}{_ERASE_TO_END}")
            self._is_open = True
            return
        tenths = int(progress.fraction * _PLAIN_LINES)
        if tenths > self._tenths:
            self._tenths = tenths
            self._write(f"{text}\n")

    def close(self) -> None:
        """Take the line away, so that others start at its left."""
        if self._is_open:
            self._write(f"\r{_ERASE_TO_END}")
            self._is_open = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _describe(progress: Progress, *, first: tuple[int, float], now: float) -> str:
    text = f"step {progress.step} of {progress.total_steps}"
    first_step, start = first
    if progress.step <= first_step or now <= start:
        return text
    rate = (progress.step - first_step) / (now - start)
    left_s = (progress.total_steps - progress.step) / rate
    return f"{text}, {rate:.1f} a second, {_duration(left_s)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
