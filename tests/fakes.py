"""A clock that jumps, a socket that remembers, processors that watch."""

from __future__ import annotations

import asyncio
import functools
import json
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

from voicews.frames import (
    Direction,
    Frame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from voicews.pipeline import FrameProcessor
from voicews.serializers import FrameSerializer
from voicews.serializers import frames_pb2 as pb

P = ParamSpec("P")
T = TypeVar("T")

#: Real seconds to wait for a thread when nothing else is left to do.
DEADLOCK_SECS = 5.0


class _JumpingSelector(selectors.SelectSelector):
    """Passes the time until the next timer in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(DEADLOCK_SECS if timeout is None else 0)
        if not events:
            if timeout is None:
                raise RuntimeError("nothing will ever happen any more")
            self.now += timeout
        return events


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work, and jumps when there is none."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.failures: list[Mapping[str, Any]] = []
        self.turns = 0
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        return self._jumping.now

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]  # private, so typeshed does not know it

    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers that have yet to ring."""
        handles: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [handle for handle in handles if not handle.cancelled()]


def current_loop() -> VirtualClockLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on a virtual clock; fails for a task left behind and for a failure that nobody saw."""

    async def main() -> T:
        result = await coroutine
        await settle()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        return result

    # Not from the runner's own argument: it would not know that it is ours.
    loop = VirtualClockLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main())
        assert not loop.failures, f"nobody saw: {loop.failures}"
        return result


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorator: run an async test on a virtual clock."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return wrapper


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeSocket:
    """Remembers what was sent and when; can stall, fail, and ignore a close."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.times: list[float] = []
        self.closed: list[tuple[int, str]] = []
        self.aborted = 0
        self.error: Exception | None = None
        #: Cleared: the peer reads no more.
        self.flows = asyncio.Event()
        self.flows.set()
        self.close_answered = asyncio.Event()
        self.close_answered.set()

    @property
    def websocket(self) -> object:
        return self

    async def send(self, data: str | bytes) -> None:
        await self.flows.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(data)
        self.times.append(asyncio.get_running_loop().time())

    def send_now(self, data: str | bytes) -> bool:
        return False

    async def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))
        await self.close_answered.wait()

    def abort(self) -> None:
        self.aborted += 1

    # --- protobuf, as most tests speak it ---

    def frames(self) -> list[pb.Frame]:
        return [pb.Frame.FromString(data) for data in self.sent if isinstance(data, bytes)]

    def audio(self) -> list[pb.AudioRawFrame]:
        return [frame.audio for frame in self.frames() if frame.HasField("audio")]

    def pcm(self) -> bytes:
        return b"".join(audio.audio for audio in self.audio())

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(f.message.data) for f in self.frames() if f.HasField("message")]

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("frame") for frame in self.frames()]


class Tap(FrameProcessor):
    """Passes everything on, and remembers it."""

    def __init__(self, name: str = "tap") -> None:
        super().__init__(name=name)
        self.downstream: list[Frame] = []
        self.upstream: list[Frame] = []
        self.cleanups = 0

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        (self.downstream if direction is Direction.DOWNSTREAM else self.upstream).append(frame)
        self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        self.cleanups += 1

    def down(self, kind: type[T]) -> list[T]:
        return [frame for frame in self.downstream if isinstance(frame, kind)]

    def up(self, kind: type[T]) -> list[T]:
        return [frame for frame in self.upstream if isinstance(frame, kind)]

    def rtvi(self) -> list[dict[str, Any]]:
        """The messages to the client that passed."""
        return [frame.message for frame in self.down(OutputTransportMessageUrgentFrame)]


class FrameListSerializer(FrameSerializer):
    """The message is the frame's place in a list: tests see the frames themselves."""

    def __init__(self, *, sample_rate: int | None = None, acknowledges_marks: bool = False) -> None:
        self.sample_rate = sample_rate
        self.acknowledges_marks = acknowledges_marks
        self.frames: list[Frame] = []

    def serialize(self, frame: Frame) -> str | bytes | None:
        self.frames.append(frame)
        return str(len(self.frames) - 1)

    def deserialize(self, data: str | bytes) -> Frame | None:
        return self.frames[int(data)]

    def received(self, socket: FakeSocket) -> list[Frame]:
        """What reached the peer, in order."""
        return [self.frames[int(data)] for data in socket.sent]

    def audio(self, socket: FakeSocket) -> list[OutputAudioRawFrame]:
        return [f for f in self.received(socket) if isinstance(f, OutputAudioRawFrame)]


def ramp(num_samples: int, start: int = 0) -> bytes:
    """PCM in which every sample is different from its neighbours: losses and repeats show."""
    samples = (((start + i) % 60000) - 30000 for i in range(num_samples))
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)
