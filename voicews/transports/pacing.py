"""When audio may be sent. Pure: callers pass the time."""

from __future__ import annotations


class Pacer:
    """Keeps output on media time, ahead of it by `lead_secs` at the most.

    The playhead is the moment at which everything sent so far has been played, if the peer plays
    without a pause. A chunk may leave when the playhead is no more than the lead away, so a late
    wake-up is not heard, and an interruption can't be more than the lead behind. All times in
    seconds on one monotonic clock.
    """

    __slots__ = ("lead_secs", "playhead")

    def __init__(self, lead_secs: float) -> None:
        self.lead_secs = lead_secs
        self.playhead = float("-inf")

    def due_at(self) -> float:
        """When the next chunk may leave."""
        return self.playhead - self.lead_secs

    def sent(self, duration_secs: float, now: float) -> None:
        """A chunk of `duration_secs` left at `now`."""
        # Behind the playhead the peer has run dry: the chunk starts to play when it arrives.
        self.playhead = (max(now, self.playhead)) + duration_secs

    def ahead_secs(self, now: float) -> float:
        """How much of what was sent is not played yet."""
        return max(0.0, self.playhead - now)

    def hold(self, until: float) -> None:
        """What was sent is not all played before `until`."""
        self.playhead = max(self.playhead, until)

    def flush(self, now: float) -> None:
        """The peer has thrown away what it had not played."""
        self.playhead = min(self.playhead, now)
