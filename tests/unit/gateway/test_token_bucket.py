from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.token_bucket import NS_PER_MINUTE, TokenBucket

RATES = st.integers(1, 10_000)
BURSTS = st.integers(1, 50)
GAPS = st.lists(
    st.one_of(st.integers(0, 5 * NS_PER_MINUTE), st.integers(0, 10**6)), min_size=1, max_size=60
)


class ExactBucket:
    """The textbook's bucket, in fractions."""

    def __init__(self, per_minute: int, burst: int) -> None:
        self.rate = Fraction(per_minute, NS_PER_MINUTE)
        self.burst = burst
        self.tokens = Fraction(burst)

    def flow(self, gap_ns: int) -> None:
        self.tokens = min(Fraction(self.burst), self.tokens + gap_ns * self.rate)


@given(RATES, BURSTS, GAPS)
def test_it_lets_through_what_exact_arithmetic_does(
    per_minute: int, burst: int, gaps_ns: list[int]
) -> None:
    now_ns = 10**15
    bucket, exact = TokenBucket(now_ns), ExactBucket(per_minute, burst)
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        exact.flow(gap_ns)
        wait_ns = bucket.wait_ns(now_ns, per_minute=per_minute, burst=burst)
        assert (wait_ns == 0) == (exact.tokens >= 1)
        if wait_ns == 0:
            bucket.take(now_ns, per_minute=per_minute, burst=burst)
            exact.tokens -= 1
        else:
            # One nanosecond less would not do.
            assert exact.tokens + wait_ns * exact.rate >= 1
            assert exact.tokens + (wait_ns - 1) * exact.rate < 1


@given(RATES, BURSTS, GAPS)
def test_who_waits_as_told_is_let_through(per_minute: int, burst: int, gaps_ns: list[int]) -> None:
    now_ns = 0
    bucket = TokenBucket(now_ns)
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        now_ns += bucket.wait_ns(now_ns, per_minute=per_minute, burst=burst)
        assert bucket.wait_ns(now_ns, per_minute=per_minute, burst=burst) == 0
        bucket.take(now_ns, per_minute=per_minute, burst=burst)


@given(RATES, BURSTS, st.integers(0, 10 * NS_PER_MINUTE))
def test_in_no_time_span_do_more_pass_than_burst_and_rate_allow(
    per_minute: int, burst: int, span_ns: int
) -> None:
    bucket = TokenBucket(0)
    passed = 0
    for now_ns in (0, span_ns // 3, span_ns):
        while passed <= 200 and not bucket.wait_ns(now_ns, per_minute=per_minute, burst=burst):
            bucket.take(now_ns, per_minute=per_minute, burst=burst)
            passed += 1
    assert passed <= min(201, burst + Fraction(span_ns * per_minute, NS_PER_MINUTE))


def test_a_smaller_burst_is_not_held_against_past_requests() -> None:
    bucket = TokenBucket(0)
    for _ in range(10):
        bucket.take(0, per_minute=60, burst=10)
    assert bucket.wait_ns(0, per_minute=60, burst=1) == NS_PER_MINUTE // 60
