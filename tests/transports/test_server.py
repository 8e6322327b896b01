from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import FakeSocket, current_loop, settle, virtual_time
from tests.transports.calls import Call
from voicews.exceptions import ConfigurationError, InvalidState
from voicews.frames import (
    CancelFrame,
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    InputTextFrame,
    OutputTransportMessageUrgentFrame,
)
from voicews.pipeline import TaskState
from voicews.signals import EVENTS
from voicews.transports import WebsocketServerParams, WebsocketServerTransport
from voicews.transports.base import LAST_WORDS_SECS, TransportState


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What waits for this process's server: nobody else learns that it is not one."""
    waiting: list[Callable[[], object]] = []
    monkeypatch.setattr("voicews.transports.server.when_ready", waiting.append)
    return waiting


def state_of(call: Call) -> TransportState:
    return call.transport.state


def watch(call: Call) -> list[tuple[Any, ...]]:
    """All events of the call's transport, as they come."""
    seen: list[tuple[Any, ...]] = []
    for name in call.transport.events:

        def note(*args: Any, name: str = name) -> None:
            seen.append((name, *args))

        call.transport.event_handler(name)(note)
    return seen


class TestLifeCycle:
    @virtual_time
    async def test_states(self) -> None:
        call = Call()
        assert state_of(call) is TransportState.WAITING
        call.start()
        assert state_of(call) is TransportState.CONNECTED
        call.connection.disconnect(1006)
        assert state_of(call) is TransportState.WAITING
        call.reconnect()
        call.task.end()
        await call.task.wait()
        assert state_of(call) is TransportState.CLOSED
        with pytest.raises(InvalidState, match="expected a transport that is WAITING, found CLOS"):
            call.transport.connect(FakeSocket())
        await call.finish()

    @pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (4002, "ended by an operator")])
    @pytest.mark.parametrize("at_once", [False, True])
    @virtual_time
    async def test_the_end_closes_the_socket_once(
        self, code: int, reason: str, at_once: bool
    ) -> None:
        call = Call().start()
        call.tap.push_frame(OutputTransportMessageUrgentFrame({"last": 1}))
        (call.task.cancel if at_once else call.task.end)(reason, code)
        await call.task.wait()
        await call.transport.wait_closed()
        assert call.socket.closed == [(code, reason)]
        # What was to be said is said.
        assert call.received(OutputTransportMessageUrgentFrame) != []
        await asyncio.sleep(1)
        # For the peer that does not answer the close.
        assert call.socket.aborted == 1
        # And no cancel came after the end, though the client has gone.
        assert len(call.tap.down(CancelFrame)) == at_once
        await call.finish()

    @virtual_time
    async def test_after_the_client_was_let_go_its_messages_reach_nobody(self) -> None:
        call = Call().start()
        connection = call.connection
        connection.drop(1008, "flood")
        await call.receive(InputTextFrame("late"))
        connection.disconnect(1006)
        connection.drop(1000)
        await call.transport.wait_closed()
        assert call.socket.closed == [(1008, "flood")]
        assert call.tap.down(InputTextFrame) == []
        assert call.tap.down(ClientDisconnectedFrame) == [ClientDisconnectedFrame(1008)]
        await call.finish()

    @virtual_time
    async def test_a_peer_that_stops_reading(self) -> None:
        call = Call(audio_out_write_timeout_secs=3.0, reconnect_grace=0.0).start()
        other = Call(audio_out_write_timeout_secs=3.0).start()
        call.socket.flows.clear()
        started = current_loop().time()
        call.say(60)
        other.say(5, "a")
        assert await call.task.wait() == "client left"
        assert current_loop().time() - started == pytest.approx(3, abs=0.1)
        assert call.socket.aborted >= 1
        await asyncio.sleep(5)
        # No other call notices.
        assert other.played() == [("a", 5000.0, False)]
        await call.finish()
        await other.finish()

    @virtual_time
    async def test_a_socket_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        call = Call().start()
        call.socket.error = OSError("gone")
        call.say(1)
        await asyncio.sleep(LAST_WORDS_SECS)
        await settle()
        assert not call.is_open()
        assert call.tap.down(ClientDisconnectedFrame) == [ClientDisconnectedFrame(1006)]
        assert call.socket.aborted == 1
        assert caplog.messages == ["call c1: can't write to the client: gone"]
        await call.finish()

    @virtual_time
    async def test_a_socket_that_fails_because_its_peer_has_hung_up(self) -> None:
        call = Call().start()
        call.socket.error = OSError("gone")
        call.say(1)
        await settle()
        # Whoever reads the socket learns of it a moment later.
        call.connection.disconnect(1000)
        assert call.tap.down(ClientDisconnectedFrame) == [ClientDisconnectedFrame(1000)]
        await call.finish()

    @pytest.mark.parametrize("how", ["end", "cancel", "disconnect"])
    def test_nothing_keeps_an_ended_call_alive(
        self, how: str, ready: list[Callable[[], object]]
    ) -> None:
        """Neither timers, signals nor tasks; what refers to itself is left to the collector."""
        references: list[weakref.ref[Any]] = []

        @virtual_time
        async def main() -> None:
            call = Call(session_timeout=3600.0, reconnect_grace=0.0).start()
            watch(call)
            call.say(5)
            await call.hear(bytes(640))
            await asyncio.sleep(1)
            if how == "disconnect":
                call.connection.disconnect(1006)
            else:
                getattr(call.task, how)()
            await call.task.wait()
            await call.transport.wait_closed()
            await asyncio.sleep(1)
            assert current_loop().timers() == []
            references.extend([weakref.ref(call.transport), weakref.ref(call.socket)])

        before = {name: len(signal.receivers) for name, signal in EVENTS.items()}
        main()
        ready.clear()
        gc.collect()
        assert [reference() for reference in references] == [None, None]
        assert {name: len(signal.receivers) for name, signal in EVENTS.items()} == before


