"""A whole call around one transport: task, pipeline, sockets; on the virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes import FakeSocket, FrameListSerializer, Tap, current_loop, settle
from voicews.frames import (
    Direction,
    Frame,
    InputAudioRawFrame,
    MarkFrame,
    OutputAudioRawFrame,
    PlayedFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.serializers import ProtobufFrameSerializer
from voicews.transports import WebsocketServerParams, WebsocketServerTransport
from voicews.transports.base import Connection

RATE = 24000


class Call:
    """`tap` stands for the bot; `after` sees what has left the output.

    Output is 24 kHz mono, nothing but what the test says unless `options` say so.
    """

    def __init__(self, *processors: FrameProcessor, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_auto_silence": False,
            "audio_out_end_silence_secs": 0.0,
            "serializer": FrameListSerializer(),
        }
        self.params = WebsocketServerParams(**{**defaults, **options})
        self.serializer: Any = self.params.serializer
        self.transport = WebsocketServerTransport(self.params)
        self.tap, self.after = Tap("bot"), Tap("after")
        self.task = PipelineTask(
            Pipeline(
                [
                    self.transport.input(),
                    *processors,
                    self.tap,
                    self.transport.output(),
                    self.after,
                ]
            ),
            call_id="c1",
        )
        self.socket = FakeSocket()
        self.connection: Connection

    def start(self) -> Call:
        self.task.start()
        self.connection = self.transport.connect(self.socket)
        return self

    def reconnect(self) -> FakeSocket:
        self.socket = FakeSocket()
        self.connection = self.transport.connect(self.socket)
        return self.socket

    def is_open(self) -> bool:
        """A call and no attribute: mypy thinks that those stay what they were."""
        return self.connection.is_open

    async def receive(self, *frames: Frame) -> None:
        """The client sends these frames, as the frame list has them."""
        for frame in frames:
            self.serializer.frames.append(frame)
            await self.connection.receive(str(len(self.serializer.frames) - 1))

    async def hear(self, pcm: bytes, rate: int = 16000, channels: int = 1) -> None:
        await self.receive(InputAudioRawFrame(pcm, rate, channels))

    def play(self, pcm: bytes, rate: int = RATE, channels: int = 1, name: str = "") -> None:
        """Push audio, and if it has a name, the mark that ends the utterance."""
        frame = OutputAudioRawFrame(pcm, rate, channels)
        self.tap.push_frame(frame)
        if name:
            self.tap.push_frame(MarkFrame(name, frame.duration_secs * 1000))

    def say(self, secs: float, name: str = "") -> None:
        self.play(bytes(round(secs * RATE) * 2), name=name)

    def ask(self, frame: Frame) -> None:
        """A processor pushes a frame upstream."""
        self.tap.push_frame(frame, Direction.UPSTREAM)

    def played(self) -> list[tuple[str, float, bool]]:
        return [(p.name, round(p.heard_ms, 3), p.interrupted) for p in self.tap.up(PlayedFrame)]

    # --- what the client got ---

    def audio(self) -> list[OutputAudioRawFrame]:
        if isinstance(self.serializer, FrameListSerializer):
            return self.serializer.audio(self.socket)
        assert isinstance(self.serializer, ProtobufFrameSerializer | None)
        return [
            OutputAudioRawFrame(a.audio, a.sample_rate, a.num_channels, a.pts)
            for a in self.socket.audio()
        ]

    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.audio())

    def secs(self) -> float:
        return sum(frame.duration_secs for frame in self.audio())

    def received(self, kind: type[Frame]) -> list[Frame]:
        frames = self.serializer.received(self.socket)
        return [frame for frame in frames if isinstance(frame, kind)]

    async def finish(self) -> None:
        """Hang up if that hasn't happened; nothing may be left over."""
        self.task.cancel("test is over")
        await self.task.wait()
        await self.transport.wait_closed()
        # An abort is still due for a peer that would not answer the close.
        await asyncio.sleep(1)
        await settle()
        assert current_loop().timers() == []
