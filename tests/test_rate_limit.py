"""How much a peer may send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicews.rate_limit import RateLimit


def test_a_burst_is_free_and_then_the_rate_counts() -> None:
    allowance = RateLimit(messages_per_sec=10, burst=100, now=5.0)
    assert allowance.spend(100, 5.0)
    assert not allowance.spend(1, 5.0)
    assert allowance.spend(9, 6.0)
    assert not allowance.spend(1, 6.05)


def test_what_is_not_spent_adds_up_to_one_burst_at_most() -> None:
    allowance = RateLimit(messages_per_sec=10, burst=100, now=0.0)
    assert allowance.spend(100, 1_000_000.0)
    assert not allowance.spend(1, 1_000_000.0)


@given(st.lists(st.floats(0, 10), max_size=50), st.integers(1, 64))
def test_never_more_than_the_burst_and_what_was_earned(pauses: list[float], size: int) -> None:
    allowance, now, spent = RateLimit(10, 100, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        if not allowance.spend(size, now):
            break
        spent += size
        assert spent <= 100 + 10 * now + 1e-6
