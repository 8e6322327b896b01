"""A voice client without a voice: sends what it is told to, and keeps all that it hears."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from voicews.serializers.frames_pb2 import Frame

TIMEOUT_SECS = 20.0
RATE = 16000


def audio_message(pcm: bytes, sample_rate: int = RATE, num_channels: int = 1) -> bytes:
    """The wire message with this audio, whether it makes sense or not."""
    frame = Frame()
    frame.audio.audio = pcm
    frame.audio.sample_rate = sample_rate
    frame.audio.num_channels = num_channels
    return frame.SerializeToString()


def json_message(message: Mapping[str, Any]) -> bytes:
    """The wire message with this JSON object."""
    frame = Frame()
    frame.message.data = json.dumps(message)
    return frame.SerializeToString()


def rtvi_message(kind: str, data: Any = None, message_id: str = "1") -> bytes:
    return json_message({"label": "rtvi-ai", "type": kind, "id": message_id, "data": data})


@dataclass(frozen=True)
class Heard:
    """One audio message; `at` is when it came (seconds, monotonic), `pts` in nanoseconds."""

    at: float
    pcm: bytes
    sample_rate: int
    num_channels: int
    pts: int


@dataclass
class Client:
    """One socket, open until `close`, `abort`, or the server closes it."""

    websocket: ClientConnection
    audio: list[Heard] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    #: When (seconds, monotonic) each interruption came, and how much audio had come before it.
    interruptions: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._news = asyncio.Condition()
        self._ids = itertools.count(1)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls,
        ws_url: str,
        token: str | None = None,
        *,
        origin: str | None = None,
        receive_buffer_bytes: int | None = None,
        **query: str,
    ) -> Self:
        """Open a socket. Raises `websockets.exceptions.InvalidStatus` if the server refuses it."""
        if token is not None:
            query["token"] = token
        address = urlsplit(ws_url)
        own = socket.socket()
        if receive_buffer_bytes is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, (address.hostname, address.port))
        websocket = await connect(
            f"{ws_url}?{urlencode(query)}",
            sock=own,
            origin=origin,  # type: ignore[arg-type] # a NewType of str
            compression=None,
            max_size=None,
            max_queue=None,
            open_timeout=TIMEOUT_SECS,
            ping_interval=None,
            close_timeout=TIMEOUT_SECS,
            proxy=None,
        )
        return cls(websocket)

    # --- what it hears --------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async for data in self.websocket:
                assert isinstance(data, bytes), "expected a binary message, found text"
                self._keep(Frame.FromString(data))
                async with self._news:
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        async with self._news:
            self._news.notify_all()

    def _keep(self, frame: Frame) -> None:
        now = time.monotonic()
        kind = frame.WhichOneof("frame")
        if kind == "audio":
            audio = frame.audio
            self.audio.append(
                Heard(now, audio.audio, audio.sample_rate, audio.num_channels, audio.pts)
            )
        elif kind == "message":
            self.messages.append(json.loads(frame.message.data))
        elif kind == "interruption":
            self.interruptions.append((now, len(self.audio)))

    @property
    def pcm(self) -> bytes:
        """All audio so far, one after the other."""
        return b"".join(heard.pcm for heard in self.audio)

    @property
    def is_closed(self) -> bool:
        return self._reading.done()

    @property
    def close_code(self) -> int | None:
        return self.websocket.close_code

    @property
    def close_reason(self) -> str | None:
        return self.websocket.close_reason

    async def wait_until(
        self, condition: Callable[[], object], timeout_secs: float = TIMEOUT_SECS
    ) -> None:
        """Wait until what was heard fulfils the condition. Raises TimeoutError if it never does."""
        async with asyncio.timeout(timeout_secs), self._news:
            while not condition():
                if self.is_closed:
                    raise ConnectionError(
                        f"closed with {self.close_code} {self.close_reason!r} while waiting"
                    )
                await self._news.wait()

    async def wait_message(self, kind: str, message_id: str | None = None) -> dict[str, Any]:
        """The first message of this type (and id), which may have come already."""

        def find() -> Iterator[dict[str, Any]]:
            return (
                message
                for message in self.messages
                if message["type"] == kind and message_id in (None, message.get("id"))
            )

        await self.wait_until(lambda: next(find(), None))
        return next(find())

    async def wait_closed(self, timeout_secs: float = TIMEOUT_SECS) -> int | None:
        """The close code, once the socket is closed."""
        async with asyncio.timeout(timeout_secs):
            await asyncio.wait([self._reading])
            await self.websocket.wait_closed()
        return self.close_code

    # --- what it says ---------------------------------------------------------------------------

    async def send(self, data: bytes | str) -> None:
        await self.websocket.send(data)

    async def ready(self) -> dict[str, Any]:
        """Shake hands with the bot; returns the data of `bot-ready`."""
        message_id = f"ready-{next(self._ids)}"
        about = {"library": "voicews-tests", "library_version": "1"}
        await self.send(
            rtvi_message("client-ready", {"version": "2.2.0", "about": about}, message_id)
        )
        answer = await self.wait_message("bot-ready", message_id)
        found: dict[str, Any] = answer["data"]
        return found

    async def ask(self, kind: str = "ask", data: Any = None) -> Any:
        """Send a client-message; returns the answer's data. Raises RuntimeError if it failed."""
        message_id = f"ask-{next(self._ids)}"
        await self.send(rtvi_message("client-message", {"t": kind, "d": data}, message_id))

        def answer() -> dict[str, Any] | None:
            answers = (m for m in self.messages if m.get("id") == message_id)
            return next(answers, None)

        await self.wait_until(answer)
        message = answer()
        assert message is not None
        if message["type"] == "error-response":
            raise RuntimeError(message["data"]["error"])
        return message["data"]["d"]

    async def ping(self) -> float:
        """Seconds until the server answered."""
        message_id = f"ping-{next(self._ids)}"
        since = time.monotonic()
        await self.send(
            json_message({"label": "voicews", "type": "ping", "id": message_id, "data": {}})
        )
        await self.wait_message("pong", message_id)
        return time.monotonic() - since

    async def say(self, pcm: bytes, sample_rate: int = RATE, *, speed: float = 1.0) -> None:
        """Send audio in pieces of 20 ms, `speed` times as fast as one speaks."""
        size = sample_rate // 50 * 2
        begun = time.monotonic()
        for index, start in enumerate(range(0, len(pcm), size)):
            await asyncio.sleep(begun + index * 0.02 / speed - time.monotonic())
            await self.send(audio_message(pcm[start : start + size], sample_rate))

    async def close(self, code: int = 1000) -> None:
        await self.websocket.close(code)
        await self._reading

    def abort(self) -> None:
        """Break the connection off with a TCP reset, if it is still open."""
        if self.websocket.transport.is_closing():
            return
        own = self.websocket.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.websocket.transport.abort()

    def stop_reading(self) -> None:
        """Read nothing more from the socket, pings included, and keep it open."""
        self._reading.cancel()
        self.websocket.transport.pause_reading()


@asynccontextmanager
async def calling(ws_url: str, token: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """A client that is closed at the end, whatever happened."""
    client = await Client.connect(ws_url, token, **options)
    try:
        yield client
    finally:
        client.abort()
