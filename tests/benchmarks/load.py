"""A load generator that costs a small part of a core: many real-time calls from one event loop."""

import asyncio
import base64
import gc
import json
import math
import os
import re
import selectors
import struct
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

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

# Telephony: mu-law of 8000 Hz. The loudest sample of either sign marks a message; its number
# follows, five bits in each of some quiet samples. All of them survive decoding and encoding.
MULAW_RATE = 8_000
MULAW_BYTES_PER_MESSAGE = 160
MULAW_MARK = b"\x80\x00"
MULAW_QUIET = (b"\xe8" * 20 + b"\x68" * 20) * 4
MULAW_DIGITS = 4
MULAW_DIGIT_BITS = 5
MULAW_DIGIT = 0xC0
STREAM_SID = "MZ0123456789abcdef0123456789abcdef"
PAYLOAD = re.compile(rb'"payload":\s*"([^"]*)"')

TEXT, BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
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


def read_media(message: bytes) -> tuple[bytes, int] | None:
    """Mu-law and sample rate (Hz) of Twilio's event ``media``; None for every other event."""
    found = PAYLOAD.search(message)
    return (base64.b64decode(found[1]), MULAW_RATE) if found is not None else None


def start_of_stream(account_sid: str, call_sid: str) -> bytes:
    """The masked WebSocket frames with which Twilio begins a call's stream."""
    start = {
        "accountSid": account_sid,
        "streamSid": STREAM_SID,
        "callSid": call_sid,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": MULAW_RATE, "channels": 1},
        "customParameters": {},
    }
    messages = (
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": STREAM_SID},
    )
    return b"".join(client_frame(TEXT, json.dumps(message).encode()) for message in messages)


