"""What the worker and the outside tell each other of a job while it runs: who wants to hear of it,
and whether it is still wanted at all.

The worker's thread only ever appends to queues of bounded length: it waits for no listener.
"""

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.serving.previews import Preview

MAX_STREAMS = 64
"""Listeners at one time; each holds a thread of the control server and a few previews."""

_QUEUE_LENGTH = 4  # previews; a listener that reads too slowly misses the oldest
_REMEMBERED_S = 600.0
_MOST_REMEMBERED = 10_000
_JOB_ID = re.compile(r"[0-9a-f]{32}")


def parse_job_id(text: str) -> str | None:
    """Return an id of 32 hexadecimal digits in lower case; None when it is none."""
    text = text.lower()
    return text if _JOB_ID.fullmatch(text) else None


class EventStream:
    """The events of one job, as one listener receives them."""

    def __init__(self) -> None:
        self._events: deque[Preview] = deque(maxlen=_QUEUE_LENGTH)
        self._changed = Condition()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the job has ended and every event was read."""
        with self._changed:
            return self._ended and not self._events

    def put(self, event: Preview) -> None:
        """Add an event; the oldest makes room for it where necessary."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no event follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def next(self, timeout_s: float) -> Preview | None:
        """Wait for the next event; None when the job has ended or none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._ended, timeout_s)
            return self._events.popleft() if self._events else None


class JobRegistry:
    """Jobs by id; safe for use by several threads.

    Args:
        max_streams: listeners at one time.
        clock: seconds, for what is remembered for a time.
    """

    def __init__(
        self, *, max_streams: int = MAX_STREAMS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lock = Lock()
        self._max_streams = max_streams
        self._streams: dict[str, list[EventStream]] = {}
        self._canceled = _RecentIds(clock)
        self._ended = _RecentIds(clock)
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Requests that are being worked on, those without an id included."""
        with self._lock:
            return self._in_flight

    @contextmanager
    def working_on(self, count: int) -> Iterator[None]:
        """Count requests as worked on for as long as the block lasts."""
        with self._lock:
            self._in_flight += count
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= count

    def cancel(self, job_id: str) -> None:
        """Give a job up, or one that has not come yet; its listeners hear that it has ended."""
        with self._lock:
            self._canceled.add(job_id)
        self.end(job_id)

    def is_canceled(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._canceled

    def begin(self, job_id: str) -> None:
        """Say that a job is being worked on; one sent again is a new one to listeners."""
        with self._lock:
            self._ended.discard(job_id)

    def end(self, job_id: str) -> None:
        """Say that a job was answered; its listeners hear of it, those yet to come too."""
        with self._lock:
            self._ended.add(job_id)
            streams = tuple(self._streams.get(job_id, ()))
        for stream in streams:
            stream.end()

    def has_listeners(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._streams

    def publish(self, job_id: str, event: Preview) -> None:
        """Hand an event to everybody who listens to a job; never waits for them."""
        with self._lock:
            streams = tuple(self._streams.get(job_id, ()))
        for stream in streams:
            stream.put(event)

    @contextmanager
    def listen(self, job_id: str) -> Iterator[EventStream]:
        """Receive the events of a job that runs, has ended, or is yet to come.

        Raises:
            RequestError: 503, there are too many listeners already.
        """
        stream = EventStream()
        with self._lock:
            if sum(map(len, self._streams.values())) >= self._max_streams:
                raise RequestError(
                    503,
                    f"{self._max_streams} listeners are served already",
                    field=None,
                    remedy="listen again when others have left",
                )
            self._streams.setdefault(job_id, []).append(stream)
            if job_id in self._ended:
                stream.end()
        try:
            yield stream
        finally:
            with self._lock:
                self._streams[job_id].remove(stream)
                if not self._streams[job_id]:
                    del self._streams[job_id]


class _RecentIds:
    """A set that forgets its members after a time, and the oldest when there are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._added: OrderedDict[str, float] = OrderedDict()

    def add(self, job_id: str) -> None:
        self.discard(job_id)
        self._added[job_id] = self._clock()
        self._forget()

    def discard(self, job_id: str) -> None:
        self._added.pop(job_id, None)

    def __contains__(self, job_id: str) -> bool:
        self._forget()
        return job_id in self._added

    def _forget(self) -> None:
        oldest = self._clock() - _REMEMBERED_S
        while self._added:
            job_id, added = next(iter(self._added.items()))
            if added > oldest and len(self._added) <= _MOST_REMEMBERED:
                return
            del self._added[job_id]
