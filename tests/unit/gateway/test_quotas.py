import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.key_file import ApiKey, create_key
from serve.gateway.access import Principal
from serve.gateway.quotas import DailyUsage, Limits

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HALF_A_DAY_S = 43200


class World:
    """Limits of some keys, and the clocks they look at."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "usage.sqlite"
        self.keys: dict[str, ApiKey] = {}
        self.now_s = 0.0
        self.restart()

    def restart(self) -> None:
        self.usage = DailyUsage(self.path, clock=lambda: self.now_s)
        self.limits = Limits(
            self.keys.get,
            self.usage,
            retry_after_s=2.0,
            clock_ns=lambda: round(self.now_s * 1e9),
            unix_time_s=lambda: NOON.timestamp() + self.now_s,
        )

    def add_key(self, **limits: Any) -> Principal:
        key, _ = create_key("a", now=NOON, **limits)
        self.keys[key.id] = key
        return Principal(key.id, frozenset(key.allows))

    def passes(self, principal: Principal, tries: int = 1) -> int:
        return sum(self.refusal(principal) is None for _ in range(tries))

    def refusal(self, principal: Principal) -> RequestError | None:
        try:
            with self.limits.admit(principal):
                pass
        except RequestError as error:
            return error
        return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_key_without_limits_is_not_limited(world: World) -> None:
    assert world.passes(world.add_key(), tries=1000) == 1000


def test_the_burst_passes_and_then_the_rate(world: World) -> None:
    key = world.add_key(requests_per_minute=30, burst=5)
    other = world.add_key(requests_per_minute=30, burst=5)
    assert world.passes(key, tries=9) == 5
    assert world.passes(other, tries=9) == 5
    refusal = world.refusal(key)
    assert (refusal.status, refusal.retry_after_s) == (429, 2.0)
    assert "30 requests a minute" in refusal.detail
    world.now_s += 2.0
    assert world.passes(key, tries=9) == 1
    world.now_s += 3600
    assert world.passes(key, tries=9) == 5


def test_the_day_ends_at_midnight_utc(world: World) -> None:
    key = world.add_key(requests_per_day=3)
    assert world.passes(key, tries=9) == 3
    world.now_s += 1.5
    refusal = world.refusal(key)
    assert (refusal.status, refusal.retry_after_s) == (429, HALF_A_DAY_S - 1.5)
    assert "3 requests a day" in refusal.detail
    world.now_s = HALF_A_DAY_S - 0.001
    assert world.passes(key) == 0
    world.now_s = HALF_A_DAY_S
    assert world.passes(key, tries=9) == 3


def test_a_refused_request_costs_nothing(world: World) -> None:
    key = world.add_key(requests_per_minute=60, burst=1, requests_per_day=3)
    assert world.passes(key, tries=50) == 1  # 49 times too soon: no part of the day's three
    world.now_s += 1
    assert world.passes(key) == 1
    world.now_s += 1
    assert world.passes(key) == 1
    world.now_s += 1
    assert world.refusal(key).retry_after_s == HALF_A_DAY_S - 3
    # Nor did the day's refusal take the token that was there.
    world.keys[key.key_id] = world.keys[key.key_id].model_copy(update={"requests_per_day": 4})
    assert world.passes(key) == 1


def test_a_changed_limit_counts_at_once(world: World) -> None:
    key = world.add_key(requests_per_minute=60, burst=1, requests_per_day=2)
    assert world.passes(key, tries=3) == 1
    record = world.keys[key.key_id]
    world.keys[key.key_id] = record.model_copy(update={"burst": 50, "requests_per_day": 11})
    assert world.passes(key, tries=99) == 10


def test_a_restart_forgets_no_request_of_the_day(world: World) -> None:
    key = world.add_key(requests_per_day=5)
    assert world.passes(key, tries=3) == 3
    world.restart()  # without closing anything, as a killed process does not
    assert world.passes(key, tries=9) == 2
    world.usage.close()
    world.restart()
    assert world.passes(key) == 0


def test_gateways_that_share_the_file_count_together(tmp_path: Path) -> None:
    gateways = [DailyUsage(tmp_path / "usage.sqlite") for _ in range(4)]
    for usage in gateways:  # Gateways do not count without pause, as these do.
        usage._database.execute("PRAGMA busy_timeout=10000")

    def count(usage: DailyUsage) -> int:
        return sum(usage.add("a", 1, at_most=100) for _ in range(60))

    with ThreadPoolExecutor(len(gateways)) as pool:
        assert sum(pool.map(count, gateways)) == 100


def test_days_that_are_over_are_forgotten(world: World) -> None:
    keys = [world.add_key(requests_per_day=3) for _ in range(5)]
    for _ in range(10):
        for key in keys:
            assert world.passes(key, tries=9) == 3
        world.now_s += 86400
    (rows,) = world.usage._database.execute("SELECT count(*) FROM usage").fetchone()
    assert rows == len(keys)


def test_a_file_that_fails_lets_requests_pass_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key = world.add_key(requests_per_day=1, requests_per_minute=1, burst=2)
    world.usage.close()
    assert world.passes(key, tries=9) == 2  # the limit by the minute still holds
    assert "requests are not counted for 1 s" in caplog.text


def test_a_file_that_another_holds_is_not_waited_for_with_each_request(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key = world.add_key(requests_per_day=5)
    assert world.passes(key) == 1
    with closing(sqlite3.connect(world.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert world.passes(key, tries=10) == 10
        assert caplog.text.count("database is locked") == 1
        other.execute("ROLLBACK")
    world.now_s += 1.0
    assert world.passes(key, tries=10) == 4
    (timeout_ms,) = world.usage._database.execute("PRAGMA busy_timeout").fetchone()
    assert timeout_ms <= 20


def test_a_file_that_is_no_database_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    path.write_text("not a database, and longer than a header of SQLite" * 100)
    with pytest.raises(ValueError, match=r"usage_file: .* delete a broken one"):
        DailyUsage(path)


def test_a_key_may_have_so_many_requests_in_flight(world: World) -> None:
    key, other = world.add_key(max_in_flight=2), world.add_key(max_in_flight=2)
    with world.limits.admit(key), world.limits.admit(key):
        refusal = world.refusal(key)
        assert (refusal.status, refusal.retry_after_s) == (429, 2.0)
        assert "2 requests at one time" in refusal.detail
        with world.limits.in_flight(key):  # not to be refused
            assert world.limits._in_flight[key.key_id] == 3
        assert world.passes(other) == 1
    assert world.passes(key) == 1
    with pytest.raises(KeyError), world.limits.admit(key):
        raise KeyError  # a failure gives the place back too
    assert not world.limits._in_flight


def test_what_is_remembered_is_bounded_by_the_keys_that_exist(world: World) -> None:
    for _ in range(100):
        world.keys.clear()
        assert world.passes(world.add_key(requests_per_minute=1)) == 1
    assert len(world.limits._buckets) == 1


def test_a_key_that_was_taken_out_since_is_refused(world: World) -> None:
    key = world.add_key()
    world.keys.clear()
    assert world.refusal(key).status == 401


def test_retry_after_is_never_too_short(world: World) -> None:
    """The header has whole seconds: who waits them out is let through."""
    key = world.add_key(requests_per_minute=7, burst=1)
    for _ in range(20):
        assert world.passes(key) == 1
        world.now_s += 0.3
        world.now_s += math.ceil(world.refusal(key).retry_after_s)