class TestReconnect:
    @pytest.mark.parametrize(("code", "ends"), [(1000, True), (1001, True), (1005, False)])
    @virtual_time
    async def test_a_client_that_hangs_up_is_not_waited_for(self, code: int, ends: bool) -> None:
        call = Call(reconnect_grace=20.0).start()
        call.connection.disconnect(code)
        assert (call.task.state is TaskState.ENDED) is ends
        await asyncio.sleep(19)
        assert (call.task.state is TaskState.ENDED) is ends
        await asyncio.sleep(2)
        assert call.task.state is TaskState.ENDED
        assert call.task.close_code == code
        assert call.task.reason == ("client left" if ends else "client did not come back")
        await call.finish()

    @virtual_time
    async def test_one_that_comes_back_in_time(self) -> None:
        call = Call(reconnect_grace=20.0).start()
        await call.receive(InputTextFrame("1"))
        call.connection.disconnect(1006)
        await asyncio.sleep(19)
        call.reconnect()
        await call.receive(InputTextFrame("2"))
        await asyncio.sleep(60)
        assert call.task.state is TaskState.RUNNING
        assert call.tap.downstream[1:] == [
            ClientConnectedFrame(resumed=False),
            InputTextFrame("1"),
            ClientDisconnectedFrame(1006),
            ClientConnectedFrame(resumed=True),
            InputTextFrame("2"),
        ]
        await call.finish()

    @virtual_time
    async def test_for_ever_by_default(self) -> None:
        call = Call().start()
        call.connection.disconnect(1006)
        await asyncio.sleep(100_000)
        assert call.task.state is TaskState.RUNNING
        await call.finish()

    @virtual_time
    async def test_no_grace(self) -> None:
        call = Call(reconnect_grace=0.0).start()
        call.connection.disconnect(1006)
        assert call.task.state is TaskState.ENDED
        await call.finish()

    @virtual_time
    async def test_a_newcomer_replaces_the_client(self) -> None:
        call = Call(reconnect_grace=0.0).start()
        seen = watch(call)
        first, first_connection = call.socket, call.connection
        second = call.reconnect()
        await call.transport.wait_closed()
        assert first.closed == [(4001, "replaced by another connection")]
        assert not first_connection.is_open
        assert call.task.state is TaskState.RUNNING
        # The old one's last messages reach nobody.
        call.serializer.frames.append(InputTextFrame("late"))
        await first_connection.receive(str(len(call.serializer.frames) - 1))
        first_connection.disconnect(4001)
        await call.receive(InputTextFrame("new"))
        assert call.tap.down(InputTextFrame) == [InputTextFrame("new")]
        assert call.is_open()
        await settle()
        transport = call.transport
        assert seen == [
            ("on_client_disconnected", transport, first),
            ("on_client_connected", transport, second),
        ]
        await call.finish()


