"""Server-sent events as they come over the wire, and the progress that they tell of."""

import base64
import json
from dataclasses import dataclass

EVENT_CONTENT_TYPE = "text/event-stream"

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Event:
    """One event: its name, ``message`` where the sender gave none, and its data."""

    name: str
    data: str


class EventParser:
    """Reads events from chunks cut anywhere (HTML standard, 9.2.6); does no input or output.

    Args:
        max_bytes: of one event, comments before it included.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._is_first_line = True
        self._ended_with_cr = False
        self._line: list[bytes] = []
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that this chunk completes.

        Raises:
            ValueError: an event is larger than allowed, or not UTF-8.
        """
        if not chunk:
            return []
        if self._ended_with_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._ended_with_cr = chunk.endswith(b"\r")
        events = []
        # Of bytes, splitlines splits at \n, \r and \r\n only. Each chunk is looked at once, so that
        # a result of many MB costs no more than its bytes.
        for piece in chunk.splitlines(keepends=True):
            self._line.append(piece)
            self._num_bytes += len(piece)
            if self._num_bytes > self._max_bytes:
                raise ValueError(f"an event has more than {self._max_bytes:,} bytes")
            if piece.endswith((b"\n", b"\r")):
                line = b"".join(self._line).rstrip(b"\r\n")
                self._line.clear()
                if (event := self._end_line(line)) is not None:
                    events.append(event)
        return events

    def _end_line(self, line: bytes) -> Event | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._end_event()
        # A line that starts with a colon, a comment, has an empty name here.
        name, _, value = line.decode("utf-8").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        return None

    def _end_event(self) -> Event | None:
        event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
        self._name, self._data, self._num_bytes = "", [], 0
        return event


@dataclass(frozen=True)
class Progress:
    """How far an edit is.

    Attributes:
        step: steps taken, from 1; some are left out.
        total_steps: steps in all.
        preview: the square that the model works on as it sees it now, of the first variation, a
            WebP file of the model's resolution.
        crop: (left, top, right, bottom) of that square in photo pixels; it may reach beyond the
            photo.
    """

    step: int
    total_steps: int
    preview: bytes | None = None
    crop: tuple[int, int, int, int] | None = None

    @property
    def fraction(self) -> float:
        """Share of the steps taken, 0..1."""
        return min(1.0, self.step / self.total_steps)


def read_progress(data: str) -> Progress:
    """Read the data of an event ``progress``.

    Raises:
        ValueError, TypeError, KeyError: this is no progress.
    """
    document = json.loads(data)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    preview, crop = document.get("preview"), document.get("crop")
    left_to_bottom = None
    if crop is not None:
        left, top, right, bottom = (int(value) for value in crop)
        left_to_bottom = (left, top, right, bottom)
    return Progress(
        step=int(document["step"]),
        total_steps=max(1, int(document["total_steps"])),
        preview=None if preview is None else base64.b64decode(preview, validate=True),
        crop=left_to_bottom,
    )
