"""How much each key may send: by the minute, by the day, and at one time."""

import logging
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import ApiKey
from serve.gateway.access import Principal
from serve.gateway.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

_DAY_S = 86400
_LOCK_TIMEOUT_S = 5.0  # at the start
_PAUSE_S = 1.0
_PREPARE = (
    # A count costs no disk flush; a power cut may lose the last ones, and nothing else.
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "CREATE TABLE IF NOT EXISTS usage (key_id TEXT, day INTEGER, requests INTEGER NOT NULL,"
    " PRIMARY KEY (key_id, day)) WITHOUT ROWID",
    # The event loop waits for each count: 0.1 ms, and not much longer where others hold the file.
    "PRAGMA busy_timeout=20",
)


class DailyUsage:
    """Counts requests by key and day (UTC) in an SQLite file, so that a restart forgets nothing.

    Gateways on one host may share the file and then count together. If it fails the failure is
    logged and requests pass uncounted for a second: the limits by the minute still hold.

    Args:
        path: the file.
        clock: seconds, never goes back.

    Raises:
        ValueError: the file cannot be made or is none of ours; the message says what to do.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paused_until = -math.inf
        self._today = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # One thread at a time uses it: the event loop's.
            self._database = sqlite3.connect(
                path, isolation_level=None, timeout=_LOCK_TIMEOUT_S, check_same_thread=False
            )
            for statement in _PREPARE:
                self._database.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(
                f"usage_file: {path} cannot be used ({error}): name a file that this user may "
                "write, or delete a broken one"
            ) from None

    def add(self, key_id: str, day: int, *, at_most: int) -> bool:
        """Count one more request of a key; returns False, and counts nothing, beyond the limit."""
        if self._clock() < self._paused_until:
            return True
        try:
            if day > self._today:
                self._database.execute("DELETE FROM usage WHERE day < ?", (day,))
                self._today = day
            counted = self._database.execute(
                "INSERT INTO usage VALUES (?, ?, 1) ON CONFLICT (key_id, day)"
                " DO UPDATE SET requests = requests + 1 WHERE requests < ?",
                (key_id, day, at_most),
            )
        except sqlite3.Error as error:
            logger.error("requests are not counted for %g s: %s", _PAUSE_S, error)
            self._paused_until = self._clock() + _PAUSE_S
            return True
        return counted.rowcount == 1

    def close(self) -> None:
        self._database.close()


class Limits:
    """Holds every key to its own limits, which may change while requests come in.

    Args:
        find: returns a key by its id.
        usage: counts by the day.
        retry_after_s: what a key with too many requests in flight is told to wait.
        clock_ns: never goes back.
        unix_time_s: tells the day.
    """

    def __init__(
        self,
        find: Callable[[str], ApiKey | None],
        usage: DailyUsage,
        *,
        retry_after_s: float,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        self._find = find
        self._usage = usage
        self._retry_after_s = retry_after_s
        self._clock_ns = clock_ns
        self._unix_time_s = unix_time_s
        self._buckets: dict[str, TokenBucket] = {}
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def admit(self, principal: Principal) -> Iterator[None]:
        """Count one request, which is in flight while the block runs; a refused one counts nothing.

        Raises:
            RequestError: 429 beyond the key's limits, with the time after which it will be within.
        """
        key = self._key(principal)
        now_ns = self._clock_ns()
        self._check_in_flight(key)
        bucket = self._bucket(key.id, now_ns)
        if key.requests_per_minute is not None:
            wait_ns = bucket.wait_ns(now_ns, per_minute=key.requests_per_minute, burst=key.burst)
            if wait_ns:
                raise _beyond(f"{key.requests_per_minute} requests a minute", wait_ns / 1e9)
        if key.requests_per_day is not None:
            now_s = self._unix_time_s()
            day = int(now_s // _DAY_S)
            if not self._usage.add(key.id, day, at_most=key.requests_per_day):
                raise _beyond(f"{key.requests_per_day} requests a day", (day + 1) * _DAY_S - now_s)
        if key.requests_per_minute is not None:
            bucket.take(now_ns, per_minute=key.requests_per_minute, burst=key.burst)
        with self.in_flight(principal):
            yield

    @contextmanager
    def in_flight(self, principal: Principal) -> Iterator[None]:
        """Count something as in flight while the block runs, whatever the limit."""
        self._in_flight[principal.key_id] += 1
        try:
            yield
        finally:
            self._in_flight[principal.key_id] -= 1
            if not self._in_flight[principal.key_id]:
                del self._in_flight[principal.key_id]

    def _key(self, principal: Principal) -> ApiKey:
        key = self._find(principal.key_id)
        if key is None:  # Taken out of the file since it was authenticated.
            raise RequestError(
                401,
                "this API key is no longer known",
                field=None,
                remedy="ask the operator for a new one",
            )
        return key

    def _check_in_flight(self, key: ApiKey) -> None:
        limit = key.max_in_flight
        if limit is not None and self._in_flight[key.id] >= limit:
            raise _beyond(f"{limit} requests at one time", self._retry_after_s)

    def _bucket(self, key_id: str, now_ns: int) -> TokenBucket:
        if key_id not in self._buckets:
            # The place to forget keys that are gone: there are never more buckets than keys.
            self._buckets = {known: b for known, b in self._buckets.items() if self._find(known)}
            self._buckets[key_id] = TokenBucket(now_ns)
        return self._buckets[key_id]


def _beyond(limit: str, retry_after_s: float) -> RequestError:
    return RequestError(
        429,
        f"this key's limit of {limit} is reached",
        field=None,
        remedy="send the request again after the time in Retry-After",
        retry_after_s=retry_after_s,
    )
