"""Lanes: handlers that may take their time, one after the other, beside the frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from voicews.pipeline.processor import FrameProcessor
from voicews.serial_queue import SerialQueue

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
        self._closed = False
        self._queue = SerialQueue(
            on_error=self._failed, on_dropped=self._call_dropped, limit=MAX_WAITING_CALLS
        )
        self._running: asyncio.Task[None] | None = None

    def put(
        self, name: str, run: Callable[[], Awaitable[None]], *, newest_only: bool = False
    ) -> None:
        """Call `run` after those before it; with `newest_only` instead of those that wait."""
        if self._closed:
            return
        if newest_only:
            self._queue.clear()
        self._queue.put(name, partial(self._run, run))

    def _call_dropped(self, name: str, dropped: int) -> None:
        if dropped % 500 == 1:
            logger.warning(
                "call %s: %s is too slow in %s",
                self._processor.call_id,
                self._processor.name,
                name,
            )

    def _failed(self, name: str, error: Exception) -> None:
        self._processor.report_exception(error, f"in {name}")

    def cancel_current(self) -> None:
        """Cancel the handler that runs, unless that handler makes this call."""
        if self._running is not None and self._running is not asyncio.current_task():
            self._running.cancel()

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        self._queue.clear()
        self.cancel_current()

    async def stop(self) -> None:
        self.close()
        await self._queue.join(HANDLER_STOP_TIMEOUT_SECS)

    async def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        # In a task of its own: it can be cancelled, and the next one still runs.
        running = self._running = asyncio.ensure_future(run())
        await asyncio.wait([running])
        self._running = None
        if not running.cancelled():
            running.result()
