"""A load generator that costs a small part of a core: many real-time calls from one event loop."""

import asyncio
import base64
import gc
import math
import os
import re
import struct
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MESSAGE_SECS = 0.02
SAMPLE_RATE = 16_000
SAMPLES_PER_MESSAGE = 320
HANDSHAKE_TIMEOUT_SECS = 30
DRAIN_SECS = 1.5

# Two samples that no audio below holds, ahead of the message's number.
MARK = struct.pack("<hh", 32767, -32768)
COUNTER = struct.Struct("<I")
MARKED_BYTES = len(MARK) + COUNTER.size
# Where resampling destroys the numbers, one message in so many is a burst of a loud tone instead.
BURST_PERIOD = 25
BURST_LEVEL = 8_000
BURST_QUIET_SAMPLES = SAMPLE_RATE // 10

CLIENT_READY = (
    b'{"label":"rtvi-ai","type":"client-ready","id":"1",'
    b'"data":{"version":"2.1.0","about":{"library":"load"}}}'
)
BOT_READY = re.compile(rb'"type":\s*"bot-ready"')

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_MASK = b"\x5a\xc3\x91\x0f"


# --- the wire -------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def audio_message(pcm: bytes) -> bytes:
    """A protobuf ``Frame.audio`` as a browser sends it: named, without an id, 16 kHz mono."""
    audio = _field(2, b"audio") + _field(3, pcm) + b"\x20" + _varint(SAMPLE_RATE) + b"\x28\x01"
    return _field(2, audio)


def rtvi_message(json_text: bytes) -> bytes:
    """A protobuf ``Frame.message``."""
    return _field(4, _field(1, json_text))


def read_audio(message: bytes) -> tuple[bytes, int] | None:
    """PCM and sample rate (Hz) of a protobuf ``Frame.audio``; None for every other frame."""
    if not message or message[0] != 2 << 3 | 2:
        return None
    _, at = _read_varint(message, 1)
    pcm, sample_rate, end = b"", 0, len(message)
    while at < end:
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if key & 7 == 2:
            if key >> 3 == 3:
                pcm = message[at : at + value]
            at += value
        elif key >> 3 == 4:
            sample_rate = value
    return pcm, sample_rate


