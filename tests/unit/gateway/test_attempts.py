import logging
from ipaddress import ip_network

import pytest

from neural_photo_editor.api.errors import RequestError
from serve.gateway import attempts
from serve.gateway.attempts import FailedAttempts, caller_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def _fail_until_refused(counter: FailedAttempts, address: str) -> RequestError:
    for _ in range(attempts._BURST):
        counter.note(address)
    with pytest.raises(RequestError) as caught:
        counter.note(address)
    return caught.value


def test_failures_are_limited_by_address_and_the_wait_is_exact() -> None:
    clock = Clock()
    counter = FailedAttempts(clock_ns=clock)
    refusal = _fail_until_refused(counter, "192.0.2.1")
    assert (refusal.status, refusal.retry_after_s) == (429, 60 / attempts._PER_MINUTE)
    counter.note("192.0.2.2")  # nobody else is
    clock.now_ns += round(refusal.retry_after_s * 1e9) - 1
    with pytest.raises(RequestError):
        counter.note("192.0.2.1")
    clock.now_ns += 1
    counter.note("192.0.2.1")


def test_an_address_at_its_limit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    counter = FailedAttempts(clock_ns=Clock())
    with caplog.at_level(logging.WARNING):
        _fail_until_refused(counter, "192.0.2.1")
        with pytest.raises(RequestError):
            counter.note("192.0.2.1")
    assert [record.message for record in caplog.records] == [
        "too many requests without a valid key from 192.0.2.1"
    ]


def test_the_table_is_bounded_and_forgets_who_failed_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "_MAX_ADDRESSES", 3)
    counter = FailedAttempts(clock_ns=Clock())
    for address in ("old", "busy"):
        _fail_until_refused(counter, address)
    for number in range(100):
        counter.note(f"other {number}")
        with pytest.raises(RequestError):
            counter.note("busy")  # keeps its place by failing
    assert len(counter) == 3
    counter.note("old")  # was forgotten


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        # Anybody may write the header; it counts only from a proxy.
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        # What a client wrote itself comes first; the proxy adds whom it saw at the end.
        ("10.1.2.3", "198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "198.51.100.7, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("10.1.2.3", None, "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.9, nonsense", "10.1.2.3"),
        # A site has 2^64 addresses of IPv6: they count as one.
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("fd00::1", "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9", None),
        ("", None, None),
    ],
)
def test_who_is_counted(peer: str | None, forwarded_for: str | None, expected: str | None) -> None:
    assert caller_address(peer, forwarded_for, PROXIES) == expected


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert caller_address("10.1.2.3", "203.0.113.9", ()) == "10.1.2.3"
