"""A call that goes on in threads of its own, while a test looks at it from elsewhere."""

from __future__ import annotations

import json
import math
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server_processes import Server
from voicews.serializers.frames_pb2 import Frame

RATE = 16000
#: Goes on from packet to packet without a click.
FREQUENCY = 450.0
PACKET_SECS = 0.02
TIMEOUT_SECS = 20.0


def _tone(frequency: float, count: int) -> bytes:
    samples = (int(9000 * math.sin(2 * math.pi * frequency * i / RATE)) for i in range(count))
    return struct.pack(f"<{count}h", *samples)


class Caller:
    """Sends a tone for as long as the call lasts, and notes what comes back."""

    def __init__(self, session: str, socket: ClientConnection) -> None:
        self.session = session
        self.audio_packets = 0
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._socket = socket
        self._ready = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._read, self._talk)]
        for thread in self._threads:
            thread.start()
        ready = {"label": "rtvi-ai", "type": "client-ready", "id": "1"}
        message = Frame()
        message.message.data = json.dumps({**ready, "data": {"version": "2.2.0"}})
        self._socket.send(message.SerializeToString())
        assert self._ready.wait(TIMEOUT_SECS), "the bot was never ready"

    @property
    def is_over(self) -> bool:
        return self.close_code is not None

    def hang_up(self) -> None:
        self._socket.close(1000)
        for thread in self._threads:
            thread.join(TIMEOUT_SECS)

    def _read(self) -> None:
        try:
            for data in self._socket:
                assert isinstance(data, bytes)
                frame = Frame.FromString(data)
                if frame.WhichOneof("frame") == "audio":
                    self.audio_packets += 1
                elif frame.WhichOneof("frame") == "message":
                    self.messages.append(json.loads(frame.message.data))
                    if self.messages[-1]["type"] == "bot-ready":
                        self._ready.set()
        except ConnectionClosed:
            pass
        self.close_reason = self._socket.close_reason or ""
        self.close_code = self._socket.close_code

    def _talk(self) -> None:
        packet = Frame()
        packet.audio.audio = _tone(FREQUENCY, int(RATE * PACKET_SECS))
        packet.audio.sample_rate = RATE
        packet.audio.num_channels = 1
        data = packet.SerializeToString()
        due = time.monotonic()
        while not self.is_over:
            if self._ready.is_set():
                try:
                    self._socket.send(data)
                except ConnectionClosed:
                    return
            due += PACKET_SECS
            time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def call(server: Server, bot: str = "echo") -> Iterator[Caller]:
    """A call that is hung up at the end, whatever happened."""
    answer = server.connect(bot)
    session = answer["ws_url"].rstrip("/").rpartition("/")[2]
    url = f"{answer['ws_url']}?token={answer['token']}"
    with connect(url, open_timeout=TIMEOUT_SECS, proxy=None) as socket:
        caller = Caller(session, socket)
        try:
            yield caller
        finally:
            caller.hang_up()
