"""A processor: takes frames, pushes frames.

The path between two processors is a plain function call, so a frame goes from the socket to the
play queue without a task switch. A processor that has to wait for something derives from
`QueuedProcessor`, which gives it a queue and a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque

from voicews.frames import (
    CancelFrame,
    ControlFrame,
    DataFrame,
    Direction,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputFrame,
    InterruptionFrame,
    StartFrame,
    SystemFrame,
)

logger = logging.getLogger(__name__)

#: At most one log line a second for each processor that keeps failing.
ERROR_LOG_INTERVAL_SECS = 1.0
#: One log line for so many frames of a kind that a slow processor loses.
DROPS_PER_LOG_LINE = 500


class FrameProcessor:
    """Override `process_frame`; what it does not push goes no further.

    `process_frame` must not block: it runs on the event loop, between two packets of audio.
    """

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name or type(self).__name__
        #: Names the call in log lines; set when the processor becomes part of a task.
        self.call_id = ""
        self._next: FrameProcessor | None = None
        self._previous: FrameProcessor | None = None
        self._error_logged_at = float("-inf")
        self._errors_unlogged = 0

    def link(self, following: FrameProcessor) -> None:
        """Make `following` the next processor downstream."""
        self._next = following
        following._previous = self

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        """Take a frame. The default passes it on."""
        self.push_frame(frame, direction)

    def push_frame(self, frame: Frame, direction: Direction = Direction.DOWNSTREAM) -> None:
        """Hand a frame to the neighbour.

        A failing neighbour is logged and reported upstream as an `ErrorFrame`; it never fails the
        one who pushes.
        """
        neighbour = self._next if direction is Direction.DOWNSTREAM else self._previous
        if neighbour is None:
            return
        try:
            neighbour.process_frame(frame, direction)
        except Exception as error:  # noqa: BLE001 - the boundary between two processors
            neighbour._failed_on(frame, direction, error)

    def broadcast_frame(self, frame: Frame) -> None:
        """Push a frame both ways: for news that concerns everybody in the call."""
        self.push_frame(frame, Direction.UPSTREAM)
        self.push_frame(frame, Direction.DOWNSTREAM)

    def push_error(self, error: str, *, fatal: bool = False) -> None:
        """Report trouble upstream; `error` must be safe to show to a client."""
        self.push_frame(ErrorFrame(error, fatal, self.name), Direction.UPSTREAM)

    async def cleanup(self) -> None:
        """Called once, after the last frame: stop tasks, close what was opened."""

    def report_exception(self, error: BaseException, doing: str) -> None:
        """Log an exception with the call's id and tell the pipeline that this processor failed."""
        now = time.monotonic()
        if now - self._error_logged_at >= ERROR_LOG_INTERVAL_SECS:
            logger.error(
                "call %s: %s failed %s%s",
                self.call_id,
                self.name,
                doing,
                f" ({self._errors_unlogged} more like it)" if self._errors_unlogged else "",
                exc_info=error,
            )
            self._error_logged_at = now
            self._errors_unlogged = 0
            self.push_error(f"{self.name} failed")
        else:
            self._errors_unlogged += 1

    def _failed_on(self, frame: Frame, direction: Direction, error: Exception) -> None:
        if isinstance(frame, ErrorFrame):
            # A failing error handler would report itself without end.
            logger.error("call %s: %s failed on an error", self.call_id, self.name, exc_info=error)
            return
        self.report_exception(error, f"on {type(frame).__name__}")
        if isinstance(frame, SystemFrame | ControlFrame):
            # Start, end, cancel and interruption concern everybody behind it too.
            self.push_frame(frame, direction)


class QueuedProcessor(FrameProcessor):
    """A processor that may take its time: override `handle_frame`.

    Frames wait in one queue, in order, and are handled one after the other in a task of its own.
    System frames overtake the queue. An interruption drops the `DataFrame`s that wait, and cancels
    `handle_frame` if a `DataFrame` is what it is busy with.
    """

    #: Frames that may wait: one minute of 20 ms audio. Beyond it the oldest audio or `DataFrame`
    #: goes, and where there is none, the oldest of what else the user did; control frames stay.
    max_queued_frames = 3000

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._queue: deque[tuple[Frame, Direction]] = deque()
        self._busy_with: Frame | None = None
        self._worker: asyncio.Task[None] | None = None
        self._handling: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped_frames = 0
        self._dropped: Counter[str] = Counter()

    async def handle_frame(self, frame: Frame, direction: Direction) -> None:
        """Take a frame; may wait. The default passes it on."""
        self.push_frame(frame, direction)

    def handle_system_frame(self, frame: SystemFrame, direction: Direction) -> None:
        """Take a system frame at once. The default passes it on."""
        self.push_frame(frame, direction)

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, SystemFrame):
            if isinstance(frame, InterruptionFrame):
                self._interrupt()
            elif isinstance(frame, CancelFrame):
                self._stop()
            elif isinstance(frame, StartFrame):
                self._closed = False
            self.handle_system_frame(frame, direction)
            return
        if self._closed:
            return
        self._queue.append((frame, direction))
        if len(self._queue) > self.max_queued_frames:
            self._drop_one()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def cleanup(self) -> None:
        self._stop()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while self._queue:
            frame, direction = self._queue.popleft()
            self._busy_with = frame
            self._handling = asyncio.get_running_loop().create_task(
                self.handle_frame(frame, direction)
            )
            try:
                await asyncio.wait([self._handling])
            finally:
                self._busy_with = None
            if self._handling.cancelled():
                # By an interruption or the end; a handler may also give itself up, and the
                # others wait for what it was given all the same.
                if isinstance(frame, ControlFrame) and not self._closed:
                    self.push_frame(frame, direction)
                continue
            error = self._handling.exception()
            if isinstance(error, Exception):
                self._failed_on(frame, direction, error)
        self._worker = None

    def _interrupt(self) -> None:
        self._queue = deque(item for item in self._queue if not isinstance(item[0], DataFrame))
        if isinstance(self._busy_with, DataFrame) and self._handling is not None:
            self._handling.cancel()

    def _stop(self) -> None:
        self._closed = True
        self._queue.clear()
        if self._busy_with is not None and self._handling is not None:
            self._handling.cancel()

    def _drop_one(self) -> None:
        index = self._oldest(InputAudioRawFrame, DataFrame)
        if index is None:
            index = self._oldest(InputFrame)
        if index is None:
            return
        kind = type(self._queue[index][0]).__name__
        del self._queue[index]
        self.dropped_frames += 1
        self._dropped[kind] += 1
        if self._dropped[kind] % DROPS_PER_LOG_LINE == 1:
            logger.warning(
                "call %s: %s is too slow, %d %s dropped",
                self.call_id,
                self.name,
                self._dropped[kind],
                kind,
            )

    def _oldest(self, *kinds: type[Frame]) -> int | None:
        for index, (frame, _direction) in enumerate(self._queue):
            if isinstance(frame, kinds):
                return index
        return None
