"""Listening in to a live call: both directions, as they pass its transport.

The channel layer carries no media. A call of another process of this host is heard over a
connection between the two processes, on the loopback interface, that lasts as long as an operator
listens; a call of another host can't be heard here.
"""

from __future__ import annotations

import asyncio
import enum
import hmac
import logging
import secrets
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from uuid import UUID

from voicews.audio.wav import is_wav, split_wav
from voicews.exceptions import NotAllowed
from voicews.frames import (
    AudioRawFrame,
    CancelFrame,
    EndFrame,
    Frame,
    ImageRawFrame,
    InputAudioRawFrame,
    InputImageRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
)
from voicews.pipeline.tap import Tap
from voicews.sessions import store
from voicews.sessions.control import Message
from voicews.sessions.db_threads import polling_database
from voicews.sessions.live import LiveSession, live_sessions
from voicews.sessions.process import Process, this_process

logger = logging.getLogger(__name__)

#: Audio that may wait for a slow listener, several seconds of it: the oldest goes.
MAX_WAITING_BYTES = 512 * 1024
CONNECT_TIMEOUT_SECS = 2.0
ANSWER_TIMEOUT_SECS = 3.0
TOKEN_BYTES = 32
#: Pictures are shown to a listener no more often than this (seconds), and no larger (bytes): audio
#: comes first.
IMAGE_INTERVAL_SECS = 1.0
MAX_IMAGE_BYTES = 128 * 1024

NOT_LIVE = "the call is not live"
OTHER_HOST = (
    "the call runs on another host ({host}), and sound does not pass between hosts: "
    "open this page there"
)
UNREACHABLE = "the server process that runs the call can't be reached from this one"

#: What a packet begins with: its kind, the number of channels, the sample rate (Hz).
_HEADER = struct.Struct("<BBxxI")
_LENGTH = struct.Struct("<I")


class Packet(enum.IntEnum):
    """What a packet is; audio follows its header as 16-bit little-endian samples."""

    CALLER = 0
    BOT = 1
    #: What the caller was about to hear of the bot is dropped.
    INTERRUPTED = 2
    #: A picture of either: an image file follows the header.
    CALLER_IMAGE = 3
    BOT_IMAGE = 4


class PacketQueue:
    """Packets on their way to one listener. Used on the event loop."""

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._news = asyncio.Event()

    def put(self, packet: bytes) -> None:
        """Add a packet. Does not wait."""
        self._packets.append(packet)
        self._bytes += len(packet)
        while self._bytes > MAX_WAITING_BYTES:
            self._bytes -= len(self._packets.popleft())
        self._news.set()

    def close(self) -> None:
        """There will be no more packets."""
        self._closed = True
        self._news.set()

    async def get(self) -> bytes | None:
        """The next packet; None when the call is over, or has moved to another process."""
        while not self._packets:
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        packet = self._packets.popleft()
        self._bytes -= len(packet)
        return packet


@asynccontextmanager
async def listen(session_id: UUID) -> AsyncIterator[PacketQueue]:
    """Hear a call for as long as the context lasts. Raises `NotAllowed` with what is in the way."""
    live = live_sessions.get(session_id)
    if live is not None:
        with_queue = _tapped(live)
    else:
        where = await polling_database.run(partial(store.whereabouts, session_id))
        if where is None or where.owner is None:
            raise NotAllowed(NOT_LIVE)
        with_queue = _relayed(session_id, where.channel)
    async with with_queue as queue:
        yield queue


@asynccontextmanager
async def _tapped(live: LiveSession) -> AsyncIterator[PacketQueue]:
    queue = PacketQueue()
    images = _Images(queue)

    def hear_caller(frame: Frame) -> None:
        if isinstance(frame, InputAudioRawFrame):
            queue.put(_packet(Packet.CALLER, frame))
        elif isinstance(frame, InputImageRawFrame):
            images.put(Packet.CALLER_IMAGE, frame)
        elif isinstance(frame, EndFrame | CancelFrame):
            queue.close()

    def hear_bot(frame: Frame) -> None:
        if isinstance(frame, OutputAudioRawFrame):
            queue.put(_packet(Packet.BOT, frame))
        elif isinstance(frame, OutputImageRawFrame) and frame.transport_destination is None:
            images.put(Packet.BOT_IMAGE, frame)
        elif isinstance(frame, InterruptionFrame):
            queue.put(_HEADER.pack(Packet.INTERRUPTED, 0, 0))

    taps = [Tap(hear_caller), Tap(hear_bot)]
    taps[0].attach(live.transport.input())
    taps[1].attach(live.transport.output())
    try:
        yield queue
    finally:
        for tap in taps:
            tap.detach()