class TestTimeLimits:
    @virtual_time
    async def test_session_timeout(self) -> None:
        call = Call(session_timeout=60.0).start()
        seen = watch(call)
        started = current_loop().time()
        call.say(600)
        assert await call.task.wait() == "session timeout"
        assert current_loop().time() - started == pytest.approx(60)
        await call.transport.wait_closed()
        assert call.socket.closed == [(4000, "session timeout")]
        await settle()
        assert seen == [
            ("on_session_timeout", call.transport, call.socket),
            ("on_client_disconnected", call.transport, call.socket),
        ]
        await call.finish()

    @virtual_time
    async def test_it_counts_from_the_first_client_on(self) -> None:
        call = Call(session_timeout=60.0)
        call.task.start()
        started = current_loop().time()
        await asyncio.sleep(100)
        call.reconnect()
        await asyncio.sleep(40)
        call.connection.disconnect(1006)
        call.reconnect()
        assert await call.task.wait() == "session timeout"
        assert current_loop().time() - started == pytest.approx(160)
        await call.finish()

    @virtual_time
    async def test_the_handlers_may_still_say_something(self) -> None:
        call = Call(session_timeout=60.0).start()

        @call.transport.event_handler("on_session_timeout")
        async def apologize(transport: WebsocketServerTransport, websocket: object) -> None:
            call.say(0.5, "sorry")
            await asyncio.sleep(1)

        await call.task.wait()
        assert call.played() == [("sorry", 500.0, False)]
        await call.finish()

    @virtual_time
    async def test_a_handler_that_never_returns(self) -> None:
        call = Call(session_timeout=60.0).start()
        started = current_loop().time()
        release = asyncio.Event()

        @call.transport.event_handler("on_client_connected")
        async def converse(transport: WebsocketServerTransport, websocket: object) -> None:
            await release.wait()

        call.reconnect()
        assert await call.task.wait() == "session timeout"
        assert current_loop().time() - started < 70
        release.set()
        await call.finish()

    @virtual_time
    async def test_an_ended_call_has_no_timeout(self) -> None:
        call = Call(session_timeout=60.0, reconnect_grace=60.0).start()
        seen = watch(call)
        call.connection.disconnect(1006)
        call.task.end()
        await call.task.wait()
        await asyncio.sleep(1)
        assert current_loop().timers() == []
        assert [event[0] for event in seen] == ["on_client_disconnected"]
        await call.finish()


class TestEvents:
    def test_names(self) -> None:
        transport = WebsocketServerTransport(WebsocketServerParams())
        with pytest.raises(ConfigurationError, match="expected one of the events on_client_conn"):
            transport.event_handler("on_connected")(print)

    @virtual_time
    async def test_of_a_call(self, ready: list[Callable[[], object]]) -> None:
        call = Call()
        seen = watch(call)
        call.start()
        await settle()
        assert seen == [("on_client_connected", call.transport, call.socket)]
        [server_is_ready] = ready
        server_is_ready()
        call.connection.disconnect(1001)
        await settle()
        assert seen[1:] == [
            ("on_websocket_ready", call.transport),
            ("on_client_disconnected", call.transport, call.socket),
        ]
        await call.finish()

    @virtual_time
    async def test_not_ready_any_more(self, ready: list[Callable[[], object]]) -> None:
        call = Call()
        seen = watch(call)
        call.task.start()
        call.task.cancel()
        [server_is_ready] = ready
        server_is_ready()
        await settle()
        assert seen == []
        await call.finish()

    @pytest.mark.parametrize("how", ["bot ends", "client leaves", "client leaves at the end"])
    @virtual_time
    async def test_who_came_also_goes(self, how: str) -> None:
        call = Call(reconnect_grace=0.0)
        seen = watch(call)
        call.start()
        call.say(3)
        if how != "client leaves":
            call.task.end()
        await asyncio.sleep(1)
        if how != "bot ends":
            call.connection.disconnect(1006)
        await call.task.wait()
        await settle()
        assert [event[0] for event in seen] == ["on_client_connected", "on_client_disconnected"]
        await call.finish()

    @virtual_time
    async def test_a_handler_may_use_the_transport(self) -> None:
        call = Call()

        @call.transport.event_handler("on_client_connected")
        def refuse(transport: WebsocketServerTransport, websocket: object) -> None:
            transport.drop_client(1008, "not today")

        call.start()
        await settle()
        await call.transport.wait_closed()
        assert call.socket.closed == [(1008, "not today")]
        await call.finish()


def test_names_of_the_ends() -> None:
    params = WebsocketServerParams()
    transport = WebsocketServerTransport(params, input_name="ears", output_name="mouth")
    assert (transport.input().name, transport.output().name) == ("ears", "mouth")
    assert (transport.host, transport.port) == ("localhost", 8765)
