"""Callers without a valid key: who they are, and how often they may try."""

import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from neural_photo_editor.api.errors import RequestError
from serve.gateway.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PER_MINUTE = 10
_BURST = 20
_MAX_ADDRESSES = 10_000
_IPV6_SITE_BITS = 64  # one caller has at least so many addresses to himself


class FailedAttempts:
    """Counts failures by address; beyond a few a minute they are answered 429 instead of 401.

    Only failures are refused. A valid key always passes, so one broken client cannot lock out
    those who share its address, behind a router or a proxy. Nothing is lost by that: 256 random
    bits are not found by trying.

    The table is bounded: the address that failed longest ago is forgotten for a new one.
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, address: str) -> None:
        """Count a failure; raises RequestError 429 beyond the limit."""
        now_ns = self._clock_ns()
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(now_ns)
            if len(self._buckets) > _MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        wait_ns = bucket.wait_ns(now_ns, per_minute=_PER_MINUTE, burst=_BURST)
        if wait_ns:
            raise RequestError(
                429,
                "too many requests without a valid API key came from this address",
                field=None,
                remedy="send a valid key; one is never refused for this",
                retry_after_s=wait_ns / 1e9,
            )
        bucket.take(now_ns, per_minute=_PER_MINUTE, burst=_BURST)
        if bucket.wait_ns(now_ns, per_minute=_PER_MINUTE, burst=_BURST):
            logger.warning("too many requests without a valid key from %s", address)


def caller_address(
    peer: str | None, forwarded_for: str | None, trusted_proxies: Sequence[Network]
) -> str | None:
    """Return whom failures are counted for, or None where the connection has no address.

    Anybody can send X-Forwarded-For. It counts only as far as trusted proxies wrote it: from its
    end, where each proxy adds whom it was called by, up to the first address that is not theirs.

    Args:
        peer: IP address at the other end of the connection.
        forwarded_for: the header X-Forwarded-For, several joined by commas.
        trusted_proxies: networks of the proxies.

    Returns:
        an IPv4 address, or the network of an IPv6 site.
    """
    caller = _parse(peer or "")
    if caller is None:
        return None
    hops = (forwarded_for or "").split(",")
    while hops and any(caller in network for network in trusted_proxies):
        before = _parse(hops.pop().strip())
        if before is None:
            break
        caller = before
    if caller.version == 6:
        return str(ipaddress.ip_network((caller, _IPV6_SITE_BITS), strict=False))
    return str(caller)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return mapped or address
