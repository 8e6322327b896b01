"""What both ends of a transport are, and the queues of a serializer that has to wait."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from voicews.frames import CancelFrame, Direction, EndFrame, Frame, StartFrame
from voicews.pipeline.processor import FrameProcessor
from voicews.serial_queue import SerialQueue

if TYPE_CHECKING:
    from voicews.serializers.base import FrameSerializer

logger = logging.getLogger(__name__)

#: Messages that may wait for a serializer each way, one minute of 20 ms audio; then the oldest go.
MAX_WAITING_MESSAGES = 3000
#: How long (seconds) methods that still run at the end of the call may go on.
LAST_METHODS_SECS = 2.0


class TransportEnd(FrameProcessor):
    """An end of a transport: `start`, `stop` and `cancel` do what the frames of these names ask.

    A subclass may override them, and wait in them: what comes downstream then waits, in order.
    """

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name)
        #: None as long as nobody overrides anything: then no frame ever waits here.
        self._lane: SerialQueue | None = None
        if overrides(self, TransportEnd, "start", "stop", "cancel"):
            self._lane = SerialQueue(on_error=self._method_failed)
        self._is_passing = False

    async def start(self, frame: StartFrame) -> None:
        """Begin to work at the rates in `frame`, and pass it on."""
        self._pass(frame, Direction.DOWNSTREAM)

    async def stop(self, frame: EndFrame) -> None:
        """End in order."""
        self._pass(frame, Direction.DOWNSTREAM)

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        self._pass(frame, Direction.DOWNSTREAM)

    def _holds(self, frame: Frame, direction: Direction) -> bool:
        """Whether a frame waits for its turn: only if there is a lane."""
        lane = self._lane
        if lane is None or self._is_passing or direction is Direction.UPSTREAM:
            return False
        if lane.is_idle and not isinstance(frame, StartFrame | EndFrame | CancelFrame):
            return False
        lane.put(f"on {type(frame).__name__}", partial(self._take_turn, frame, direction))
        return True

    async def _take_turn(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, StartFrame):
            await self.start(frame)
        elif isinstance(frame, EndFrame):
            await self.stop(frame)
        elif isinstance(frame, CancelFrame):
            await self.cancel(frame)
        else:
            self._pass(frame, direction)

    def _pass(self, frame: Frame, direction: Direction) -> None:
        self._is_passing = True
        try:
            self.process_frame(frame, direction)
        finally:
            self._is_passing = False

    def _method_failed(self, doing: str, error: Exception) -> None:
        self.report_exception(error, doing)

    async def cleanup(self) -> None:
        if self._lane is not None:
            await self._lane.join(LAST_METHODS_SECS)
            await self._lane.cancel()


def overrides(end: object, base: type, *names: str) -> bool:
    """Whether the class of `end` has another method of one of these names than `base`."""
    return any(getattr(type(end), name) is not getattr(base, name) for name in names)


class SerializerQueues:
    """The turns of a serializer with coroutine methods: messages keep their order both ways."""

    def __init__(self, serializer: FrameSerializer) -> None:
        self._serializer = serializer
        self.incoming = self._queue("to deserialize")
        self.outgoing = self._queue("to serialize")
        self.report: Callable[[BaseException, str], None] | None = None

    @classmethod
    def of(cls, serializer: FrameSerializer) -> SerializerQueues | None:
        """None for a serializer that never waits."""
        methods = (serializer.setup, serializer.serialize, serializer.deserialize)
        return cls(serializer) if any(map(inspect.iscoroutinefunction, methods)) else None

    def setup(self, frame: StartFrame) -> None:
        """Set the serializer up, before the first message."""
        result: Any = self._serializer.setup(frame)  # type: ignore[func-returns-value]
        if inspect.isawaitable(result):
            setting_up = asyncio.ensure_future(result)
            self.incoming.put("to set up", partial(asyncio.shield, setting_up))
            self.outgoing.put("to set up", partial(_wait_for, setting_up))

    def _queue(self, doing: str) -> SerialQueue:
        return SerialQueue(
            on_error=self._failed,
            on_dropped=partial(self._dropped, doing),
            limit=MAX_WAITING_MESSAGES,
        )

    def _failed(self, doing: str, error: Exception) -> None:
        if self.report is not None:
            self.report(error, doing)

    def _dropped(self, doing: str, _name: str, dropped: int) -> None:
        if dropped % MAX_WAITING_MESSAGES == 1:
            name = type(self._serializer).__name__
            logger.warning("%s is too slow %s: %d messages dropped", name, doing, dropped)


async def _wait_for(task: asyncio.Future[Any]) -> None:
    await asyncio.wait([task])


async def finished(result: Any) -> Any:
    """What a method returned, waited for if it has to be."""
    return await result if inspect.isawaitable(result) else result
