from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.frames import PlayedFrame
from voicews.transports.playout import (
    FLUSH_GRACE_SECS,
    REPORT_GRACE_SECS,
    REPORT_TOLERANCE_NS,
    Playout,
)

MS = 1_000_000
T = 1000.0


def playing(*, acknowledges_marks: bool = False, reports: bool = False) -> Playout:
    """One second of "a" has been sent at T, and is over at T + 1."""
    playout = Playout(acknowledges_marks=acknowledges_marks)
    if reports:
        playout.report(0, "playing", 0, T)
    playout.mark("a", 1000.0, 1000 * MS, T + 1)
    return playout


def test_nothing_under_way() -> None:
    playout = Playout()
    assert not playout
    assert playout.due_at() is None
    assert playout.completed(T) == []
    assert playout.interrupt([], 0, 0.0, T) == []


class TestByTheClock:
    def test_over_when_it_should_be(self) -> None:
        playout = playing()
        assert playout
        assert playout.due_at() == T + 1
        assert playout.completed(T + 0.999) == []
        assert playout.completed(T + 1) == [PlayedFrame("a", 1000.0, interrupted=False)]
        assert not playout
        assert playout.completed(T + 2) == []

    def test_one_after_the_other(self) -> None:
        playout = playing()
        playout.mark("b", 500.0, 1500 * MS, T + 1.5)
        assert [p.name for p in playout.completed(T + 1.2)] == ["a"]
        assert [p.name for p in playout.completed(T + 1.6)] == ["b"]

    @pytest.mark.parametrize(("ahead", "heard"), [(0.0, 1000.0), (0.2, 800.0), (5.0, 0.0)])
    def test_interrupted(self, ahead: float, heard: float) -> None:
        assert playing().interrupt([], 1000 * MS, ahead, T) == [PlayedFrame("a", heard, True)]

    def test_what_was_not_sent_was_not_heard(self) -> None:
        playout = Playout()
        # 300 ms were sent of "a", which lasts a second, and nothing of "b".
        unsent = [("a", 1000.0, 700.0), ("b", 400.0, 1100.0)]
        assert playout.interrupt(unsent, 300 * MS, 0.1, T) == [
            PlayedFrame("a", 200.0, True),
            PlayedFrame("b", 0.0, True),
        ]

    def test_never_less_than_nothing(self) -> None:
        [played] = Playout().interrupt([("a", 100.0, 5000.0)], 0, 9.0, T)
        assert played.heard_ms == 0.0


class TestByReports:
    def test_over_when_reported(self) -> None:
        playout = playing(reports=True)
        assert playout.report(500 * MS, "playing", 1000 * MS, T + 0.6) == []
        # The client is late: neither the clock decides,
        assert playout.completed(T + 1.5) == []
        # but the end of what it says that it has played.
        assert playout.report(1000 * MS - REPORT_TOLERANCE_NS, "idle", 1000 * MS, T + 1.6) == [
            PlayedFrame("a", 1000.0, False)
        ]

    def test_a_client_that_falls_silent(self) -> None:
        playout = playing(reports=True)
        assert playout.due_at() == T + 1 + REPORT_GRACE_SECS
        assert playout.completed(T + 1 + REPORT_GRACE_SECS) == [PlayedFrame("a", 1000.0, False)]

    def test_flushed_says_how_much_was_heard(self) -> None:
        playout = playing(reports=True)
        assert playout.interrupt([("b", 100.0, 100.0)], 1000 * MS, 0.2, T + 0.5) == []
        assert not playout
        assert playout.due_at() == T + 0.5 + FLUSH_GRACE_SECS
        assert playout.report(600 * MS, "playing", 1000 * MS, T + 0.6) == []
        assert playout.report(640 * MS, "flushed", 1000 * MS, T + 0.7) == [
            PlayedFrame("a", 640.0, True),
            PlayedFrame("b", 0.0, True),
        ]
        assert playout.due_at() is None

    def test_a_flush_that_is_not_reported(self) -> None:
        playout = playing(reports=True)
        playout.report(400 * MS, "playing", 1000 * MS, T + 0.4)
        playout.interrupt([], 1000 * MS, 0.2, T + 0.5)
        assert playout.completed(T + 0.5 + FLUSH_GRACE_SECS) == [PlayedFrame("a", 400.0, True)]

    def test_a_late_report_does_not_count_for_what_is_said_next(self) -> None:
        playout = playing(reports=True)
        playout.interrupt([], 1000 * MS, 0.2, T + 0.5)
        playout.report(640 * MS, "flushed", 1000 * MS, T + 0.6)
        playout.mark("b", 500.0, 1500 * MS, T + 1.1)
        assert playout.report(650 * MS, "idle", 1500 * MS, T + 0.65) == []
        assert playout.report(1500 * MS, "idle", 1500 * MS, T + 1.2) == [
            PlayedFrame("b", 500.0, False)
        ]

    def test_nobody_has_heard_what_was_not_sent(self) -> None:
        playout = playing(reports=True)
        playout.report(2**62, "playing", 300 * MS, T + 0.1)
        assert playout.completed(T + 0.2) == []
        assert playout.lose_peer(1000 * MS, 0.0) == [PlayedFrame("a", 300.0, True)]

    def test_another_client_has_to_show_that_it_reports(self) -> None:
        playout = playing(reports=True)
        playout.lose_peer(1000 * MS, 0.5)
        playout.mark("b", 500.0, 1500 * MS, T + 5)
        assert playout.completed(T + 5) == [PlayedFrame("b", 500.0, False)]


