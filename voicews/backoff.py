"""How long to wait before the next attempt, and when to give up: pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BackoffPolicy:
    """The delay doubles with each failure in a row, from the first to the longest (seconds).

    It is then multiplied by a random number from `spread`, so that those who failed together don't
    all come back together. After `max_failures` in a row it is over; None never gives up. What
    worked for less than `useful_secs` is a failure too.
    """

    first_delay_secs: float = 0.5
    max_delay_secs: float = 30.0
    max_failures: int | None = None
    useful_secs: float = 0.0
    spread: tuple[float, float] = (0.5, 1.0)


class Backoff:
    """Counts failures in a row for one `BackoffPolicy`."""

    def __init__(
        self, policy: BackoffPolicy, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._policy = policy
        self._uniform = uniform
        self.failures = 0

    def next_delay(self, worked_secs: float = 0.0) -> float | None:
        """Seconds to wait after something that worked for so long; None: give up.

        What never worked at all has worked for 0.
        """
        policy = self._policy
        if worked_secs and worked_secs >= policy.useful_secs:
            self.failures = 0
        self.failures += 1
        if policy.max_failures is not None and self.failures > policy.max_failures:
            return None
        # 2**30 is beyond every maximum; more would overflow in the end.
        delay = policy.first_delay_secs * 2.0 ** min(self.failures - 1, 30)
        return self._uniform(*policy.spread) * min(delay, policy.max_delay_secs)

    def reset(self) -> None:
        """It works: the next failure is the first."""
        self.failures = 0
