"""Consumers on the channel layer, as Channels' own are: in memory, and on a real Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from channels.exceptions import StopConsumer
from channels.layers import channel_layers, get_channel_layer
from websockets.asyncio.client import ClientConnection, connect

from tests.consumers.project.bots import ExactEcho
from tests.polling import until
from tests.sessions.cluster import running_redis
from voicews.consumers import VoiceConsumer
from voicews.consumers.base import SocketConsumer
from voicews.exceptions import NotAllowed
from voicews.servers.embedded import Listener


class Room(VoiceConsumer):
    """A call that hears of its room's news."""

    bot = ExactEcho
    groups = ["room"]

    async def authorize(self) -> None:
        if self.query.get("stranger"):
            raise NotAllowed("members only")

    async def room_news(self, event: dict[str, Any]) -> None:
        if event["text"] == "fail":
            raise RuntimeError("no")
        if event["text"] == "stop":
            raise StopConsumer
        await self.send(event["text"])

    async def room_ask(self, event: dict[str, Any]) -> None:
        await self.channel_layer.group_send("room", {"type": "room.news", "text": "asked"})


class Direct(SocketConsumer):
    """Has a handler, and no group: joins one by itself."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("late", self.channel_name)
        await self.channel_layer.send(self.channel_name, {"type": "own.word", "text": "first"})
        await self.accept()

    async def own_word(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


class Apart(SocketConsumer):
    """Uses nothing of the channel layer but sending."""

    made: ClassVar[list[Apart]] = []

    async def connect(self) -> None:
        self.made.append(self)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("room", {"type": "room.news", "text": text_data})


@pytest.fixture(
    params=[
        "memory",
        pytest.param("core", marks=pytest.mark.program),
        pytest.param("pubsub", marks=pytest.mark.program),
    ]
)
def layer(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Any:
    """The settings' channel layer, one kind after the other."""
    backends = {
        "memory": "channels.layers.InMemoryChannelLayer",
        "core": "channels_redis.core.RedisChannelLayer",
        "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    }
    one: dict[str, Any] = {"BACKEND": backends[request.param]}
    if request.param == "memory":
        settings.CHANNEL_LAYERS = {"default": one}
        channel_layers.backends.clear()
        yield get_channel_layer()
    else:
        with running_redis(tmp_path) as redis:
            settings.CHANNEL_LAYERS = {"default": {**one, "CONFIG": {"hosts": [redis.url]}}}
            channel_layers.backends.clear()
            yield get_channel_layer()
    channel_layers.backends.clear()


@pytest.fixture
async def listen() -> AsyncIterator[Callable[[type[SocketConsumer]], Any]]:
    """A function that serves a consumer; returns its URL."""
    listeners: list[Listener] = []

    async def start(kind: type[SocketConsumer]) -> str:
        listener = Listener(kind.as_asgi(), "127.0.0.1", 0)
        await listener.start()
        listeners.append(listener)
        return f"ws://127.0.0.1:{listener.port}/"

    yield start
    for listener in listeners:
        await listener.stop()


async def news(layer: Any, text: str) -> None:
    await layer.group_send("room", {"type": "room.news", "text": text})


async def heard(client: ClientConnection, text: str) -> None:
    """Wait for a text; what the bot says is passed over."""
    async with asyncio.timeout(10):
        while await client.recv() != text:
            pass


async def test_groups(layer: Any, listen: Any) -> None:
    url = await listen(Room)
    async with connect(url, proxy=None) as one, connect(url, proxy=None) as other:
        await news(layer, "hello")
        await heard(one, "hello")
        await heard(other, "hello")
        await layer.group_send("room", {"type": "room.ask"})
        for client in (one, other, one, other):
            await heard(client, "asked")
        await other.close()
        await news(layer, "again")
        await heard(one, "again")


async def test_whoever_has_left_is_in_no_group(layer: Any, listen: Any) -> None:
    url = await listen(Room)
    async with connect(url, proxy=None) as client:
        await news(layer, "hello")
        await heard(client, "hello")
    with pytest.raises(Exception, match="403"):
        await connect(url + "?stranger=1", proxy=None)

    async def is_empty() -> bool:
        if hasattr(layer, "groups"):  # in memory and pubsub
            return not layer.groups
        async with asyncio.timeout(10):
            key = layer._group_key("room")
            return not await layer.connection(layer.consistent_hash("room")).zcard(key)

    async with asyncio.timeout(10):
        while not await is_empty():  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.02)
    if hasattr(layer, "channels"):
        await until(lambda: not layer.channels)


async def test_a_channel_of_its_own(layer: Any, listen: Any) -> None:
    async with connect(await listen(Direct), proxy=None) as client:
        assert await client.recv() == "first"
        await layer.group_send("late", {"type": "own.word", "text": "second"})
        assert await client.recv() == "second"


@pytest.mark.parametrize("layer", ["memory"], indirect=True)
async def test_what_fails_ends_no_call(
    layer: Any, listen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="voicews.consumers.layer")
    async with connect(await listen(Room), proxy=None) as client:
        await news(layer, "fail")
        for kind in ("disconnect", "websocket.disconnect", "drop", "_drop", "authorize", "nothing"):
            await layer.group_send("room", {"type": kind})
        await news(layer, "still there")
        await heard(client, "still there")
        assert "the handler of room.news failed" in caplog.text
        assert caplog.text.count("has no handler: ") == 6
        await news(layer, "stop")
        await client.wait_closed()


@pytest.mark.parametrize("layer", ["memory"], indirect=True)
async def test_a_layer_that_fails_is_asked_again(
    layer: Any, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicews.consumers.layer.RETRY_SECS", 0.01)
    receive, failures = layer.receive, iter(range(3))

    async def failing(name: str) -> Any:
        if next(failures, None) is not None:
            raise ConnectionError("Redis is away")
        return await receive(name)

    monkeypatch.setattr(layer, "receive", failing)
    async with connect(await listen(Room), proxy=None) as client:
        await news(layer, "hello")
        await heard(client, "hello")


@pytest.mark.parametrize("layer", ["memory"], indirect=True)
async def test_others_cost_the_layer_nothing(layer: Any, listen: Any) -> None:
    async with (
        connect(await listen(Room), proxy=None) as listener,
        connect(await listen(Apart), proxy=None) as client,
    ):
        await client.send("from apart")
        await heard(listener, "from apart")
        assert len(layer.channels) == 1
        assert not hasattr(Apart.made[-1], "channel_name")


async def test_groups_without_a_layer(
    listen: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {}
    channel_layers.backends.clear()
    with pytest.raises(Exception, match="403"):
        await connect(await listen(Room), proxy=None)
    assert "BACKEND is unconfigured" in caplog.text