class TestByMarks:
    def test_over_when_acknowledged(self) -> None:
        playout = playing(acknowledges_marks=True)
        assert playout.completed(T + 1.5) == []
        assert playout.acknowledge("a") == [PlayedFrame("a", 1000.0, False)]
        assert playout.acknowledge("a") == []

    def test_a_later_mark_says_that_the_earlier_ones_are_over(self) -> None:
        playout = playing(acknowledges_marks=True)
        playout.mark("b", 1.0, 1001 * MS, T + 1.1)
        playout.mark("c", 1.0, 1002 * MS, T + 1.2)
        assert [p.name for p in playout.acknowledge("b")] == ["a", "b"]
        assert playout

    def test_after_a_flush_marks_do_not_count(self) -> None:
        playout = playing(acknowledges_marks=True)
        playout.interrupt([], 1000 * MS, 0.2, T)
        assert playout.acknowledge("a") == []

    def test_unknown(self) -> None:
        assert playing(acknowledges_marks=True).acknowledge("b") == []


class TestLost:
    """The peer is gone, and so is what it had not played."""

    @pytest.mark.parametrize(
        ("ahead", "heard", "cut"), [(0.0, 1000.0, False), (0.2, 800.0, True), (5.0, 0.0, True)]
    )
    def test_by_the_clock(self, ahead: float, heard: float, cut: bool) -> None:
        playout = playing()
        assert playout.lose_peer(1000 * MS, ahead) == [PlayedFrame("a", heard, cut)]
        assert not playout
        assert playout.due_at() is None

    @pytest.mark.parametrize(
        ("reported", "heard", "cut"),
        [
            (0, 0.0, True),
            (900 * MS, 900.0, True),
            (1000 * MS - REPORT_TOLERANCE_NS - 1, 1000 - 5 - 1 / MS, True),
        ],
    )
    def test_by_the_last_report(self, reported: int, heard: float, cut: bool) -> None:
        playout = playing(reports=True)
        playout.report(reported, "playing", 1000 * MS, T + 0.9)
        assert playout.lose_peer(1000 * MS, 0.0) == [
            PlayedFrame("a", pytest.approx(heard), cut)  # type: ignore[arg-type]  # compares
        ]

    def test_an_interruption_that_is_not_reported(self) -> None:
        playout = playing(reports=True)
        playout.report(400 * MS, "playing", 1000 * MS, T + 0.4)
        playout.interrupt([], 1000 * MS, 0.2, T + 0.5)
        assert playout.lose_peer(1000 * MS, 0.0) == [PlayedFrame("a", 400.0, True)]
        assert playout.due_at() is None

    def test_one_that_goes_on_leaves_out_what_was_lost(self) -> None:
        playout = Playout()
        assert playout.lose_peer(300 * MS, 0.2) == []
        assert playout.lose_peer(600 * MS, 0.1) == []
        playout.mark("a", 1000.0, 1000 * MS, T + 9)
        assert playout.completed(T + 9) == [PlayedFrame("a", 700.0, False)]
        playout.mark("b", 1000.0, 2000 * MS, T + 10)
        assert playout.completed(T + 10) == [PlayedFrame("b", 1000.0, False)]

    def test_one_that_goes_on_and_is_cut_off(self) -> None:
        playout = Playout()
        playout.lose_peer(300 * MS, 0.2)
        # 600 ms were sent of "a" when the user spoke, who had heard all but the last 100 of them.
        unsent = [("a", 1000.0, 400.0), ("b", 100.0, 500.0)]
        assert playout.interrupt(unsent, 600 * MS, 0.1, T) == [
            PlayedFrame("a", 300.0, True),
            PlayedFrame("b", 0.0, True),
        ]
        playout.mark("c", 600.0, 1200 * MS, T + 1)
        assert playout.completed(T + 1) == [PlayedFrame("c", 600.0, False)]

    def test_what_was_lost_before_an_utterance_is_none_of_it(self) -> None:
        playout = Playout()
        playout.lose_peer(300 * MS, 0.2)
        # 250 ms of a stream without a name were lost, and 50 of this.
        playout.mark("a", 50.0 + 100.0, 400 * MS, T + 1)
        assert playout.completed(T + 1) == [PlayedFrame("a", 100.0, False)]

    def test_a_client_that_is_back_has_not_heard_it_either(self) -> None:
        """Its page may go on to play and report what it had before; the call goes by the loss."""
        playout = Playout()
        playout.lose_peer(300 * MS, 0.2)
        playout.report(200 * MS, "idle", 500 * MS, T)
        playout.interrupt([("a", 1000.0, 500.0)], 500 * MS, 0.2, T)
        assert playout.report(400 * MS, "flushed", 500 * MS, T + 0.1) == [
            PlayedFrame("a", 200.0, True)
        ]
        playout.lose_peer(500 * MS, 0.0)
        assert playout.lose_peer(500 * MS, 0.0) == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("mark"), st.integers(1, 2000)),
        st.tuples(st.just("interrupt"), st.integers(0, 2)),
        st.tuples(st.just("report"), st.integers(0, 10**10)),
        st.tuples(st.just("flushed"), st.integers(0, 10**10)),
        st.tuples(st.just("acknowledge"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(0, 3000)),
        st.tuples(st.just("lose"), st.integers(0, 1000)),
    ),
    max_size=30,
)


