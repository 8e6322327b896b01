"""A project's own consumers on routes of its own, as the documentation shows them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.test import AsyncClient
from django.urls import path

from voicews.consumers import VoiceConsumer
from voicews.frames import Direction, Frame, InputAudioRawFrame, OutputAudioRawFrame
from voicews.pipeline import FrameProcessor, Pipeline
from voicews.routing import voice_application, websocket_urlpatterns
from voicews.serializers.frames_pb2 import AudioRawFrame, MessageFrame
from voicews.serializers.frames_pb2 import Frame as Message
from voicews.transports import WebsocketServerTransport

pytestmark = pytest.mark.django_db(transaction=True)


class Louder(FrameProcessor):
    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, InputAudioRawFrame):
            louder = (np.frombuffer(frame.audio, "<i2") * 2).astype("<i2").tobytes()
            self.push_frame(OutputAudioRawFrame(louder, frame.sample_rate))
        else:
            self.push_frame(frame, direction)


class LouderConsumer(VoiceConsumer):
    def build_pipeline(self, transport: WebsocketServerTransport) -> Pipeline:
        return Pipeline([transport.input(), Louder(), transport.output()])


def application() -> Any:
    routes: Any = [
        path("ws/louder/", LouderConsumer.as_asgi()),  # type: ignore[arg-type]  # as Channels
    ]
    return voice_application(get_asgi_application(), [*websocket_urlpatterns, *routes])


async def login() -> list[tuple[bytes, bytes]]:
    """The headers of a page of a user who is logged in."""
    user = await sync_to_async(User.objects.create_user)("me", password="secret")
    client = AsyncClient()
    await client.aforce_login(user)
    cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    header = f"{django_settings.SESSION_COOKIE_NAME}={cookie}"
    return [(b"cookie", header.encode()), (b"host", b"testserver")]


def rtvi(kind: str, data: Any) -> bytes:
    message = {"label": "rtvi-ai", "type": kind, "id": "1", "data": data}
    return Message(message=MessageFrame(data=json.dumps(message))).SerializeToString()


@asynccontextmanager
async def talking(where: str, headers: Any) -> AsyncIterator[WebsocketCommunicator]:
    communicator = WebsocketCommunicator(application(), where, headers=headers)
    connected, _ = await communicator.connect(timeout=10)
    assert connected
    try:
        yield communicator
    finally:
        await communicator.disconnect(timeout=10)


async def hear(communicator: WebsocketCommunicator) -> dict[str, Any]:
    """Greet, say one packet: what comes back."""
    await communicator.send_to(bytes_data=rtvi("client-ready", {"version": "2.2.0"}))
    pcm = np.full(320, 1000, "<i2").tobytes()
    said = AudioRawFrame(name="audio", audio=pcm, sample_rate=16000, num_channels=1)
    await communicator.send_to(bytes_data=Message(audio=said).SerializeToString())
    found: dict[str, Any] = {}
    while not {"bot-ready", "audio"} <= found.keys():
        data = await communicator.receive_from(timeout=10)
        assert isinstance(data, bytes)
        frame = Message.FromString(data)
        if frame.HasField("audio"):
            found["audio"] = np.frombuffer(frame.audio.audio, "<i2")
        elif frame.HasField("message"):
            message = json.loads(frame.message.data)
            found[message["type"]] = message.get("data")
    return found


@pytest.fixture(autouse=True)
def _logged_in_only(settings: Any) -> None:
    settings.VOICEWS = {
        **settings.VOICEWS,
        "MAY_CONNECT": "voicews.permissions.authenticated",
        "BOTS": {},
        "DEFAULT_BOT": None,
    }


async def test_a_user_who_is_logged_in_is_let_in_without_a_middleware() -> None:
    async with talking("/ws/louder/", await login()) as communicator:
        found = await hear(communicator)
    assert found["audio"].max() > 1900


async def test_who_is_not_logged_in_is_refused() -> None:
    communicator = WebsocketCommunicator(application(), "/ws/louder/")
    connected, _ = await communicator.connect(timeout=10)
    assert not connected
