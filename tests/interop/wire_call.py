"""A call as a plain client makes it, with a record of all that came."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from voicews.serializers.frames_pb2 import Frame

TIMEOUT_SECS = 20.0
SAMPLE_RATE = 24000


class Call:
    """A call of a plain client, with everything that came so far."""

    def __init__(self, sockets: ExitStack, url: str, token: str, *, greets: bool = True) -> None:
        self.url = url
        self._sockets = sockets
        self.socket: ClientConnection = sockets.enter_context(
            connect(f"{url}?token={token}", open_timeout=TIMEOUT_SECS, close_timeout=1)
        )
        self.pcm = bytearray()
        #: RTVI messages and interruptions, with the seconds of audio that came before each.
        self.messages: list[dict[str, Any]] = []
        #: The bot's answer to our handshake.
        self.ready = self._greet("1") if greets else {}

    @property
    def resume_token(self) -> str:
        return cast("str", self.ready["data"]["voicews"]["resume_token"])

    def heard_secs(self) -> float:
        return len(self.pcm) / 2 / SAMPLE_RATE

    def send(self, **message: Any) -> None:
        frame = Frame()
        frame.message.data = json.dumps({"label": "rtvi-ai", **message})
        self.socket.send(frame.SerializeToString())

    def say(self, pcm: bytes) -> None:
        """Send 16 kHz audio, all at once."""
        for start in range(0, len(pcm), 640):
            frame = Frame()
            frame.audio.audio = pcm[start : start + 640]
            frame.audio.sample_rate = 16000
            frame.audio.num_channels = 1
            self.socket.send(frame.SerializeToString())

    def ask(self, kind: str, data: Any = None) -> Any:
        """Send a client message; the answer's data."""
        self.send(type="client-message", id=kind, data={"t": kind, "d": data})
        answer = self.until(
            lambda message: message["type"] == "server-response" and message["id"] == kind
        )
        return answer["data"]["d"]

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Take what comes until a message that is wanted."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while True:
            message = self._take(deadline - time.monotonic())
            if message is not None and wanted(message):
                return message

    def until_type(self, kind: str) -> dict[str, Any]:
        return self.until(lambda message: message["type"] == kind)

    def until_closed(self) -> int:
        """Take what comes until the socket is closed; its close code."""
        with pytest.raises(ConnectionClosed) as closed:
            self.until(lambda message: False)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code

    def resume(self) -> "Call":
        """Come back with another socket."""
        return Call(self._sockets, self.url, self.resume_token)

    def lose(self) -> None:
        """Vanish without a goodbye."""
        self.socket.socket.close()

    def until_heard(self, secs: float) -> None:
        """Take what comes until there was so much audio."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while self.heard_secs() < secs:
            self._take(deadline - time.monotonic())

    def _greet(self, message_id: str) -> dict[str, Any]:
        about = {"version": "2.0.0", "about": {"library": "a test"}}
        self.send(type="client-ready", id=message_id, data=about)
        return self.until_type("bot-ready")

    def _take(self, timeout_secs: float) -> dict[str, Any] | None:
        data = self.socket.recv(timeout_secs)
        assert isinstance(data, bytes)
        frame = Frame.FromString(data)
        if frame.HasField("audio"):
            assert frame.audio.sample_rate == SAMPLE_RATE
            self.pcm += frame.audio.audio
            return None
        if frame.HasField("interruption"):
            message: dict[str, Any] = {"type": "(interruption)"}
        else:
            message = json.loads(frame.message.data)
        message["heard_secs"] = self.heard_secs()
        message["at"] = time.monotonic()
        self.messages.append(message)
        return message
