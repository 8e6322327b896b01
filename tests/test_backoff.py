"""When to try again, and when to give up."""

from __future__ import annotations

from voicews.backoff import Backoff, BackoffPolicy


def test_the_delay_doubles_up_to_a_maximum_and_is_jittered() -> None:
    policy = BackoffPolicy(first_delay_secs=1, max_delay_secs=5, max_failures=None)
    longest = Backoff(policy, lambda low, high: high)
    shortest = Backoff(policy, lambda low, high: low)
    assert [longest.next_delay() for _ in range(5)] == [1, 2, 4, 5, 5]
    assert [shortest.next_delay() for _ in range(5)] == [0.5, 1, 2, 2.5, 2.5]
    for _ in range(2000):
        assert longest.next_delay() == 5
    delays = {Backoff(policy).next_delay() for _ in range(20)}
    assert len(delays) > 10
    assert all(0.5 <= (delay or 0) <= 1 for delay in delays)


def test_only_a_useful_connection_ends_the_row_of_failures() -> None:
    policy = BackoffPolicy(first_delay_secs=1, max_failures=2, useful_secs=10)
    backoff = Backoff(policy, lambda low, high: high)
    assert backoff.next_delay(9.9) == 1
    assert backoff.next_delay(0.1) == 2
    assert backoff.next_delay(10.0) == 1
    assert backoff.next_delay() == 2
    assert backoff.next_delay() is None


def test_what_works_ends_the_row_of_failures() -> None:
    backoff = Backoff(BackoffPolicy(first_delay_secs=1), lambda low, high: high)
    assert [backoff.next_delay(), backoff.next_delay()] == [1, 2]
    backoff.reset()
    assert backoff.next_delay() == 1
