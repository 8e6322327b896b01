"""The bridge: a call whose bot is on another voice server."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.server_processes import free_port
from voicews.bridge import Bridge
from voicews.frames import (
    CallStartedFrame,
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    Direction,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    TextFrame,
    TranscriptionFrame,
)
from voicews.pipeline import FrameProcessor, PipelineTask
from voicews.serializers import frames_pb2 as pb

TIMEOUT_SECS = 10.0
#: What the bridge may add to the way of one packet.
MAX_ADDED_SECS = 0.010
PCM_20_MS = bytes(640)


class Remote:
    """The other voice server: keeps what it gets, sends what it is told, echoes audio."""

    def __init__(self) -> None:
        self.uri = f"ws://127.0.0.1:{free_port()}/ws"
        self.sockets: list[ServerConnection] = []
        self.received: list[tuple[float, pb.Frame]] = []
        self.closed: list[int | None] = []
        self.echoes = False

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        with suppress(ConnectionClosed):
            async for data in socket:
                assert isinstance(data, bytes)
                frame = pb.Frame.FromString(data)
                self.received.append((monotonic(), frame))
                if self.echoes and frame.HasField("audio"):
                    await socket.send(data)
        self.closed.append(socket.close_code)

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("frame") for _, frame in self.received]

    def messages(self) -> list[Any]:
        return [
            json.loads(frame.message.data)
            for _, frame in self.received
            if frame.HasField("message")
        ]

    async def send(self, frame: pb.Frame) -> None:
        await self.sockets[-1].send(frame.SerializeToString())

    async def send_message(self, message: Any) -> None:
        await self.send(pb.Frame(message=pb.MessageFrame(data=json.dumps(message))))


class Caller(FrameProcessor):
    """The call's output: keeps what the caller gets, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[float, Frame]] = []

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        self.heard.append((monotonic(), frame))
        self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for _, frame in self.heard if isinstance(frame, kind)]

    def messages(self) -> list[Any]:
        return [frame.message for frame in self.of(OutputTransportMessageUrgentFrame)]


class Ends:
    """A transport's two ends, without a socket."""

    def __init__(self) -> None:
        self.source, self.caller = FrameProcessor(), Caller()

    def input(self) -> FrameProcessor:
        return self.source

    def output(self) -> FrameProcessor:
        return self.caller


class Call:
    """A call of a bridge."""

    def __init__(self, uri: str) -> None:
        self.bridge = type("Joined", (Bridge,), {"uri": uri})()
        ends: Any = Ends()
        self.caller: Caller = ends.caller
        extras = {"voicews": {"resume_token": "t"}}
        self.task = PipelineTask(self.bridge.build_pipeline(ends, lambda: extras), call_id="test")

    def send(self, *frames: Frame) -> None:
        for frame in frames:
            self.task.queue_frame(frame)


async def until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + TIMEOUT_SECS
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def joined(remote: Remote) -> AsyncIterator[Call]:
    """A call that a remote server has answered."""
    port = int(remote.uri.rpartition(":")[2].partition("/")[0])
    async with serve(remote.serve, "127.0.0.1", port, compression=None):
        call = Call(remote.uri)
        call.task.start()
        call.send(ClientConnectedFrame())
        try:
            await until(lambda: remote.sockets)
            yield call
        finally:
            call.task.cancel()
            await call.task.wait()


@pytest.fixture
def remote() -> Remote:
    return Remote()


def audio(number: int = 0, sample_rate: int = 16000) -> InputAudioRawFrame:
    return InputAudioRawFrame(number.to_bytes(4, "little") + PCM_20_MS[4:], sample_rate)


async def test_what_the_caller_does_reaches_the_remote(remote: Remote) -> None:
    async with joined(remote) as call:
        mine = {"label": "mine", "type": "x"}
        call.send(audio(7))
        # The server has a socket before the client knows: an interruption waits for nobody.
        await until(lambda: remote.received)
        call.send(
            InputTransportMessageFrame(mine),
            InputTextFrame("typed"),
            TranscriptionFrame("said", "u", "t"),
            InputDTMFFrame("5"),
            InterruptionFrame(),
        )
        await until(lambda: len(remote.received) == 6)
        frames = {frame.WhichOneof("frame"): frame for _, frame in remote.received}
        assert frames["audio"].audio.audio == audio(7).audio
        assert frames["audio"].audio.sample_rate == 16000
        assert frames["text"].text.text == "typed"
        assert frames["transcription"].transcription.text == "said"
        assert "interruption" in frames
        dtmf = {"label": "rtvi-ai", "type": "dtmf", "id": "bridge", "data": {"buttons": ["5"]}}
        assert remote.messages() == [mine, dtmf]