def _masked(payload: bytes, mask: bytes = _MASK) -> bytes:
    keys = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ keys).to_bytes(len(payload), "big")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """One final, masked WebSocket frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + _MASK + _masked(payload)


class NumberedFrames:
    """A masked WebSocket frame with 20 ms of a quiet tone, made once; only its number changes."""

    def __init__(self) -> None:
        samples = [round(2000 * math.sin(2 * math.pi * n / 40)) for n in range(SAMPLES_PER_MESSAGE)]
        quiet = array("h", samples).tobytes()
        message = audio_message(MARK + bytes(COUNTER.size) + quiet[MARKED_BYTES:])
        frame = client_frame(BINARY, message)
        offset = len(frame) - len(message) + message.index(MARK) + len(MARK)
        keys = _masked(bytes(len(message)))[message.index(MARK) + len(MARK) :][: COUNTER.size]
        self._key = int.from_bytes(keys, "little")
        self._head, self._tail = frame[:offset], frame[offset + COUNTER.size :]

    def frame(self, number: int) -> bytes:
        return self._head + COUNTER.pack(number ^ self._key) + self._tail


class NumberedMedia:
    """A masked WebSocket frame with Twilio's event ``media``, made once; only its number changes.

    The provider's own counters stand still: nobody reads them.
    """

    def __init__(self) -> None:
        audio = MULAW_MARK + bytes(MULAW_DIGITS) + MULAW_QUIET[len(MULAW_MARK) + MULAW_DIGITS :]
        payload = base64.b64encode(audio).decode()
        message = (
            f'{{"event":"media","sequenceNumber":"1234","streamSid":"{STREAM_SID}",'
            f'"media":{{"track":"inbound","chunk":"1233","timestamp":"24640",'
            f'"payload":"{payload}"}}}}'
        ).encode()
        frame = client_frame(TEXT, message)
        # Mark and number are six bytes, and as many as eight characters of base64.
        at = message.index(payload.encode())
        self._key = int.from_bytes(_masked(bytes(len(message)))[at : at + 8], "big")
        at += len(frame) - len(message)
        self._head, self._tail = frame[:at], frame[at + 8 :]

    def frame(self, number: int) -> bytes:
        digits = bytes(
            MULAW_DIGIT | number >> MULAW_DIGIT_BITS * place & 0x1F for place in range(MULAW_DIGITS)
        )
        characters = int.from_bytes(base64.b64encode(MULAW_MARK + digits), "big")
        return self._head + (characters ^ self._key).to_bytes(8, "big") + self._tail


class BurstFrames:
    """Masked WebSocket frames with 20 ms of silence, or of a loud 1 kHz tone at every 25th."""

    def __init__(self) -> None:
        loud = [round(24_000 * math.sin(math.pi * n / 8)) for n in range(SAMPLES_PER_MESSAGE)]
        self._silence = client_frame(BINARY, audio_message(bytes(SAMPLES_PER_MESSAGE * 2)))
        self._burst = client_frame(BINARY, audio_message(array("h", loud).tobytes()))

    def frame(self, number: int) -> bytes:
        return self._silence if number % BURST_PERIOD else self._burst


# --- what comes back ------------------------------------------------------------------------


class NumberTrace:
    """Finds the numbers in what comes back, however the server cut it into messages."""

    mark: ClassVar[bytes] = MARK
    number_bytes: ClassVar[int] = COUNTER.size
    sample_bytes: ClassVar[int] = 2

    def __init__(self) -> None:
        self.frames = self.new_frames()
        self.sent_at: list[float] = []
        self.heard_at: dict[int, float] = {}
        self._rest = b""

    def new_frames(self) -> NumberedFrames | NumberedMedia:
        return NumberedFrames()

    def read(self, message: bytes) -> tuple[bytes, int] | None:
        """Audio and its sample rate (Hz) from a message; None if it holds none."""
        return read_audio(message)

    def number(self, encoded: bytes) -> int:
        (number,) = COUNTER.unpack(encoded)
        return int(number)

    def sent(self, now: float) -> bytes:
        self.sent_at.append(now)
        return self.frames.frame(len(self.sent_at) - 1)

    def heard(self, audio: bytes, now: float) -> None:
        data = self._rest + audio
        size = len(self.mark) + self.number_bytes
        at = data.find(self.mark)
        while 0 <= at <= len(data) - size:
            number = self.number(data[at + len(self.mark) : at + size])
            self.heard_at.setdefault(number, now)
            at = data.find(self.mark, at + size)
        self._rest = data[at:] if at >= 0 else data[-(len(self.mark) - 1) :]

    def latencies(self, start: float, end: float) -> list[float | None]:
        """Seconds from sent to heard of each message of the window; None if it never came."""
        return [
            None if (heard := self.heard_at.get(number)) is None else heard - sent
            for number, sent in enumerate(self.sent_at)
            if start <= sent < end
        ]


class MediaTrace(NumberTrace):
    """The same for a telephone call as Twilio carries it."""

    mark = MULAW_MARK
    number_bytes = MULAW_DIGITS
    sample_bytes = 1

    def new_frames(self) -> NumberedMedia:
        return NumberedMedia()

    def read(self, message: bytes) -> tuple[bytes, int] | None:
        return read_media(message)

    def number(self, encoded: bytes) -> int:
        return sum(
            (digit & 0x1F) << MULAW_DIGIT_BITS * place for place, digit in enumerate(encoded)
        )


class BurstTrace:
    """Finds the onsets of the loud bursts in what comes back, at any sample rate."""

    sample_bytes: ClassVar[int] = 2

    def __init__(self) -> None:
        self.frames = BurstFrames()
        self.bursts_sent_at: list[float] = []
        self.bursts_heard_at: list[float] = []
        self._number = 0
        self._quiet_samples = BURST_QUIET_SAMPLES

    def read(self, message: bytes) -> tuple[bytes, int] | None:
        """Audio and its sample rate (Hz) from a message; None if it holds none."""
        return read_audio(message)

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


# --- the loop -------------------------------------------------------------------------------


class BusySelector(selectors.EpollSelector):
    """A selector that never sleeps.

    On loopback the one who sends pays for waking the one who reads, and much on a virtual machine:
    a server would look the more expensive, the longer the load generator sleeps between answers.
    """

    #: Time (seconds) in which nothing was to be done.
    idle_secs: ClassVar[float] = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        begin = time.monotonic()
        while not ready and (timeout is None or time.monotonic() - begin < timeout):
            ready = super().select(0)
        BusySelector.idle_secs += time.monotonic() - begin
        return ready


def run(main: Coroutine[object, object, T]) -> T:
    """`asyncio.run` on a loop that never sleeps."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(BusySelector())) as runner:
        return runner.run(main)


# --- calls ----------------------------------------------------------------------------------


class CallError(Exception):
    """A server refused a call or ended it too early."""


