"""Lanes: handlers that may take their time, one after the other, beside the frames."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from voicews.pipeline.processor import FrameProcessor

logger = logging.getLogger(__name__)

#: Calls of one kind of handler that may wait: a minute of 20 ms audio. Beyond it the oldest goes.
MAX_WAITING_CALLS = 3000
#: A handler that was cancelled gets so long (seconds) to give in; the end goes on without it then.
HANDLER_STOP_TIMEOUT_SECS = 2.0


class Lane:
    """Runs the async handlers of one kind, one after the other.

    One that fails is reported as a failure of `processor`, and the next one runs.
    """

    def __init__(self, processor: FrameProcessor) -> None:
        self._processor = processor
        self._dropped = 0
        self._closed = False
        self._waiting: deque[tuple[str, Callable[[], Awaitable[None]]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    def put(
        self, name: str, run: Callable[[], Awaitable[None]], *, newest_only: bool = False
    ) -> None:
        """Call `run` after those before it; with `newest_only` instead of those that wait."""
        if self._closed:
            return
        if newest_only:
            self._waiting.clear()
        if len(self._waiting) >= MAX_WAITING_CALLS:
            self._waiting.popleft()
            if self._dropped % 500 == 0:
                logger.warning(
                    "call %s: %s is too slow in %s",
                    self._processor.call_id,
                    self._processor.name,
                    name,
                )
            self._dropped += 1
        self._waiting.append((name, run))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def cancel_current(self) -> None:
        """Cancel the handler that runs, unless it is that handler who asks."""
        if self._running is not None and self._running is not asyncio.current_task():
            self._running.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        self._waiting.clear()
        self.cancel_current()

    async def stop(self) -> None:
        self.close()
        if self._worker is not None:
            await asyncio.wait([self._worker], timeout=HANDLER_STOP_TIMEOUT_SECS)

    async def _work(self) -> None:
        while self._waiting:
            name, run = self._waiting.popleft()
            self._running = asyncio.ensure_future(run())
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                error = self._running.exception()
                if error is not None:
                    self._processor.report_exception(error, f"in {name}")
            self._running = None
        self._worker = None