@given(steps, st.booleans())
def test_every_utterance_is_answered_once(steps: list[tuple[str, int]], marks: bool) -> None:
    playout = Playout(acknowledges_marks=marks)
    now, sent, count, unsent, lost_secs = T, 0, 0, 0, 0.0
    durations: dict[str, float] = {}
    played: list[PlayedFrame] = []
    for step, value in steps:
        if step == "mark":
            sent += value * MS
            durations[str(count)] = value
            playout.mark(str(count), value, sent, now + value / 1000)
            count += 1
        elif step == "interrupt":
            waiting: list[tuple[str, float, float]] = []
            for n in range(value):
                durations[f"u{unsent}"] = 100.0
                waiting.append((f"u{unsent}", 100.0, 100.0 * (n + 1)))
                unsent += 1
            played += playout.interrupt(waiting, sent, 0.2, now)
        elif step in ("report", "flushed"):
            state = "playing" if step == "report" else step
            played += playout.report(value, state, sent, now)
        elif step == "acknowledge":
            played += playout.acknowledge(str(value))
        elif step == "lose":
            played += playout.lose_peer(sent, value / 1000)
            lost_secs += value / 1000
        else:
            now += value / 1000
            played += playout.completed(now)
    played += playout.completed(now + 100)
    assert playout.due_at() is None
    assert sorted(p.name for p in played) == sorted(durations)
    for frame in played:
        assert 0 <= frame.heard_ms <= durations[frame.name]
        if not frame.interrupted and not lost_secs:
            assert frame.heard_ms == durations[frame.name]


def test_what_is_due_never_lies_in_the_past_once_it_was_asked_for() -> None:
    """Else a timer for it would ring for ever."""
    checks: list[Any] = [playing(), playing(reports=True), playing(acknowledges_marks=True)]
    for playout in checks:
        for _ in range(5):
            due = playout.due_at()
            if due is None:
                break
            playout.completed(due)
        assert playout.due_at() is None
