"""A consumer without voice, behind a real server: what every socket of ours has."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.polling import until
from voicews.consumers import base as sockets
from voicews.consumers.base import SocketConsumer
from voicews.exceptions import Busy, NotAllowed
from voicews.servers.embedded import Listener


class Consumer(SocketConsumer):
    """Answers each message, and remembers how its socket ended."""

    max_message_bytes = 1000
    max_messages_per_sec = 100
    max_messages_burst = 200
    made: list[Consumer]

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)
        self.code: int | None = None
        self.heard = 0

    async def connect(self) -> None:
        self.check_origin(["https://voice.example"])
        error = REFUSALS.get(self.query.get("because", [""])[-1])
        if error is not None:
            raise error
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.heard += 1
        await self.send(text_data, bytes_data)

    async def disconnect(self, code: int) -> None:
        self.code = code


REFUSALS = {
    "stranger": NotAllowed("you are a stranger"),
    "busy": Busy("come back later"),
    "restart": Busy("come back soon", 1012),
    "fault": RuntimeError("a secret"),
}


@pytest.fixture
async def port() -> AsyncIterator[Listener]:
    Consumer.made = []
    listener = Listener(Consumer.as_asgi(), "127.0.0.1", 0)
    await listener.start()
    yield listener
    await listener.stop()


@asynccontextmanager
async def client(
    port: Listener, query: str = "", **options: Any
) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port.port}/?{query}", **options) as websocket:
        yield websocket


async def ended() -> int:
    consumer = Consumer.made[-1]
    await until(lambda: consumer.code is not None)
    assert consumer.code is not None
    return consumer.code


async def test_messages_of_both_kinds(port: Listener) -> None:
    async with client(port) as websocket:
        for message in ("text", b"bytes", ""):
            await websocket.send(message)
            assert await websocket.recv() == message
    assert await ended() == 1000


@pytest.mark.parametrize("reason", REFUSALS)
async def test_who_is_refused_gets_403(port: Listener, reason: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with client(port, f"because={reason}"):
            pass
    assert await ended() == 1006


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stranger", (1008, "you are a stranger")),
        ("busy", (1013, "come back later")),
        ("restart", (1012, "come back soon")),
        ("fault", (1011, "server error")),
    ],
)
async def test_our_own_client_is_told_why(
    port: Listener, reason: str, told: tuple[int, str]
) -> None:
    async with client(port, f"because={reason}&client=voicews") as websocket:
        await websocket.wait_closed()
        assert (websocket.close_code, websocket.close_reason) == told


async def test_pages_of_other_sites_are_refused(port: Listener) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with client(port, origin="https://evil.example"):
            pass
    async with client(port, origin="https://voice.example") as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"


async def test_a_message_that_is_too_long_is_not_heard(port: Listener) -> None:
    async with client(port) as websocket:
        await websocket.send(bytes(1000))
        await websocket.recv()
        await websocket.send(bytes(1001))
        await websocket.wait_closed()
        assert websocket.close_code == 1009
    assert Consumer.made[-1].heard == 1


async def test_a_flood_is_stopped(port: Listener) -> None:
    async with client(port, max_queue=None) as websocket:
        with suppress(ConnectionClosed):
            for _ in range(100_000):
                await websocket.send(b"")
        await websocket.wait_closed()
        assert websocket.close_code == 1008


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_a_dropped_client_that_reads_nothing_is_let_go_of(
    port: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "DROP_TIMEOUT_SECS", 0.1)
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port.port)) as peer:
        peer.setblocking(False)
        await loop.sock_sendall(peer, HANDSHAKE)
        assert b" 101 " in await loop.sock_recv(peer, 100)
        consumer, sent, received = Consumer.made[-1], 0, 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await consumer.send(bytes_data=bytes(1_000_000))
                    sent += 1_000_000
        consumer.drop(4000, "enough")
        assert await ended() == 1006
        # By itself the server would wait for ever for the peer to take what was written.
        with suppress(ConnectionResetError):
            while data := await loop.sock_recv(peer, 1_000_000):
                received += len(data)
        assert received < sent


asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


class Direct(Consumer):
    """Takes all but every tenth message at once, and what it takes otherwise takes its time."""

    max_messages_per_sec = 100_000
    taken: list[tuple[str, bool, str]]

    async def connect(self) -> None:
        asked_by.set("connect")
        self.taken = []
        await super().connect()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        await asyncio.sleep(0.001)
        self.taken.append((text_data, False, asked_by.get()))

    def receive_now(self, data: str | bytes) -> bool:
        assert isinstance(data, str)
        if data.endswith("5"):
            return False
        self.taken.append((data, True, asked_by.get()))
        return True


class Limited(Direct):
    """May be told little in the long run."""

    max_messages_per_sec = 1


class Cautious(Direct):
    """Knows nothing of taking at once."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        self.taken.append((text_data, False, asked_by.get()))


@asynccontextmanager
async def serving(consumer: type[Direct]) -> AsyncIterator[Listener]:
    Consumer.made = []
    listener = Listener(consumer.as_asgi(), "127.0.0.1", 0)
    await listener.start()
    yield listener
    await listener.stop()


async def taken(count: int) -> list[tuple[str, bool, str]]:
    consumer = Consumer.made[-1]
    assert isinstance(consumer, Direct)
    await until(lambda: len(consumer.taken) >= count)
    return consumer.taken


async def test_what_is_taken_at_once_overtakes_nothing() -> None:
    async with serving(Direct) as port, client(port) as websocket:
        for number in range(500):
            await websocket.send(str(number))
            if number % 50 == 49:
                await asyncio.sleep(0.1)
        found = await taken(500)
    assert [text for text, _now, _asked in found] == [str(number) for number in range(500)]
    assert {now for _text, now, _asked in found} == {True, False}
    assert {asked for _text, _now, asked in found} == {"connect"}


async def test_the_limits_hold_for_what_is_taken_at_once() -> None:
    async with serving(Direct) as port, client(port) as websocket:
        await websocket.send("1" * 1001)
        await websocket.wait_closed()
        assert websocket.close_code == 1009
    async with serving(Limited) as port, client(port) as websocket:
        with suppress(ConnectionClosed):
            for _ in range(1000):
                await websocket.send("1")
                await asyncio.sleep(0.0005)
        await asyncio.wait_for(websocket.wait_closed(), 20)
        assert websocket.close_code == 1008


async def test_a_subclass_that_overrides_receive_gets_everything() -> None:
    async with serving(Cautious) as port, client(port) as websocket:
        for number in range(20):
            await websocket.send(str(number))
        found = await taken(20)
    assert not any(now for _text, now, _asked in found)