async def test_what_the_remote_sends_reaches_the_caller(remote: Remote) -> None:
    async with joined(remote) as call:
        await remote.send(
            pb.Frame(audio=pb.AudioRawFrame(audio=bytes(960), sample_rate=24000, num_channels=1))
        )
        await remote.send(pb.Frame(text=pb.TextFrame(text="hello")))
        await remote.send_message({"label": "rtvi-ai", "type": "server-message", "data": 1})
        await remote.send(pb.Frame(interruption=pb.InterruptionFrame()))
        await until(lambda: call.caller.of(InterruptionFrame))
        heard = OutputAudioRawFrame(bytes(960), 24000, live=True)
        assert call.caller.of(OutputAudioRawFrame) == [heard]
        assert call.caller.of(TextFrame) == [TextFrame("hello")]
        assert call.caller.messages() == [{"label": "rtvi-ai", "type": "server-message", "data": 1}]
        assert "interruption" not in remote.kinds()


async def test_what_is_said_before_the_remote_answers_is_not_lost(remote: Remote) -> None:
    port = int(remote.uri.rpartition(":")[2].partition("/")[0])
    call = Call(remote.uri)
    # Connected in the same step of the loop in which the call begins: nobody can be faster.
    async with serve(remote.serve, "127.0.0.1", port, compression=None):
        call.task.start()
        call.send(ClientConnectedFrame(), *(audio(number) for number in range(50)))
        await until(lambda: len(remote.received) == 50)
        numbers = [int.from_bytes(frame.audio.audio[:4], "little") for _, frame in remote.received]
        assert numbers == list(range(50))
        call.task.cancel()
        await call.task.wait()


