"""A clock that jumps, a socket that remembers, processors that watch."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

from voicews.frames import Direction, Frame, OutputTransportMessageUrgentFrame
from voicews.pipeline import FrameProcessor
from voicews.serializers import frames_pb2 as pb
from voicews.testing.bot_call import FakeSocket as BaseFakeSocket
from voicews.testing.bot_call import FrameListSerializer
from voicews.testing.virtual_clock import VirtualClockLoop, settle, virtual_time
from voicews.testing.virtual_clock import run_virtual as run

__all__ = [
    "FakeSocket",
    "FrameListSerializer",
    "Tap",
    "VirtualClockLoop",
    "current_loop",
    "ramp",
    "run",
    "settle",
    "virtual_time",
]

T = TypeVar("T")


def current_loop() -> VirtualClockLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop


class FakeSocket(BaseFakeSocket):
    """One whose peer speaks protobuf, as most tests do."""

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


def ramp(num_samples: int, start: int = 0) -> bytes:
    """PCM in which every sample is different from its neighbours: losses and repeats show."""
    samples = (((start + i) % 60000) - 30000 for i in range(num_samples))
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)