@dataclass(frozen=True)
class Destination:
    """Where a call goes and how it begins.

    ``opening`` are masked WebSocket frames; the call is ready when a message matches ``ready``.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    opening: bytes = b""
    ready: re.Pattern[bytes] | None = None


def rtvi_destination(url: str) -> Destination:
    """A server that speaks RTVI: it wants to hear that the client is ready, and says bot-ready."""
    return Destination(
        url, opening=client_frame(BINARY, rtvi_message(CLIENT_READY)), ready=BOT_READY
    )


class Call(asyncio.Protocol):
    """One WebSocket, client side: as little protocol as a well-behaved server needs."""

    def __init__(self, destination: Destination, trace: Trace) -> None:
        self.trace = trace
        self.received_seconds = 0.0
        loop = asyncio.get_running_loop()
        self.open: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._destination = destination
        self._url = urlsplit(destination.url)
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
            *(f"{name}: {value}" for name, value in self._destination.headers.items()),
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
        if self._destination.opening:
            self.transport.write(self._destination.opening)
        if self._destination.ready is None:
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
                if end - at < 10:
                    break
                size, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if end - body < size:
                break
            self.frame_received(data[at], data[body : body + size], now)
            at = body + size
        return data[at:]

    def frame_received(self, first: int, payload: bytes, now: float) -> None:
        """One final WebSocket frame: its first byte, and when it came."""
        if first in (0x80 | BINARY, 0x80 | TEXT):
            found = self.trace.read(payload)
            if found is not None:
                audio, sample_rate = found
                self.received_seconds += len(audio) / self.trace.sample_bytes / sample_rate
                self.trace.heard(audio, now)
            elif not self.ready.done() and self._is_ready(payload):
                self.ready.set_result(None)
        elif first == 0x80 | _PING:
            self.transport.write(client_frame(_PONG, payload))
        elif first == 0x80 | _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self._fail(CallError(f"the server closed with {code} {payload[2:].decode()}"))
            self.transport.close()

    def _is_ready(self, message: bytes) -> bool:
        ready = self._destination.ready
        return ready is not None and ready.search(message) is not None

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


C = TypeVar("C", bound=Call)
Address = Callable[[], Awaitable[Destination]]


async def open_call(address: Address, trace: Trace) -> Call:
    """Connect, and wait until the call is ready."""
    return await connect(address, lambda destination: Call(destination, trace))


async def connect(address: Address, new_call: Callable[[Destination], C]) -> C:
    """The same for a call of another class."""
    destination = await address()
    host, _, port = urlsplit(destination.url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    _, call = await loop.create_connection(lambda: new_call(destination), host, int(port))
    await asyncio.wait_for(call.open, HANDSHAKE_TIMEOUT_SECS)
    await asyncio.wait_for(call.ready, HANDSHAKE_TIMEOUT_SECS)
    return call


async def tick(calls: Sequence[Call], phases: int, until: float) -> None:
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


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """The value that such a part of the values is below; NaN if there are none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, int(quantile * len(values)))]


@dataclass
class Result:
    """One load's outcome. Times in seconds."""

    calls: int
    measured_secs: float
    server_cpu_secs: float
    load_busy_secs: float
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
        return self.load_busy_secs / self.measured_secs

    @property
    def lost_share(self) -> float:
        """The part of what was sent that never came back."""
        return self.lost / max(1, self.lost + len(self.latencies))

    @property
    def returned_share(self) -> float:
        """The part of the audio's duration that came back in the measured time."""
        return self.returned_secs / (self.calls * self.measured_secs)

    def latency(self, quantile: float) -> float:
        """A quantile of the echo's latency; NaN if nothing came back."""
        return quantile_of(self.latencies, quantile)


async def talk(
    address: Address,
    server_cpu: Callable[[], float],
    *,
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
    opened = [await open_call(address, new_trace()) for _ in range(calls)]
    gc.collect()
    gc.disable()
    try:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        ticking = asyncio.create_task(
            tick(opened, phases, begin + warm_up_secs + measured_secs + MESSAGE_SECS)
        )
        await asyncio.sleep(warm_up_secs)
        start, cpu, idle_secs = time.perf_counter(), server_cpu(), BusySelector.idle_secs
        received = sum(call.received_seconds for call in opened)
        if while_measuring is not None:
            await while_measuring()
        await asyncio.sleep(max(0.0, start + measured_secs - time.perf_counter()))
        end = time.perf_counter()
        result = Result(
            calls=calls,
            measured_secs=end - start,
            server_cpu_secs=server_cpu() - cpu,
            load_busy_secs=end - start - (BusySelector.idle_secs - idle_secs),
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


async def idle(address: Address, resident_bytes: Callable[[], int], *, calls: int) -> float:
    """Resident bytes that one silent call adds, from the difference that ``calls`` make.

    A first few calls come and go before, so that nothing counts that is loaded once.
    """
    for _ in range(10):
        call = await open_call(address, BurstTrace())
        call.send()
        await asyncio.sleep(0.1)
        call.hang_up()
    await asyncio.sleep(2)
    before = await asyncio.to_thread(resident_bytes)
    opened = [await open_call(address, BurstTrace()) for _ in range(calls)]
    await asyncio.sleep(2)
    after = await asyncio.to_thread(resident_bytes)
    alive = sum(call.is_alive for call in opened)
    if alive < calls:
        raise CallError(f"{calls - alive} of {calls} idle calls were dropped")
    for call in opened:
        call.hang_up()
    await asyncio.sleep(1)
    return (after - before) / calls