async def test_the_handshake_is_the_remotes_with_our_session(remote: Remote) -> None:
    async with joined(remote) as call:
        hello = {"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {}}
        ready = {"label": "rtvi-ai", "type": "bot-ready", "id": "1", "data": {"version": "2.0.0"}}
        call.send(InputTransportMessageFrame(hello))
        await until(lambda: remote.messages() == [hello])
        await remote.send_message(ready)
        await until(call.caller.messages)
        ours = {"version": "2.0.0", "voicews": {"resume_token": "t"}}
        assert call.caller.messages() == [{**ready, "data": ours}]
        # The one who comes back is not a new caller to the remote bot.
        call.send(ClientDisconnectedFrame())
        call.send(ClientConnectedFrame(resumed=True), InputTransportMessageFrame(hello))
        assert call.caller.messages()[1:] == [{**ready, "data": ours}]
        assert remote.messages() == [hello]


async def test_a_remote_that_knows_no_handshake_is_answered_for(remote: Remote) -> None:
    async with joined(remote) as call:
        call.bridge.handshake_timeout_secs = 0.05
        hello = {
            "label": "rtvi-ai",
            "type": "client-ready",
            "id": "7",
            "data": {"version": "2.0.0"},
        }
        call.send(ClientConnectedFrame(), InputTransportMessageFrame(hello))
        await until(call.caller.messages)
        (ready,) = call.caller.messages()
        assert (ready["type"], ready["id"]) == ("bot-ready", "7")
        assert ready["data"]["voicews"] == {"resume_token": "t"}
        # Once, and only where the remote says nothing of it.
        await remote.send_message({"label": "rtvi-ai", "type": "bot-ready", "id": "8", "data": {}})
        call.send(InputTransportMessageFrame({**hello, "id": "8"}))
        await remote.send_message({"label": "rtvi-ai", "type": "bot-ready", "id": "8", "data": {}})
        await until(lambda: len(call.caller.messages()) == 3)
        await asyncio.sleep(0.1)
        assert len(call.caller.messages()) == 3


async def test_for_a_phone_it_shakes_hands_itself(remote: Remote) -> None:
    async with joined(remote) as call:
        call.send(
            CallStartedFrame("twilio", "CA1", is_probe=True), CallStartedFrame("twilio", "CA1")
        )
        await until(remote.messages)
        assert [message["type"] for message in remote.messages()] == ["client-ready"]


async def test_to_a_client_that_is_away_nothing_is_played_later(remote: Remote) -> None:
    async with joined(remote) as call:
        call.send(ClientDisconnectedFrame())
        await remote.send(
            pb.Frame(audio=pb.AudioRawFrame(audio=bytes(960), sample_rate=24000, num_channels=1))
        )
        await remote.send(pb.Frame(text=pb.TextFrame(text="after it")))
        await until(lambda: call.caller.of(TextFrame))
        assert call.caller.of(OutputAudioRawFrame) == []


async def test_when_the_call_ends_the_remote_is_let_go(remote: Remote) -> None:
    async with joined(remote) as call:
        call.task.end("hung up")
        assert await call.task.wait() == "hung up"
        await until(lambda: remote.closed)
        assert remote.closed == [1000]


async def test_when_the_remote_ends_the_call_ends_in_order(remote: Remote) -> None:
    async with joined(remote) as call:
        await remote.sockets[0].close(1000)
        await call.task.wait()
        assert (call.task.reason, call.task.close_code) == ("remote bot ended the call", 1000)
        assert call.caller.of(EndFrame)
        assert call.caller.messages() == []


async def test_a_remote_that_is_lost_is_an_error(remote: Remote) -> None:
    async with joined(remote) as call:
        remote.sockets[0].transport.abort()
        await call.task.wait()
        assert call.task.close_code == 1011
        assert [message["data"] for message in call.caller.messages()] == [
            {"error": "the connection to the remote bot was lost", "fatal": True}
        ]


async def test_a_remote_that_is_down_is_an_error(
    remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    call = Call(remote.uri)
    call.task.start()
    await call.task.wait()
    assert (call.task.reason, call.task.close_code) == ("the remote bot can't be reached", 1011)
    assert call.caller.messages()[0]["data"]["error"] == "the remote bot can't be reached"
    assert call.caller.of(EndFrame)
    assert f"call test: Joined: {remote.uri} can't be reached" in caplog.text


async def test_a_bridge_to_nowhere_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    call = Call("")
    call.task.start()
    await call.task.wait()
    assert call.task.close_code == 1011
    assert "expected Joined to have a uri" in caplog.text


async def test_a_call_that_ends_while_it_connects_leaves_nothing_behind(remote: Remote) -> None:
    has_ended = asyncio.Event()

    async def not_yet(connection: object, request: object) -> None:
        await has_ended.wait()

    port = int(remote.uri.rpartition(":")[2].partition("/")[0])
    async with serve(remote.serve, "127.0.0.1", port, process_request=not_yet):
        call = Call(remote.uri)
        call.task.start()
        await asyncio.sleep(0.1)
        call.task.cancel("hung up")
        async with asyncio.timeout(2):
            await call.task.wait()
        has_ended.set()
    assert remote.sockets == []


async def test_it_adds_next_to_nothing_to_the_way_of_a_packet(remote: Remote) -> None:
    remote.echoes = True
    async with joined(remote) as call:
        sent: list[float] = []
        for number in range(100):
            sent.append(monotonic())
            call.send(audio(number))
            await asyncio.sleep(0.02)
        await until(lambda: len(call.caller.of(OutputAudioRawFrame)) == 100)
        there = [at for at, _ in remote.received]
        back = [at for at, frame in call.caller.heard if isinstance(frame, OutputAudioRawFrame)]
    # Medians, because a shared machine holds up one packet or another.
    added_there = statistics.median(b - a for a, b in zip(sent, there, strict=True))
    added_back = statistics.median(b - a for a, b in zip(there, back, strict=True))
    assert added_there < MAX_ADDED_SECS
    assert added_back < MAX_ADDED_SECS


async def test_what_came_late_does_not_stay_late(remote: Remote) -> None:
    remote.echoes = True
    async with joined(remote) as call:
        began = monotonic()
        # Three seconds that a bad network held back.
        call.send(*(audio(number) for number in range(150)))
        await until(lambda: len(remote.received) == 150)
        assert monotonic() - began < 1.5
