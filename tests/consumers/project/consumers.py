"""Consumers of a project's own."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from tests.consumers.project.bots import ExactEcho, Talkative
from tests.consumers.project.journal import note
from voicews.consumers.voice import SessionConsumer, VoiceConsumer
from voicews.exceptions import NotAllowed
from voicews.frames import Direction, Frame, InputAudioRawFrame, OutputAudioRawFrame
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.transports import (
    ChannelsWebsocketParams,
    ChannelsWebsocketTransport,
    WebsocketServerTransport,
)


class Loopback(FrameProcessor):
    """Turns what comes in into what goes out."""

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, InputAudioRawFrame):
            self.push_frame(OutputAudioRawFrame(frame.audio, frame.sample_rate))
        else:
            self.push_frame(frame, direction)


def params() -> ChannelsWebsocketParams:
    return ChannelsWebsocketParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        audio_out_sample_rate=16000,
        audio_out_auto_silence=False,
    )


class OwnPipeline(VoiceConsumer):
    """A call whose pipeline is built here."""

    def transport_params(self, bot: object) -> ChannelsWebsocketParams:
        return params()

    def build_pipeline(self, transport: WebsocketServerTransport) -> Pipeline:
        return Pipeline([transport.input(), Loopback(), transport.output()])


class OwnSession(SessionConsumer):
    """A session whose pipeline is built here, without RTVI in it."""

    def build_pipeline(self, transport: WebsocketServerTransport) -> Pipeline:
        return Pipeline([transport.input(), Loopback(), transport.output()])


class OwnBot(VoiceConsumer):
    """A call with a bot, without a session."""

    bot = ExactEcho


class Members(OwnBot):
    """A call that needs more than the settings ask for."""

    async def authorize(self) -> None:
        if self.query.get("member") != ["yes"]:
            raise NotAllowed("members only")


class Talk(VoiceConsumer):
    """A call with more to hear than anybody wants to."""

    bot = Talkative


class SeesMessages:
    """A middleware that the app knows nothing of; writes what it saw into the journal."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        seen: set[str] = set()

        async def receive_seen() -> Any:
            message = await receive()
            seen.add(message["type"])
            return message

        async def send_seen(message: Any) -> None:
            seen.add(message["type"])
            await send(message)

        try:
            await self._application(scope, receive_seen, send_seen)
        finally:
            note("middleware", scope["query_string"].decode(), seen=sorted(seen))


class Nothing(VoiceConsumer):
    """Has neither a bot nor a pipeline."""


class Plain(AsyncWebsocketConsumer):
    """Channels' own consumer with the transport, as that one's docstring says."""

    async def connect(self) -> None:
        await self.accept()
        self.transport = ChannelsWebsocketTransport(self, params())
        pipeline = Pipeline([self.transport.input(), Loopback(), self.transport.output()])
        self.task = PipelineTask(pipeline, call_id="plain")
        self.task.start()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        data = text_data if bytes_data is None else bytes_data
        assert data is not None
        await self.transport.receive(data)

    async def disconnect(self, code: int) -> None:
        self.transport.disconnect(code)
        async with asyncio.timeout(5):
            await self.task.wait()