def _masked(payload: bytes, mask: bytes = _MASK) -> bytes:
    keys = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ keys).to_bytes(len(payload), "big")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """One final, masked WebSocket frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + _MASK + _masked(payload)


class NumberedFrames:
    """A masked WebSocket frame with 20 ms of a quiet tone, made once; only its number changes."""

    def __init__(self) -> None:
        samples = [round(2000 * math.sin(2 * math.pi * n / 40)) for n in range(SAMPLES_PER_MESSAGE)]
        quiet = array("h", samples).tobytes()
        message = audio_message(MARK + bytes(COUNTER.size) + quiet[MARKED_BYTES:])
        frame = client_frame(_BINARY, message)
        offset = len(frame) - len(message) + message.index(MARK) + len(MARK)
        keys = _masked(bytes(len(message)))[message.index(MARK) + len(MARK) :][: COUNTER.size]
        self._key = int.from_bytes(keys, "little")
        self._head, self._tail = frame[:offset], frame[offset + COUNTER.size :]

    def frame(self, number: int) -> bytes:
        return self._head + COUNTER.pack(number ^ self._key) + self._tail


class BurstFrames:
    """Masked WebSocket frames with 20 ms of silence, or of a loud 1 kHz tone at every 25th."""

    def __init__(self) -> None:
        loud = [round(24_000 * math.sin(math.pi * n / 8)) for n in range(SAMPLES_PER_MESSAGE)]
        self._silence = client_frame(_BINARY, audio_message(bytes(SAMPLES_PER_MESSAGE * 2)))
        self._burst = client_frame(_BINARY, audio_message(array("h", loud).tobytes()))

    def frame(self, number: int) -> bytes:
        return self._silence if number % BURST_PERIOD else self._burst


# --- what comes back ------------------------------------------------------------------------


class NumberTrace:
    """Finds the numbers in what comes back, however the server cut it into messages."""

    def __init__(self) -> None:
        self.frames = NumberedFrames()
        self.sent_at: list[float] = []
        self.heard_at: dict[int, float] = {}
        self._rest = b""

    def sent(self, now: float) -> bytes:
        self.sent_at.append(now)
        return self.frames.frame(len(self.sent_at) - 1)

    def heard(self, pcm: bytes, now: float) -> None:
        data = self._rest + pcm
        at = data.find(MARK)
        while 0 <= at <= len(data) - MARKED_BYTES:
            self.heard_at.setdefault(COUNTER.unpack_from(data, at + len(MARK))[0], now)
            at = data.find(MARK, at + MARKED_BYTES)
        self._rest = data[at:] if at >= 0 else data[-(len(MARK) - 1) :]

    def latencies(self, start: float, end: float) -> list[float | None]:
        """Seconds from sent to heard of each message of the window; None if it never came."""
        return [
            None if (heard := self.heard_at.get(number)) is None else heard - sent
            for number, sent in enumerate(self.sent_at)
            if start <= sent < end
        ]


class BurstTrace:
    """Finds the onsets of the loud bursts in what comes back, at any sample rate."""

    def __init__(self) -> None:
        self.frames = BurstFrames()
        self.bursts_sent_at: list[float] = []
        self.bursts_heard_at: list[float] = []
        self._number = 0
        self._quiet_samples = BURST_QUIET_SAMPLES

    def sent(self, now: float) -> bytes:
        number = self._number
        self._number += 1
        if number % BURST_PERIOD == 0:
            self.bursts_sent_at.append(now)
        return self.frames.frame(number)

    def heard(self, pcm: bytes, now: float) -> None:
        samples = memoryview(pcm).cast("h")
        if max(samples, default=0) < BURST_LEVEL:
            self._quiet_samples += len(samples)
            return
        if self._quiet_samples >= BURST_QUIET_SAMPLES:
            self.bursts_heard_at.append(now)
        self._quiet_samples = 0

    def latencies(self, start: float, end: float) -> list[float | None]:
        """Seconds from sent to heard of each burst of the window; None if it never came."""
        heard = iter(self.bursts_heard_at)
        found: list[float | None] = []
        arrival = next(heard, None)
        for sent, limit in zip(
            self.bursts_sent_at, [*self.bursts_sent_at[1:], math.inf], strict=True
        ):
            while arrival is not None and arrival < sent:
                arrival = next(heard, None)
            # A later burst's arrival can't be told from a late one of this burst.
            latency = None
            if arrival is not None and arrival < limit:
                latency = arrival - sent
                arrival = next(heard, None)
            if start <= sent < end:
                found.append(latency)
        return found


Trace = NumberTrace | BurstTrace


# --- calls ----------------------------------------------------------------------------------


class CallError(Exception):
    """A server refused a call or ended it too early."""


class Call(asyncio.Protocol):
    """One WebSocket, client side: as little protocol as a well-behaved server needs."""

    def __init__(self, url: str, says_ready: bool, trace: Trace) -> None:
        self.trace = trace
        self.received_seconds = 0.0
        loop = asyncio.get_running_loop()
        self.open: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._says_ready = says_ready
        self._url = urlsplit(url)
        self._buffer = b""
        self._closing = False
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise CallError("the call is not connected")
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"expected a stream transport, found {transport!r}")
        self._transport = transport
        target = self._url.path + (f"?{self._url.query}" if self._url.query else "")
        lines = (
            f"GET {target} HTTP/1.1",
            f"Host: {self._url.netloc}",
            f"Origin: http://{self._url.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        )
        transport.write("\r\n".join((*lines, "\r\n")).encode())

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self.open.done():
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = data
                return
            status = head.partition(b"\r\n")[0].decode("latin-1")
            if " 101 " not in status:
                self._fail(CallError(f"expected 101 Switching Protocols, found {status}"))
                self.transport.abort()
                return
            self._opened()
            data = rest
        self._buffer = self._read_frames(data, time.perf_counter())

    def _opened(self) -> None:
        self.open.set_result(None)
        if self._says_ready:
            self.transport.write(client_frame(_BINARY, rtvi_message(CLIENT_READY)))
        else:
            self.ready.set_result(None)

    def _read_frames(self, data: bytes, now: float) -> bytes:
        at, end = 0, len(data)
        while end - at >= 2:
            size, body = data[at + 1], at + 2
            if size == 126:
                if end - at < 4:
                    break
                size, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                raise CallError("expected messages below 64 kB")
            if end - body < size:
                break
            self._frame_received(data[at], data[body : body + size], now)
            at = body + size
        return data[at:]

    def _frame_received(self, first: int, payload: bytes, now: float) -> None:
        if first == 0x80 | _BINARY:
            audio = read_audio(payload)
            if audio is not None:
                pcm, sample_rate = audio
                self.received_seconds += len(pcm) / 2 / sample_rate
                self.trace.heard(pcm, now)
            elif not self.ready.done() and BOT_READY.search(payload):
                self.ready.set_result(None)
        elif first == 0x80 | _PING:
            self.transport.write(client_frame(_PONG, payload))
        elif first == 0x80 | _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self._fail(CallError(f"the server closed with {code} {payload[2:].decode()}"))
            self.transport.close()

    def send(self) -> None:
        self.transport.write(self.trace.sent(time.perf_counter()))

    def hang_up(self) -> None:
        self._closing = True
        self.transport.write(client_frame(_CLOSE, (1000).to_bytes(2, "big")))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or CallError("the server dropped the connection"))

    def _fail(self, error: Exception) -> None:
        for future in (self.open, self.ready):
            if not future.done():
                future.set_exception(error)
                # Only one of the two is awaited when the upgrade fails.
                future.exception()

    @property
    def is_alive(self) -> bool:
        return not self.transport.is_closing() or self._closing


Address = Callable[[], Awaitable[str]]


async def open_call(address: Address, says_ready: bool, trace: Trace) -> Call:
    """Connect, and wait for bot-ready if the server speaks RTVI."""
    url = await address()
    host, _, port = urlsplit(url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    _, call = await loop.create_connection(lambda: Call(url, says_ready, trace), host, int(port))
    await asyncio.wait_for(call.open, HANDSHAKE_TIMEOUT_SECS)
    await asyncio.wait_for(call.ready, HANDSHAKE_TIMEOUT_SECS)
    return call


async def _tick(calls: Sequence[Call], phases: int, until: float) -> None:
    """Let every call send each 20 ms, in so many groups evenly spread over those 20 ms.

    The clock is absolute: a late group makes the next one no later.
    """
    loop = asyncio.get_running_loop()
    start, turn = loop.time(), 0
    while True:
        due = start + turn * MESSAGE_SECS / phases
        if due >= until:
            return
        pause = due - loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        for call in calls[turn % phases :: phases]:
            if call.is_alive:
                call.send()
        turn += 1


@dataclass
class Result:
    """One load's outcome. Times in seconds."""

    calls: int
    measured_secs: float
    server_cpu_secs: float
    load_cpu_secs: float
    latencies: list[float] = field(default_factory=list)
    lost: int = 0
    dropped_calls: int = 0
    returned_secs: float = 0.0

    @property
    def cpu_per_call_second(self) -> float:
        """Seconds of the server's CPU for a second of one call."""
        return self.server_cpu_secs / (self.calls * self.measured_secs)

    @property
    def server_share(self) -> float:
        """The part of its core that the server used."""
        return self.server_cpu_secs / self.measured_secs

    @property
    def load_share(self) -> float:
        """The part of its core that the load generator used."""
        return self.load_cpu_secs / self.measured_secs

    @property
    def lost_share(self) -> float:
        """The part of what was sent that never came back."""
        return self.lost / max(1, self.lost + len(self.latencies))

    def latency(self, quantile: float) -> float:
        """A quantile of the echo's latency; NaN if nothing came back."""
        if not self.latencies:
            return math.nan
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(quantile * len(ranked)))]


