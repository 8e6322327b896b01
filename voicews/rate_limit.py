"""How many messages a peer may send: so many a second in the long run, so many in one go."""

from __future__ import annotations

#: After so many messages the reader of a busy socket yields, and checks its allowance.
FAIRNESS_MESSAGES = 64


class RateLimit:
    """A bucket of `burst` messages, full at first, that fills at `messages_per_sec`.

    Times are seconds of any clock that only goes forward.
    """

    def __init__(self, messages_per_sec: float, burst: float, now: float) -> None:
        self._messages_per_sec = messages_per_sec
        self._burst = self._left = burst
        self._spent_at = now

    def spend(self, messages: float, now: float) -> bool:
        """Take so many messages out; False when there were fewer: the peer sends too much."""
        earned = (now - self._spent_at) * self._messages_per_sec
        self._left = min(self._burst, self._left + earned) - messages
        self._spent_at = now
        return self._left >= 0