class _Images:
    """The newest pictures, now and then."""

    def __init__(self, queue: PacketQueue) -> None:
        self._queue = queue
        self._put_at: dict[Packet, float] = {}

    def put(self, kind: Packet, frame: ImageRawFrame) -> None:
        now = monotonic()
        if now - self._put_at.get(kind, float("-inf")) < IMAGE_INTERVAL_SECS:
            return
        if len(frame.image) <= MAX_IMAGE_BYTES:
            self._put_at[kind] = now
            self._queue.put(_HEADER.pack(kind, 0, 0) + frame.image)


def _packet(kind: Packet, frame: AudioRawFrame) -> bytes:
    pcm, rate, channels = frame.audio, frame.sample_rate, frame.num_channels
    if is_wav(pcm):
        wav = split_wav(pcm)
        pcm, rate, channels = wav.audio, wav.sample_rate, wav.num_channels
    return _HEADER.pack(kind, channels, rate) + pcm


# --- between two processes ------------------------------------------------------------------------


@asynccontextmanager
async def _relayed(session_id: UUID, channel: str) -> AsyncIterator[PacketQueue]:
    """Hear a call of another process: it connects to us, with a secret made for this once."""
    queue = PacketQueue()
    token = secrets.token_bytes(TOKEN_BYTES)
    receiving: set[asyncio.Task[None]] = set()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        receiving.add(task)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECS):
                presented = await reader.readexactly(TOKEN_BYTES)
            if hmac.compare_digest(presented, token):
                await _receive_packets(reader, queue)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            receiving.discard(task)
            writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    try:
        answer = await this_process().control.request(
            channel,
            "listen",
            ANSWER_TIMEOUT_SECS,
            session=str(session_id),
            host=socket.gethostname(),
            port=server.sockets[0].getsockname()[1],
            token=token.hex(),
        )
        problem = UNREACHABLE if answer is None else answer.get("problem", UNREACHABLE)
        if problem:
            raise NotAllowed(str(problem))
        yield queue
    finally:
        server.close()
        for task in list(receiving):
            task.cancel()


async def _receive_packets(reader: asyncio.StreamReader, queue: PacketQueue) -> None:
    try:
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            queue.put(await reader.readexactly(length))
    finally:
        queue.close()


class Relays:
    """The calls of this process that are heard in others."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, message: Message) -> None:
        """Another process wants to hear a call of this one. Does not wait."""
        wanted = UUID(message["session"]), int(message["port"]), bytes.fromhex(message["token"])
        task = asyncio.get_running_loop().create_task(self._relay(message, *wanted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, message: Message, session_id: UUID, port: int, token: bytes) -> None:
        live = live_sessions.get(session_id)
        own_host = socket.gethostname()
        problem, writer = "", None
        if live is None:
            problem = NOT_LIVE
        elif message.get("host") != own_host:
            problem = OTHER_HOST.format(host=own_host)
        else:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECS / 2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                # Containers may share a name and nothing else.
                problem = UNREACHABLE
        self._process.control.answer(message, problem=problem)
        if live is None or writer is None:
            return
        writer.write(token)
        sending = asyncio.create_task(_send_packets(live, writer))
        # Nothing comes back but the end: the listener has gone.
        leaving = asyncio.create_task(reader.read())
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _send_packets(live: LiveSession, writer: asyncio.StreamWriter) -> None:
    async with _tapped(live) as queue:
        while (packet := await queue.get()) is not None:
            writer.write(_LENGTH.pack(len(packet)) + packet)
            await writer.drain()


def answer_listeners(process: Process) -> None:
    """Have a process let others hear its calls."""
    process.on_message("listen", Relays(process).answer)
