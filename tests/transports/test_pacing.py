from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.transports.pacing import Pacer


def test_the_first_chunk_may_leave_at_once() -> None:
    pacer = Pacer(0.2)
    assert pacer.due_at() == float("-inf")
    pacer.sent(0.04, 100.0)
    assert pacer.playhead == pytest.approx(100.04)
    assert pacer.due_at() == pytest.approx(99.84)
    assert pacer.ahead_secs(100.01) == pytest.approx(0.03)


def test_after_a_pause_media_time_starts_anew() -> None:
    pacer = Pacer(0.2)
    pacer.sent(1.0, 100.0)
    assert pacer.ahead_secs(200.0) == 0.0
    pacer.sent(1.0, 200.0)
    assert pacer.playhead == pytest.approx(201.0)


def test_flush() -> None:
    pacer = Pacer(0.2)
    pacer.sent(1.0, 100.0)
    pacer.flush(100.4)
    assert pacer.ahead_secs(100.4) == 0.0
    # What is over already is not brought back.
    pacer.flush(105.0)
    assert pacer.playhead == pytest.approx(100.4)


@given(
    st.floats(0, 2),
    st.lists(st.tuples(st.floats(0.001, 0.5), st.floats(0, 0.5)), min_size=1, max_size=60),
)
def test_never_more_than_the_lead_ahead(lead: float, steps: list[tuple[float, float]]) -> None:
    pacer = Pacer(lead)
    now = 1000.0
    playhead = now
    for duration, pause in steps:
        now = max(now + pause, pacer.due_at())
        assert pacer.ahead_secs(now) <= lead + 1e-9
        playhead = max(now, playhead) + duration
        pacer.sent(duration, now)
        assert pacer.playhead == playhead
