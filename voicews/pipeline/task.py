"""The life of one pipeline: start, end, cancel."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from functools import partial

from voicews.close_codes import CloseCode
from voicews.exceptions import InvalidState
from voicews.frames import (
    CancelFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    StartFrame,
)
from voicews.pipeline.pipeline import Pipeline
from voicews.pipeline.processor import FrameProcessor

logger = logging.getLogger(__name__)

#: How long each processor may take to clean up.
CLEANUP_TIMEOUT_SECS = 10.0


class TaskState(enum.IntEnum):
    """The life of a `PipelineTask`: each state follows the one before it."""

    CREATED = 0
    RUNNING = 1
    ENDING = 2
    ENDED = 3


class PipelineTask:
    """Runs a pipeline once.

    `call_id` names the call in log lines. `end_timeout_secs` is how long an orderly end may take,
    that is, how long processors may go on with what was queued before it, until it becomes a
    cancel.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        call_id: str = "",
        audio_in_sample_rate: int = 16000,
        audio_out_sample_rate: int = 24000,
        end_timeout_secs: float = 120.0,
    ) -> None:
        self.call_id = call_id
        self.state = TaskState.CREATED
        #: Why the call ended, and the WebSocket close code that says so; set when the end begins.
        self.reason = ""
        self.close_code: int = CloseCode.NORMAL
        self._start_frame = StartFrame(audio_in_sample_rate, audio_out_sample_rate)
        self._end_timeout_secs = end_timeout_secs
        self._end_timer: asyncio.TimerHandle | None = None
        self._starting = False
        self._after_start: Callable[[], None] | None = None
        self._cancelling = False
        self._ended = asyncio.Event()
        self._cleaning: asyncio.Task[None] | None = None
        self._processors = pipeline.processors
        self._source = _Source(self)
        self._sink = _Sink(self)
        self._source.link(self._processors[0])
        self._processors[-1].link(self._sink)
        for processor in self._processors:
            processor.call_id = call_id

    def start(self) -> None:
        """Send the `StartFrame`; needs a running event loop."""
        if self.state is not TaskState.CREATED:
            raise InvalidState(f"expected a task that is CREATED, found {self.state.name}")
        self.state = TaskState.RUNNING
        self._starting = True
        self._source.push_frame(self._start_frame)
        self._starting = False
        if self._after_start is not None:
            self._after_start()

    def queue_frame(self, frame: Frame) -> None:
        """Send a frame down the whole pipeline; dropped when the task isn't running."""
        if self.state is TaskState.RUNNING:
            self._source.push_frame(frame)

    def interrupt(self) -> None:
        """Silence the bot now."""
        self.queue_frame(InterruptionFrame())

    def end(self, reason: str = "ended", close_code: int = CloseCode.NORMAL) -> None:
        """End in order: what is queued is still handled and played. Later calls do nothing."""
        if self.state is not TaskState.RUNNING:
            return
        if self._starting:
            # Who asks while the StartFrame is on its way would have the end overtake it.
            self._after_start = self._after_start or partial(self.end, reason, close_code)
            return
        self.state = TaskState.ENDING
        self.reason = reason
        self.close_code = close_code
        self._end_timer = asyncio.get_running_loop().call_later(
            self._end_timeout_secs, self._end_took_too_long
        )
        self._source.push_frame(EndFrame(reason, close_code))

    def cancel(self, reason: str = "cancelled", close_code: int = CloseCode.NORMAL) -> None:
        """End at once: what is queued is dropped. Cuts an orderly end short too."""
        if self.state not in (TaskState.RUNNING, TaskState.ENDING) or self._cancelling:
            return
        if self._starting:
            self._after_start = partial(self.cancel, reason, close_code)
            return
        self._cancelling = True
        if self.state is TaskState.RUNNING:
            self.state = TaskState.ENDING
            self.reason = reason
            self.close_code = close_code
        self._source.push_frame(CancelFrame(self.reason, self.close_code))
        # The cancel has passed everybody by now, unless one of them swallowed it.
        self._finish()

    async def wait_ended(self) -> None:
        """Wait until nothing flows any more; processors may still be cleaning up."""
        await self._ended.wait()

    async def wait(self) -> str:
        """Wait until the pipeline has ended and is cleaned up; returns the reason."""
        await self._ended.wait()
        assert self._cleaning is not None
        # Shielded: one who gives up waiting says nothing about the others.
        await asyncio.shield(self._cleaning)
        return self.reason

    def _end_took_too_long(self) -> None:
        logger.warning(
            "call %s: not over %g s after its end, cancelled", self.call_id, self._end_timeout_secs
        )
        self.cancel("end timed out")

    def _finish(self) -> None:
        # Both a cancel that cuts an end short and that end may arrive.
        if self.state is TaskState.ENDED:
            return
        self.state = TaskState.ENDED
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._ended.set()
        self._cleaning = asyncio.get_running_loop().create_task(self._clean_up())

    async def _clean_up(self) -> None:
        for processor in self._processors:
            # A timeout around it would wait for one that won't be cancelled.
            cleaning = asyncio.ensure_future(processor.cleanup())
            done, _ = await asyncio.wait([cleaning], timeout=CLEANUP_TIMEOUT_SECS)
            error: BaseException | None = None
            if not done:
                cleaning.cancel()
                error = TimeoutError(f"not done in {CLEANUP_TIMEOUT_SECS:g} s")
            elif not cleaning.cancelled():
                error = cleaning.exception()
            if error is not None:
                logger.error(
                    "call %s: %s failed to clean up", self.call_id, processor.name, exc_info=error
                )

    def _arrived_upstream(self, frame: Frame) -> None:
        if isinstance(frame, EndRequestFrame):
            stop = self.cancel if frame.at_once else self.end
            stop(frame.reason or "ended", frame.close_code)
        elif isinstance(frame, ErrorFrame) and frame.fatal:
            logger.error(
                "call %s: ended by a fatal error in %s", self.call_id, frame.processor or "it"
            )
            self.cancel("error", close_code=CloseCode.SERVER_ERROR)


class _Source(FrameProcessor):
    def __init__(self, task: PipelineTask) -> None:
        super().__init__(name="source")
        self._task = task

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        self._task._arrived_upstream(frame)


class _Sink(FrameProcessor):
    def __init__(self, task: PipelineTask) -> None:
        super().__init__(name="sink")
        self._task = task

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, EndFrame):
            self._task._finish()
