"""How much of the bot's audio was played to the user. Pure: callers pass the time.

The peer's own reports decide where it makes them (our browser client does), the pacing clock
where it doesn't. Positions (`pts`) are nanoseconds of output sent; times are seconds on one
monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from voicews.frames import PlayedFrame

NS_PER_MS = 1_000_000

#: A report so close (ns) to an utterance's end says that all of it was heard.
REPORT_TOLERANCE_NS = 5 * NS_PER_MS
#: How long past its expected end an utterance waits for the report of a peer that makes them.
REPORT_GRACE_SECS = 2.0
#: How long after an interruption the peer's report of where it stopped may take.
FLUSH_GRACE_SECS = 0.5


@dataclass(slots=True)
class _Utterance:
    name: str
    duration_ms: float
    end_pts: int
    #: When it is over at the latest.
    deadline: float
    #: What of it was lost with a socket before its end was sent.
    lost_ns: int

    def heard(self, pts: int, *, interrupted: bool) -> PlayedFrame:
        missed_ns = self.lost_ns + (max(0, self.end_pts - pts) if interrupted else 0)
        heard_ms = max(0.0, self.duration_ms - missed_ns / NS_PER_MS)
        return PlayedFrame(self.name, heard_ms, interrupted)


class Playout:
    """Follows utterances from the moment they were sent until they were heard or cut off."""

    def __init__(self, *, acknowledges_marks: bool = False) -> None:
        self._waiting: deque[_Utterance] = deque()
        self._cut: list[_Utterance] = []
        #: The peer reports when an utterance's end was played.
        self._acknowledges = acknowledges_marks
        #: The peer reports positions.
        self._reports = False
        self._reported_pts = 0
        #: Ranges (from, to), since the last mark, that were lost with a peer; the end of the last.
        self._lost: list[tuple[int, int]] = []
        self._lost_until = 0

    def __bool__(self) -> bool:
        """Whether an utterance is under way."""
        return bool(self._waiting)

    def mark(self, name: str, duration_ms: float, end_pts: int, playhead: float) -> None:
        """An utterance that ends at `end_pts` has been sent, and should be over at `playhead`."""
        self.cue(name, duration_ms, end_pts, playhead)
        self._lost.clear()

    def cue(self, name: str, duration_ms: float, end_pts: int, playhead: float) -> None:
        """The same for a part of an utterance that goes on."""
        self._waiting.append(self._utterance(name, duration_ms, end_pts, playhead))

    def lose_peer(self, sent_pts: int, ahead_secs: float) -> list[PlayedFrame]:
        """The peer is gone, and what it had not played is lost; returns what that decides.

        `ahead_secs` is what the pacer had sent ahead. The next peer has yet to show whether it
        reports.
        """
        heard = self._reported_pts if self._reports else _paced(sent_pts, ahead_secs)
        heard = max(heard, self._lost_until)
        over = [utterance.heard(self._reported_pts, interrupted=True) for utterance in self._cut]
        for utterance in self._waiting:
            is_cut = utterance.end_pts - REPORT_TOLERANCE_NS > heard
            over.append(utterance.heard(heard, interrupted=is_cut))
        self._cut.clear()
        self._waiting.clear()
        self._reports = False
        if heard < sent_pts:
            self._lost.append((heard, sent_pts))
            self._lost_until = sent_pts
        return over

    def acknowledge(self, name: str) -> list[PlayedFrame]:
        """The peer says that it has played up to the end of this utterance."""
        played: list[PlayedFrame] = []
        # After a flush, peers acknowledge what they have thrown away: it waits no more by then.
        if any(utterance.name == name for utterance in self._waiting):
            while not played or played[-1].name != name:
                played.append(self._waiting.popleft().heard(0, interrupted=False))
        return played

    def report(self, pts: int, state: str, sent_pts: int, now: float) -> list[PlayedFrame]:
        """The peer says it has played up to `pts`; returns what that decides."""
        self._reports = True
        self._reported_pts = max(self._lost_until, min(pts, sent_pts))
        if state != "flushed":
            return self.completed(now)
        cut, self._cut = self._cut, []
        return [utterance.heard(self._reported_pts, interrupted=True) for utterance in cut]

    def interrupt(
        self,
        unsent: Iterable[tuple[str, float, float]],
        sent_pts: int,
        ahead_secs: float,
        now: float,
        *,
        flushed: bool = True,
    ) -> list[PlayedFrame]:
        """Everything is cut off. `unsent` are (name, duration_ms, ms not sent) in the queue.

        Where the peer is not `flushed` it plays what was sent.
        """
        cut = list(self._waiting)
        self._waiting.clear()
        for name, duration_ms, unsent_ms in unsent:
            end_pts = sent_pts + int(unsent_ms * NS_PER_MS)
            cut.append(self._utterance(name, duration_ms, end_pts, now))
        self._lost.clear()
        if self._reports and flushed:
            for utterance in cut:
                utterance.deadline = now + FLUSH_GRACE_SECS
            self._cut.extend(cut)
            return []
        heard = _paced(sent_pts, ahead_secs)
        return [utterance.heard(heard, interrupted=True) for utterance in cut]

    def completed(self, now: float) -> list[PlayedFrame]:
        """The utterances that are over by `now`."""
        over = []
        while self._waiting and self._is_over(self._waiting[0], now):
            over.append(self._waiting.popleft().heard(0, interrupted=False))
        while self._cut and self._cut[0].deadline <= now:
            utterance = self._cut.pop(0)
            over.append(utterance.heard(self._reported_pts, interrupted=True))
        return over

    def due_at(self) -> float | None:
        """When to ask `completed` again if no report comes before; None: never."""
        times = [self._deadline(self._waiting[0])] if self._waiting else []
        times += [utterance.deadline for utterance in self._cut[:1]]
        return min(times, default=None)

    def _utterance(
        self, name: str, duration_ms: float, end_pts: int, deadline: float
    ) -> _Utterance:
        start_pts = end_pts - int(duration_ms * NS_PER_MS)
        lost_ns = sum(max(0, to - max(start, start_pts)) for start, to in self._lost)
        return _Utterance(name, duration_ms, end_pts, deadline, lost_ns)

    def _is_over(self, utterance: _Utterance, now: float) -> bool:
        if self._reports and self._reported_pts >= utterance.end_pts - REPORT_TOLERANCE_NS:
            return True
        return now >= self._deadline(utterance)

    def _deadline(self, utterance: _Utterance) -> float:
        is_reported = self._reports or self._acknowledges
        return utterance.deadline + (REPORT_GRACE_SECS if is_reported else 0.0)


def _paced(sent_pts: int, ahead_secs: float) -> int:
    return max(0, sent_pts - int(ahead_secs * 1000 * NS_PER_MS))
