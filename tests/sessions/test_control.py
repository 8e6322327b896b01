"""The control channel: whatever is written to it, it goes on listening."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from functools import partial
from typing import Any

import msgpack
import pytest
from redis import Redis as RedisClient

from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, until
from tests.sessions.conftest import StartCluster
from voicews.sessions import control
from voicews.sessions.control import ControlChannel, Message

GARBAGE: list[Any] = [
    "text",
    5,
    None,
    [],
    {},
    {"op": None},
    {"op": []},
    {"op": "answer"},
    {"op": "answer", "request": []},
    {"op": "answer", "request": {}},
    {"op": "claimed"},
    {"op": "claimed", "session": 5, "epoch": None, "reply_to": 7},
    {"op": "end", "session": "no uuid", "code": "x", "reason": None},
    {"op": "listen", "session": "no uuid"},
    {"op": "challenge", "session": []},
]


class QueueLayer:
    """A channel layer that delivers what the test puts in; an error is raised."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    async def new_channel(self) -> str:
        return "here"

    async def send(self, channel: str, message: Message) -> None:
        self.queue.put_nowait(message)

    async def receive(self, channel: str) -> Any:
        message = await self.queue.get()
        if isinstance(message, Exception):
            raise message
        return message


async def test_what_can_not_be_read_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QueueLayer()
    monkeypatch.setattr(control, "get_channel_layer", lambda: layer)
    # Whoever waits after a message that is none waits for ever.
    monkeypatch.setattr(control, "FIRST_BACKOFF_SECS", 3600.0)
    handled: list[Message] = []
    channel = ControlChannel(lambda message: handled.append({"op": message["op"]}))
    channel.start()
    await channel.wait_open()
    for garbage in [*GARBAGE, ValueError("unpack failed"), TypeError("no bytes")]:
        layer.queue.put_nowait(garbage)
    layer.queue.put_nowait({"op": "drain"})
    await until(lambda: {"op": "drain"} in handled, 5.0)
    asking = asyncio.create_task(channel.request("there", "ping", 5.0))
    await until(lambda: handled[-1] == {"op": "ping"}, 5.0)
    (request,) = channel._answers
    layer.queue.put_nowait({"op": "answer", "request": request, "reply_to": "there"})
    assert await asking is not None
    await channel.stop()


async def test_garbage_in_redis(cluster: StartCluster, redis: Redis) -> None:
    """Real servers, and bytes that are no message at all: both still hear each other."""
    here = cluster(redis=redis)
    one, two = here.start(), here.start()
    payloads = [b"\x00garbage", b"\xc1", b"\xa3st", *map(msgpack.packb, GARBAGE)]
    async with Session(one).client(one), Session(two).client(two):
        with RedisClient(port=redis.port) as client:
            channels = client.pubsub_channels()
            assert len(channels) >= 2
            for name in channels:
                for payload in payloads:
                    client.publish(name, payload)
        for node in (one, two):
            await until(partial(_layer_is_well, node.http_url))
        assert "Traceback" not in one.log.read_text() + two.log.read_text()


def _layer_is_well(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/voice/health/") as answer:
        report = json.load(answer)
    return bool(report["channel_layer"]["ok"])
