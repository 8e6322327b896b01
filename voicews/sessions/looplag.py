"""How late the event loop is: what every call in the process feels."""

from __future__ import annotations

import asyncio
from collections import deque

TICK_SECS = 0.25
#: The figure is the worst of so many ticks: ten seconds.
TICKS = 40


class LoopLag:
    """Measures how much later than asked a timer rings."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=TICKS)
        self._due_at = 0.0

    @property
    def worst_secs(self) -> float:
        """The worst of the last seconds."""
        return max(self._lags, default=0.0)

    def start(self) -> None:
        """Measure for as long as the event loop runs."""
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_at = loop.time() + TICK_SECS
        loop.call_at(self._due_at, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lags.append(max(0.0, loop.time() - self._due_at))
        self._schedule(loop)
