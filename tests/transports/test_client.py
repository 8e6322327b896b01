"""The transport that connects out, against servers on real sockets that do what they should not."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.fakes import Tap, ramp
from tests.polling import until
from tests.server_processes import free_port
from voicews.audio.wav import is_wav, split_wav
from voicews.exceptions import ConfigurationError, ConnectFailed, InvalidState
from voicews.frames import (
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from voicews.pipeline import Pipeline, PipelineTask
from voicews.serializers import PCMSerializer
from voicews.serializers import frames_pb2 as pb
from voicews.signals import connected, connection_failed
from voicews.transports import (
    ReconnectPolicy,
    WebsocketClientCallbacks,
    WebsocketClientParams,
    WebsocketClientSession,
    WebsocketClientTransport,
)
from voicews.transports.writer import MAX_PENDING_BYTES

QUICK = ReconnectPolicy(first_delay_secs=0.02, max_delay_secs=0.05, max_failures=4, useful_secs=5)

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, **options: Any) -> AsyncIterator[str]:
    server: Server
    limits = {"compression": None, "close_timeout": 0.2}
    async with serve(handler, "127.0.0.1", 0, **(limits | options)) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/voice?token=secret"


async def silent(websocket: ServerConnection) -> None:
    await websocket.wait_closed()


class Call:
    """A pipeline at one end of a client transport, and what has happened to it."""

    def __init__(self, uri: str, **params: Any) -> None:
        defaults: dict[str, Any] = {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_auto_silence": False,
            "audio_out_end_silence_secs": 0.0,
            "audio_out_lead_secs": 60.0,
        }
        self.transport = WebsocketClientTransport(uri, WebsocketClientParams(**defaults | params))
        self.events: list[tuple[Any, ...]] = []
        for name in sorted(self.transport.events):
            self.transport.event_handler(name)(self._remember(name))
        self.tap = Tap()
        self.task = PipelineTask(
            Pipeline([self.transport.input(), self.tap, self.transport.output()])
        )

    def _remember(self, name: str) -> Callable[..., None]:
        def handler(transport: WebsocketClientTransport, argument: Any) -> None:
            assert transport is self.transport
            self.events.append((name, argument))

        return handler

    def names(self) -> list[str]:
        return [event[0] for event in self.events]

    def errors(self) -> list[ConnectFailed]:
        return [event[1] for event in self.events if event[0] == "on_connection_failed"]

    async def ended(self, timeout_secs: float = 5.0) -> str:
        async with asyncio.timeout(timeout_secs):
            reason = await self.task.wait()
            await self.transport.wait_closed()
            # A task of its own sends the last events.
            await until(lambda: self.transport._events._worker is None)
            return reason


def audio_frame(pcm: bytes, rate: int = 16000) -> bytes:
    return pb.Frame(
        audio=pb.AudioRawFrame(audio=pcm, sample_rate=rate, num_channels=1)
    ).SerializeToString()


# --- params -------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_reference() -> None:
    params = WebsocketClientParams()
    assert params.add_wav_header is True
    assert params.additional_headers is None
    assert params.serializer is None
    assert params.reconnect is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"open_timeout_secs": 0},
        {"ping_interval_secs": 0},
        {"ws_close_timeout": -1},
        {"max_message_bytes": 0},
        {"audio_in_channels": 3},
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        WebsocketClientParams(**wrong)


@pytest.mark.parametrize(
    "uri",
    ["http://localhost/", "localhost:8765", "ws://", "ws://host:no/", "ws://[::1/", "", "wss:/x"],
)
def test_what_is_no_websocket_uri_is_refused_at_once(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="ws:// or wss://"):
        WebsocketClientTransport(uri)


def test_an_unknown_event_is_an_error() -> None:
    transport = WebsocketClientTransport("ws://localhost/")
    with pytest.raises(ConfigurationError, match="on_client_connected"):
        transport.event_handler("on_client_connected")(lambda *_: None)


# --- a call that goes well ----------------------------------------------------------------------


async def test_audio_both_ways_and_an_end_in_order() -> None:
    received: list[bytes] = []

    async def peer(websocket: ServerConnection) -> None:
        await websocket.send(audio_frame(ramp(320)))
        async for message in websocket:
            assert isinstance(message, bytes)
            received.append(message)

    async with serving(peer) as uri:
        call = Call(uri, add_wav_header=False)
        call.task.start()
        # Said before the server has let us in, and ended before too: all of it arrives.
        call.task.queue_frame(OutputAudioRawFrame(ramp(2400), 24000))
        await until(lambda: call.tap.down(InputAudioRawFrame))
        call.task.queue_frame(OutputAudioRawFrame(ramp(2400, 2400), 24000))
        call.task.end()
        assert await call.ended() == "ended"
    assert b"".join(pb.Frame.FromString(data).audio.audio for data in received) == ramp(4800)
    assert call.tap.down(InputAudioRawFrame)[0].audio == ramp(320)
    assert call.tap.down(ClientConnectedFrame)
    assert call.names() == ["on_connected", "on_disconnected"]
    assert isinstance(call.events[0][1], ClientConnection)
    assert call.events[0][1].close_code == 1000


async def test_a_call_that_ends_before_the_server_let_us_in_is_said_all_the_same() -> None:
    received: list[bytes] = []

    async def slow_to_accept(_connection: ServerConnection, _request: Request) -> None:
        await asyncio.sleep(0.2)

    async def peer(websocket: ServerConnection) -> None:
        received.extend([m async for m in websocket if isinstance(m, bytes)])

    async with serving(peer, process_request=slow_to_accept) as uri:
        call = Call(uri, add_wav_header=False)
        call.task.start()
        call.task.queue_frame(OutputAudioRawFrame(ramp(2400), 24000))
        call.task.end()
        await call.ended()
    assert b"".join(pb.Frame.FromString(data).audio.audio for data in received) == ramp(2400)


@pytest.mark.parametrize("add_wav_header", [True, False])
async def test_wav_headers(add_wav_header: bool) -> None:
    received: list[bytes] = []

    async def peer(websocket: ServerConnection) -> None:
        received.extend([m async for m in websocket if isinstance(m, bytes)])

    async with serving(peer) as uri:
        call = Call(uri, add_wav_header=add_wav_header)
        call.task.start()
        call.task.queue_frame(OutputAudioRawFrame(ramp(960), 24000))
        call.task.end()
        await call.ended()
    audio = [pb.Frame.FromString(data).audio.audio for data in received]
    assert [is_wav(one) for one in audio] == [add_wav_header] * len(audio)
    assert b"".join(split_wav(one).audio if add_wav_header else one for one in audio) == ramp(960)


async def test_headers_and_serializer_are_used() -> None:
    seen: list[str | None] = []
    received: list[str | bytes] = []

    async def peer(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        seen.append(websocket.request.headers.get("Authorization"))
        seen.append(websocket.request.headers.get("Sec-WebSocket-Extensions"))
        received.extend([m async for m in websocket])

    async with serving(peer) as uri:
        call = Call(
            uri,
            additional_headers={"Authorization": "Bearer 123"},
            serializer=PCMSerializer(16000),
            add_wav_header=False,
        )
        call.task.start()
        call.task.queue_frame(OutputAudioRawFrame(ramp(320), 16000))
        call.task.end()
        await call.ended()
    assert seen == ["Bearer 123", None]
    assert received == [ramp(320)]


async def test_a_remote_interruption_reaches_the_pipeline() -> None:
    async def peer(websocket: ServerConnection) -> None:
        frame = pb.Frame(interruption=pb.InterruptionFrame(name="interruption"))
        await websocket.send(frame.SerializeToString())
        await websocket.wait_closed()

    async with serving(peer) as uri:
        call = Call(uri)
        call.task.start()
        await until(lambda: call.tap.down(InterruptionFrame))
        call.task.cancel()
        await call.ended()


async def test_events_are_signals_too() -> None:
    heard: list[dict[str, Any]] = []

    def receiver(**kwargs: Any) -> None:
        heard.append(kwargs)

    connected.connect(receiver)
    try:
        async with serving(silent) as uri:
            call = Call(uri)
            call.task.start()
            await until(lambda: heard)
            call.task.cancel()
            await call.ended()
    finally:
        connected.disconnect(receiver)
    assert heard[0]["sender"] is heard[0]["transport"] is call.transport
    assert isinstance(heard[0]["websocket"], ClientConnection)


async def test_open_first_then_start() -> None:
    async def peer(websocket: ServerConnection) -> None:
        await websocket.send(audio_frame(ramp(320)))
        await websocket.wait_closed()

    async with serving(peer) as uri:
        call = Call(uri)
        await call.transport.open()
        assert call.transport.session.is_connected
        await asyncio.sleep(0.05)
        assert call.events == []
        call.task.start()
        await until(lambda: call.tap.down(InputAudioRawFrame))
        assert isinstance(call.tap.downstream[0], StartFrame)
        with pytest.raises(InvalidState):
            await call.transport.open()
        call.task.cancel()
        await call.ended()
    assert call.names() == ["on_connected", "on_disconnected"]


async def test_open_and_never_start_can_be_let_go() -> None:
    async with serving(silent) as uri:
        transport = WebsocketClientTransport(uri)
        await transport.open()
        await transport.session.disconnect()
        assert not transport.session.is_connected


# --- servers that don't let us in ----------------------------------------------------------------


def refuse(status: HTTPStatus) -> Callable[[ServerConnection, Request], Response]:
    return lambda connection, request: connection.respond(status, "")


async def test_a_refusal_is_a_typed_error() -> None:
    async with serving(silent, process_request=refuse(HTTPStatus.FORBIDDEN)) as uri:
        transport = WebsocketClientTransport(uri)
        with pytest.raises(ConnectFailed, match="HTTP 403") as caught:
            await transport.open()
    assert caught.value.status == 403
    assert caught.value.permanent
    assert "secret" not in str(caught.value)


async def test_a_refusal_is_an_event_and_ends_the_call() -> None:
    async with serving(silent, process_request=refuse(HTTPStatus.FORBIDDEN)) as uri:
        call = Call(uri, reconnect=QUICK)
        call.task.start()
        call.task.queue_frame(OutputAudioRawFrame(ramp(320), 16000))
        call.task.end()  # in order: yet nothing will ever be played
        assert await call.ended() == "ended"
    assert call.names() == ["on_connection_failed"]
    assert call.errors()[0].status == 403


async def test_a_refusal_is_a_signal() -> None:
    heard: list[Any] = []

    def receiver(**kwargs: Any) -> None:
        heard.append(kwargs["error"])

    connection_failed.connect(receiver)
    try:
        call = Call(f"ws://127.0.0.1:{free_port()}/")
        call.task.start()
        assert await call.ended() == "could not connect"
    finally:
        connection_failed.disconnect(receiver)
    assert isinstance(heard[0], ConnectFailed)
    assert heard[0].status is None
    assert not heard[0].permanent


async def test_a_busy_server_is_asked_again_until_the_policy_gives_up() -> None:
    async with serving(silent, process_request=refuse(HTTPStatus.SERVICE_UNAVAILABLE)) as uri:
        call = Call(uri, reconnect=QUICK)
        call.task.start()
        assert await call.ended() == "could not connect"
    assert len(call.errors()) == 5
    assert call.names().count("on_reconnecting") == 4
    assert call.task.close_code == 1006


@pytest.mark.parametrize("policy", [ReconnectPolicy(first_delay_secs=60, max_delay_secs=60), QUICK])
async def test_a_pipeline_that_ends_while_nobody_listens_ends(policy: ReconnectPolicy) -> None:
    call = Call(
        f"ws://127.0.0.1:{free_port()}/",
        reconnect=dataclasses.replace(policy, max_failures=None),
    )
    call.task.start()
    call.task.queue_frame(OutputAudioRawFrame(ramp(320), 16000))
    await until(lambda: "on_reconnecting" in call.names())
    call.task.end()
    await call.ended()


async def test_a_pipeline_that_ends_is_heard_by_a_server_that_is_slow_to_let_it_in() -> None:
    heard: list[str | bytes] = []

    async def hear(websocket: ServerConnection) -> None:
        heard.extend([message async for message in websocket])

    async def slowly(_websocket: ServerConnection, _request: Request) -> None:
        await asyncio.sleep(0.2)

    async with serving(hear, process_request=slowly) as uri:
        call = Call(uri, reconnect=QUICK)
        call.task.start()
        call.task.queue_frame(OutputAudioRawFrame(ramp(320), 16000))
        call.task.end()
        await call.ended()
        await until(lambda: heard)


async def test_a_server_that_accepts_tcp_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        call = Call(f"ws://127.0.0.1:{listening.getsockname()[1]}/", open_timeout_secs=0.1)
        call.task.start()
        assert await call.ended() == "could not connect"
    assert "did not answer within 0.1 s" in str(call.errors()[0])


async def test_a_server_that_speaks_something_else() -> None:
    async def ssh(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(ssh, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        call = Call(f"ws://127.0.0.1:{port}/")
        call.task.start()
        assert await call.ended() == "could not connect"
        wrong_scheme = Call(f"wss://127.0.0.1:{port}/")
        wrong_scheme.task.start()
        assert await wrong_scheme.ended() == "could not connect"
    assert len(call.errors()) == len(wrong_scheme.errors()) == 1


async def test_a_cancel_while_dialing_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        before = asyncio.all_tasks()
        call = Call(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        call.task.start()
        await asyncio.sleep(0.05)
        call.task.cancel()
        await call.ended()
        await until(lambda: asyncio.all_tasks() == before)
    assert call.events == []


# --- servers that leave ---------------------------------------------------------------------------


async def test_without_reconnect_a_lost_server_ends_the_call() -> None:
    async def peer(websocket: ServerConnection) -> None:
        await websocket.close(1012, "restart")

    async with serving(peer) as uri:
        call = Call(uri)
        call.task.start()
        assert await call.ended() == "the server left"
    assert call.names() == ["on_connected", "on_disconnected"]
    assert call.task.close_code == 1012
    assert call.tap.down(ClientDisconnectedFrame)[0].close_code == 1012


async def test_a_restarted_server_is_found_again_and_hears_what_waited() -> None:
    received: list[bytes] = []

    async def peer(websocket: ServerConnection) -> None:
        await websocket.send(audio_frame(ramp(320)))
        try:
            async for message in websocket:
                assert isinstance(message, bytes)
                received.append(pb.Frame.FromString(message).audio.audio)
        except ConnectionClosed:
            pass

    port = free_port()
    call = Call(
        f"ws://127.0.0.1:{port}/",
        add_wav_header=False,
        reconnect=ReconnectPolicy(first_delay_secs=0.1, max_delay_secs=0.1, useful_secs=0),
    )
    async with serve(peer, "127.0.0.1", port):
        call.task.start()
        await until(lambda: call.tap.down(InputAudioRawFrame))
        call.task.queue_frame(OutputAudioRawFrame(ramp(480), 24000))
        await until(lambda: received)
        call.events[0][1].transport.abort()
    await until(lambda: "on_disconnected" in call.names())
    call.task.queue_frame(OutputAudioRawFrame(ramp(480, 480), 24000))
    await asyncio.sleep(0.15)
    async with serve(peer, "127.0.0.1", port):
        await until(lambda: call.names().count("on_connected") == 2)
        await until(lambda: b"".join(received) == ramp(960))
        resumed = [frame.resumed for frame in call.tap.down(ClientConnectedFrame)]
        call.task.end()
        assert await call.ended() == "ended"
    assert resumed[0] is False
    assert "on_reconnecting" in call.names()
    assert "on_connection_failed" in call.names()


@pytest.mark.parametrize("code", [1000, 1008, 4000, 4001, 4002])
async def test_some_goodbyes_are_final(code: int) -> None:
    accepted = 0

    async def peer(websocket: ServerConnection) -> None:
        nonlocal accepted
        accepted += 1
        await websocket.close(code)

    async with serving(peer) as uri:
        call = Call(uri, reconnect=QUICK)
        call.task.start()
        assert await call.ended() == "the server left"
        await asyncio.sleep(0.1)
    assert accepted == 1
    assert call.task.close_code == code


async def test_a_server_that_accepts_and_closes_again_and_again_is_given_up() -> None:
    accepted = 0

    async def peer(websocket: ServerConnection) -> None:
        nonlocal accepted
        accepted += 1
        await websocket.close(1011)

    async with serving(peer) as uri:
        call = Call(uri, reconnect=QUICK)
        call.task.start()
        assert await call.ended() == "the server left"
    assert accepted == 5
    assert call.names().count("on_disconnected") == 5


async def test_a_server_that_never_reads_ends_the_call() -> None:
    async def peer(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await asyncio.sleep(1)

    async with serving(peer) as uri:
        call = Call(uri, audio_out_write_timeout_secs=0.3, ping_interval_secs=None)
        call.task.start()
        await until(lambda: call.events)
        started = time.monotonic()
        for _ in range(8):
            call.task.queue_frame(OutputAudioRawFrame(bytes(4_000_000), 24000))
        assert await call.ended() == "the server left"
        assert time.monotonic() - started < 3


async def test_a_server_that_answers_no_ping_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as relay:
        relay.setblocking(False)
        loop = asyncio.get_running_loop()
        async with serving(silent) as uri:
            host, port = uri.split("/")[2].split(":")

            async def cut_after_the_handshake() -> socket.socket:
                inner, _ = await loop.sock_accept(relay)
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(await loop.sock_recv(inner, 65536))
                await loop.sock_sendall(inner, await reader.readuntil(b"\r\n\r\n"))
                writer.close()
                return inner

            cutting = loop.create_task(cut_after_the_handshake())
            call = Call(f"ws://127.0.0.1:{relay.getsockname()[1]}/", ping_interval_secs=0.1)
            call.task.start()
            assert await call.ended() == "the server left"
            (await cutting).close()
    assert call.names() == ["on_connected", "on_disconnected"]


async def test_a_message_that_is_too_long_closes_with_1009() -> None:
    codes: list[int | None] = []

    async def peer(websocket: ServerConnection) -> None:
        await websocket.send(bytes(2000))
        await websocket.wait_closed()
        codes.append(websocket.close_code)

    async with serving(peer) as uri:
        call = Call(uri, max_message_bytes=1000)
        call.task.start()
        await call.ended()
        await until(lambda: codes)
    assert codes == [1009]


async def test_too_many_bad_messages_close_with_1007() -> None:
    codes: list[int | None] = []

    async def peer(websocket: ServerConnection) -> None:
        for _ in range(3):
            await websocket.send("text")
        await websocket.wait_closed()
        codes.append(websocket.close_code)

    async with serving(peer) as uri:
        call = Call(uri, max_invalid_messages=3)
        call.task.start()
        assert await call.ended() == "the server left"
        await until(lambda: codes)
    assert codes == [1007]
    assert call.transport.invalid_messages == 3


# --- when to try again ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"first_delay_secs": 0}, {"max_delay_secs": 0.1}, {"max_failures": 0}, {"useful_secs": -1}],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ReconnectPolicy(**wrong)


# --- the session --------------------------------------------------------------------------------


class Ends:
    """Callbacks that remember."""

    def __init__(self) -> None:
        self.connected: list[ClientConnection] = []
        self.disconnected: list[ClientConnection] = []
        self.messages: list[str | bytes] = []
        self.fail = False

    def session(self, uri: str, **params: Any) -> WebsocketClientSession:
        async def on_connected(websocket: ClientConnection) -> None:
            self.connected.append(websocket)

        async def on_disconnected(websocket: ClientConnection) -> None:
            self.disconnected.append(websocket)

        async def on_message(websocket: ClientConnection, message: str | bytes) -> None:
            self.messages.append(message)
            if self.fail:
                raise RuntimeError("on purpose")

        callbacks = WebsocketClientCallbacks(on_connected, on_disconnected, on_message)
        return WebsocketClientSession(uri, WebsocketClientParams(**params), callbacks, "test")


async def gather(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*coroutines, return_exceptions=True)


async def test_one_socket_for_all_until_the_last_lets_go() -> None:
    accepted = 0

    async def peer(websocket: ServerConnection) -> None:
        nonlocal accepted
        accepted += 1
        async for message in websocket:
            await websocket.send(message)

    ends = Ends()
    async with serving(peer) as uri:
        session = ends.session(uri)
        assert await session.send(b"nobody there") is False
        await gather(session.connect(), session.connect(), session.connect())
        assert session.is_connected
        assert await session.send(b"1") is True
        await session.disconnect()
        await session.disconnect()
        assert session.is_connected
        assert await session.send("2") is True
        await until(lambda: len(ends.messages) == 2)
        closing = asyncio.create_task(session.disconnect())
        await asyncio.sleep(0)
        assert (session.is_connected, session.is_closing) == (False, True)
        await closing
        await session.disconnect()
        assert (session.is_connected, session.is_closing) == (False, False)
        assert await session.send(b"3") is False
        assert accepted == 1
        await session.connect()
        assert accepted == 2
        await session.disconnect()
    assert ends.messages == [b"1", "2"]
    assert len(ends.connected) == len(ends.disconnected) == 2


async def test_all_who_wait_for_a_socket_learn_that_it_was_refused() -> None:
    ends = Ends()
    session = ends.session(f"ws://127.0.0.1:{free_port()}/")
    errors = await gather(session.connect(), session.connect())
    assert [type(error) for error in errors] == [ConnectFailed, ConnectFailed]
    await session.disconnect()
    assert ends.connected == []


async def test_one_who_gives_up_waiting_takes_nobody_s_socket() -> None:
    async def slowly(_connection: ServerConnection, _request: Request) -> None:
        await asyncio.sleep(0.1)

    ends = Ends()
    async with serving(silent, process_request=slowly) as uri:
        session = ends.session(uri)
        impatient = asyncio.create_task(session.connect())
        patient = asyncio.create_task(session.connect())
        await asyncio.sleep(0.02)
        impatient.cancel()
        await patient
        assert session.is_connected
        await session.disconnect()
        assert not session.is_connected


async def test_a_lost_socket_can_be_opened_again_by_anybody() -> None:
    ends = Ends()
    async with serving(silent) as uri:
        session = ends.session(uri)
        await gather(session.connect(), session.connect())
        await until(lambda: ends.connected)
        ends.connected[0].transport.abort()
        await until(lambda: ends.disconnected)
        await session.connect()
        assert session.is_connected
        await session.disconnect()
        assert not session.is_connected


async def test_a_failing_callback_costs_nothing() -> None:
    async def peer(websocket: ServerConnection) -> None:
        await websocket.send("1")
        await websocket.send("2")
        await websocket.wait_closed()

    ends = Ends()
    ends.fail = True
    async with serving(peer) as uri:
        session = ends.session(uri)
        await session.connect()
        await until(lambda: len(ends.messages) == 2)
        await session.disconnect()


async def test_a_session_takes_no_more_than_a_slow_server_can_bear() -> None:
    async def peer(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await asyncio.sleep(1)

    ends = Ends()
    async with serving(peer) as uri:
        session = ends.session(uri, audio_out_write_timeout_secs=0.5, ping_interval_secs=None)
        await session.connect()
        await until(lambda: ends.connected)
        mib = bytes(1024 * 1024)
        writes = [asyncio.create_task(session.send(mib)) for _ in range(20)]
        await asyncio.sleep(0.2)
        refused = [write for write in writes if write.done() and write.result() is False]
        waiting = [write for write in writes if not write.done()]
        assert refused
        assert len(waiting) * len(mib) <= MAX_PENDING_BYTES
        assert True not in await gather(*(asyncio.wait_for(w, 3) for w in waiting))
        await until(lambda: ends.disconnected)
