"""Token buckets in whole numbers: no rounding, so a wait is neither too short nor too long."""

NS_PER_MINUTE = 60 * 10**9


class TokenBucket:
    """Holds up to ``burst`` tokens, ``per_minute`` of them flow in each minute; starts full.

    Amounts are counted in parts of a token: in one nanosecond ``per_minute`` parts flow in, and
    a token is as many parts as a minute has nanoseconds. Rate and burst are given at each call, so
    that they may change; times are in nanoseconds, of a clock that never goes back.
    """

    def __init__(self, now_ns: int) -> None:
        self._missing = 0  # parts below a full bucket
        self._at_ns = now_ns

    def wait_ns(self, now_ns: int, *, per_minute: int, burst: int) -> int:
        """Return in how many nanoseconds there will be a token; 0 if there is one."""
        missing = self._missing_at(now_ns, per_minute, burst)
        return max(0, -(((burst - 1) * NS_PER_MINUTE - missing) // per_minute))  # rounded up

    def take(self, now_ns: int, *, per_minute: int, burst: int) -> None:
        """Take a token out; :meth:`wait_ns` has said that there is one."""
        self._missing = self._missing_at(now_ns, per_minute, burst) + NS_PER_MINUTE
        self._at_ns = now_ns

    def _missing_at(self, now_ns: int, per_minute: int, burst: int) -> int:
        refilled = (now_ns - self._at_ns) * per_minute
        return min(max(0, self._missing - refilled), burst * NS_PER_MINUTE)