async def talk(
    address: Address,
    server_cpu: Callable[[], float],
    *,
    says_ready: bool,
    new_trace: Callable[[], Trace],
    calls: int,
    phases: int,
    warm_up_secs: float,
    measured_secs: float,
    while_measuring: Callable[[], Awaitable[None]] | None = None,
) -> Result:
    """Hold calls that speak all the time and measure the server's CPU, latency and losses.

    The calls send in ``phases`` groups: 1 for all at once, ``calls`` for each at a time of its own.
    """
    opened = [await open_call(address, says_ready, new_trace()) for _ in range(calls)]
    gc.collect()
    gc.disable()
    try:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        ticking = asyncio.create_task(
            _tick(opened, phases, begin + warm_up_secs + measured_secs + MESSAGE_SECS)
        )
        await asyncio.sleep(warm_up_secs)
        start, cpu, own_cpu = time.perf_counter(), server_cpu(), time.process_time()
        received = sum(call.received_seconds for call in opened)
        if while_measuring is not None:
            await while_measuring()
        await asyncio.sleep(max(0.0, start + measured_secs - time.perf_counter()))
        end = time.perf_counter()
        result = Result(
            calls=calls,
            measured_secs=end - start,
            server_cpu_secs=server_cpu() - cpu,
            load_cpu_secs=time.process_time() - own_cpu,
            returned_secs=sum(call.received_seconds for call in opened) - received,
        )
        await ticking
        await asyncio.sleep(DRAIN_SECS)
    finally:
        gc.enable()
    for call in opened:
        for latency in call.trace.latencies(start, end):
            if latency is None:
                result.lost += 1
            else:
                result.latencies.append(latency)
        if call.is_alive:
            call.hang_up()
        else:
            result.dropped_calls += 1
    await asyncio.sleep(0.5)
    return result


async def idle(
    address: Address, resident_bytes: Callable[[], int], *, says_ready: bool, calls: int
) -> float:
    """Resident bytes that one silent call adds, from the difference that ``calls`` make.

    A first few calls come and go before, so that nothing counts that is loaded once.
    """
    for _ in range(10):
        call = await open_call(address, says_ready, BurstTrace())
        call.send()
        await asyncio.sleep(0.1)
        call.hang_up()
    await asyncio.sleep(2)
    before = await asyncio.to_thread(resident_bytes)
    opened = [await open_call(address, says_ready, BurstTrace()) for _ in range(calls)]
    await asyncio.sleep(2)
    after = await asyncio.to_thread(resident_bytes)
    alive = sum(call.is_alive for call in opened)
    if alive < calls:
        raise CallError(f"{calls - alive} of {calls} idle calls were dropped")
    for call in opened:
        call.hang_up()
    await asyncio.sleep(1)
    return (after - before) / calls
