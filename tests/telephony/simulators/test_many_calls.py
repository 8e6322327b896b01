"""Fifty calls at once on one core: nothing is lost, nothing is late."""

from __future__ import annotations

import asyncio
import os
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.server_processes import Server
from tests.telephony.simulators.conftest import PlaceCall, phone_serving
from voicews.audio.g711 import decode_ulaw
from voicews.testing import ProviderApi

NUM_CALLS = 50
TALK_SECS = 30
CHUNK_SECS = 0.02
CHUNK_BYTES = 160
NUM_CHUNKS = round(TALK_SECS / CHUNK_SECS)
LATE_SECS = 0.06
#: Callers that are further behind stop the media clock.
MAX_BEHIND_SECS = 0.005
#: How long the media clock may stand still in all: more, and it was not fifty calls at once.
MAX_STILL_SECS = TALK_SECS / 20
TIMEOUT_SECS = 20.0

#: asm-generic/socket.h; Python has no name for it.
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("qq")


def now_secs() -> float:
    """The clock of the kernel's timestamps."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def speech(seed: int) -> bytes:
    """Mu-law of which every chunk is another one, and none is silence."""
    noise = random.Random(seed).randbytes(CHUNK_BYTES * NUM_CHUNKS)
    # Both zeros, which are one after decoding.
    return noise.replace(b"\xff", b"\x01").replace(b"\x7f", b"\x02")


class Caller:
    """A simulated call with a socket of its own, which costs little and tells exact times.

    When a message arrived is what the kernel says: on one machine, that is the moment at which the
    server wrote it, however late it is read. What it means is left to the simulator, afterwards.
    """

    def __init__(self, call: Any, seed: int) -> None:
        self._call = call
        self._said = speech(seed)
        chunks = (self._said[i : i + CHUNK_BYTES] for i in range(0, len(self._said), CHUNK_BYTES))
        self._media = [call._media_message(chunk).encode() for chunk in chunks]
        #: When each chunk that has left was due, on the media clock.
        self.due_at: list[float] = []
        #: What came, with the moment at which it did.
        self.messages: list[tuple[float, bytes]] = []
        url = call.reachable(call.stream_url)
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_SECS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._protocol = ClientProtocol(parse_uri(url))
        request = self._protocol.connect()
        request.headers.update(call._upgrade_headers(call.stream_url))
        self._protocol.send_request(request)
        self._flush()
        while self._protocol.state is State.CONNECTING:
            self.read()
        call._begin_stream()
        while not call._outbox.empty():
            self._send(call._outbox.get_nowait())

    def say_next(self, due_at: float) -> None:
        """Send the next chunk."""
        self._protocol.send_text(self._media[len(self.due_at)])
        self.due_at.append(due_at)
        self._flush()

    def read(self) -> None:
        """Take what came, and answer pings."""
        data, ancillary, _, _ = self.socket.recvmsg(65536, 64)
        if not data:
            self._protocol.receive_eof()
            return
        # Of several messages in one piece, the last one's: never earlier than it was.
        seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.messages.append((seconds + nanoseconds / 1e9, bytes(event.data)))
        self._flush()

    def hang_up(self) -> int | None:
        """End the stream as Twilio does; the close code."""
        for message in self._call._last_messages():
            self._send(message)
        self._protocol.send_close(1000)
        self._flush()
        while self._protocol.state is not State.CLOSED:
            self.read()
        self.socket.close()
        return self._protocol.close_code

    def lateness_secs(self) -> list[float]:
        """How long after it was due each chunk came back; fails if not every byte did."""
        call, heard = self._call, self._call.heard
        for at, message in self.messages:
            call._now = lambda at=at: at
            call._receive(message.decode())
        assert call.violations == []
        assert heard.pcm == decode_ulaw(self._said)
        ends = np.cumsum([len(piece.pcm) for piece in heard.pieces]) // 2
        arrived_at = np.array([piece.received_at for piece in heard.pieces])
        wanted = np.arange(1, NUM_CHUNKS + 1) * CHUNK_BYTES
        late: list[float] = (arrived_at[np.searchsorted(ends, wanted)] - self.due_at).tolist()
        return late

    def _send(self, message: str) -> None:
        self._protocol.send_text(message.encode())
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)


def talk(callers: Sequence[Caller]) -> float:
    """Let all of them talk in real time; how long (seconds) the media clock stood still.

    It does when the callers could not run for a while. What they should have said by then would
    all come at once, in fifty calls at the same time: that is not what calls do, and would be
    counted as the server's lateness.
    """
    readers = {caller.socket.fileno(): caller.read for caller in callers}

    def listen(until: float, done: Callable[[], bool] = lambda: False) -> None:
        while not done():
            ready, _, _ = select.select(readers, [], [], max(0.0, until - now_secs()))
            if not ready:
                return
            for fd in ready:
                readers[fd]()

    def have_all_heard(count: int) -> bool:
        return all(len(caller.messages) >= count for caller in callers)

    # The first chunk waits for its call's bot to be there.
    for caller in callers:
        caller.say_next(now_secs())
    listen(now_secs() + TIMEOUT_SECS, lambda: have_all_heard(1))

    phases = random.Random(1)
    turns = sorted((phases.uniform(0, CHUNK_SECS), number) for number in range(len(callers)))
    begun_at, still_secs = now_secs(), 0.0
    for chunk in range(1, NUM_CHUNKS):
        for phase, number in turns:
            due_at = begun_at + chunk * CHUNK_SECS + phase + still_secs
            listen(due_at)
            behind = now_secs() - due_at
            if behind > MAX_BEHIND_SECS:
                still_secs += behind
                due_at += behind
            callers[number].say_next(due_at)
    listen(now_secs() + TIMEOUT_SECS, lambda: have_all_heard(NUM_CHUNKS))
    return still_secs


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and what it starts, runs on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture
def phone_server(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any, provider_api: ProviderApi
) -> Iterator[Server]:
    """A server on one core; the test has another one."""
    cores = os.sched_getaffinity(0)
    with ExitStack() as running:
        with on_core(max(cores)):
            server = running.enter_context(
                phone_serving(tmp_path_factory, migrated_database, provider_api)
            )
        with on_core(min(cores)):
            yield server


def cpu_secs(server: Server) -> tuple[float, float]:
    """How long its main thread ran, and how long it could have but had no core."""
    ran, waited, _ = Path(f"/proc/{server.process.pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


@pytest.mark.alone
def test_fifty_calls_at_once(place: PlaceCall, phone_server: Server) -> None:
    """Each of 75 000 chunks comes back, every byte of it, within 60 ms of when it was due.

    It is the server's time alone, as the callers' own does not count: see `Caller` and `talk`.
    Nothing else is excused, so the server's core must be the server's.
    """
    calls = [place("twilio", "exact_echo") for _ in range(NUM_CALLS)]

    async def ring() -> None:
        for call in calls:
            await call.ring()

    asyncio.run(ring())
    callers = [Caller(call, seed) for seed, call in enumerate(calls)]
    before = cpu_secs(phone_server)
    still_secs = talk(callers)
    ran_secs, waited_secs = np.subtract(cpu_secs(phone_server), before)
    # Whoever closes first.
    assert {caller.hang_up() for caller in callers} <= {1000, 1001}
    # The first chunk waited until its call had begun.
    late = np.array([caller.lateness_secs()[1:] for caller in callers])
    quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0]
    in_ms = zip(quantiles, np.quantile(late, quantiles) * 1000, strict=True)
    figures = (
        f"{(late > LATE_SECS).sum()} of {late.size} chunks later than {LATE_SECS} s; ms late: "
        f"{', '.join(f'{quantile:.2%} {ms:.1f}' for quantile, ms in in_ms)}; the server ran "
        f"{ran_secs:.1f} s and waited {waited_secs:.3f} s for its core; "
        f"the callers' clock stood still for {still_secs:.3f} s"
    )
    print(figures)
    assert still_secs <= MAX_STILL_SECS, figures
    assert late.max() <= LATE_SECS, figures
