"""Ends of a transport whose methods are overridden and wait, and serializers that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.fakes import FrameListSerializer, Tap, settle, virtual_time
from tests.polling import until
from tests.transports.calls import Call
from tests.transports.test_client import Call as ClientCall
from tests.transports.test_client import audio_frame, serving, silent
from voicews.audio.wav import is_wav
from voicews.exceptions import ConfigurationError, InvalidMessage, InvalidState
from voicews.frames import (
    ClientConnectedFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputTextFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    TextFrame,
)
from voicews.pipeline import Pipeline, PipelineTask
from voicews.pipeline.task_manager import TaskManager
from voicews.serializers import PCMSerializer
from voicews.serializers import frames_pb2 as pb
from voicews.transports import (
    WebsocketClientInputTransport,
    WebsocketClientOutputTransport,
    WebsocketClientParams,
    WebsocketServerInputTransport,
    WebsocketServerOutputTransport,
)

# --- serializers that wait ----------------------------------------------------------------------


class Waiting(FrameListSerializer):
    """Takes the longer, the earlier a message comes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.came = 10, 10
        self.is_set_up = False

    async def setup(self, frame: StartFrame) -> None:  # type: ignore[override]
        await asyncio.sleep(0.5)
        self.is_set_up = True

    async def serialize(self, frame: Frame) -> str | bytes | None:  # type: ignore[override]
        assert self.is_set_up
        self.left -= 1
        await asyncio.sleep(self.left / 100)
        if frame == TextFrame("bad"):
            raise ValueError("secret")
        return super().serialize(frame)

    async def deserialize(self, data: str | bytes) -> Frame | None:  # type: ignore[override]
        assert self.is_set_up
        self.came -= 1
        await asyncio.sleep(self.came / 100)
        if data == "bad":
            raise InvalidMessage("expected a number")
        return super().deserialize(data)


@virtual_time
async def test_messages_of_a_serializer_that_waits_keep_their_order_both_ways() -> None:
    call = Call(serializer=Waiting()).start()
    texts = [InputTextFrame(str(n)) for n in range(5)]
    await call.receive(*texts)
    for n in range(3):
        call.tap.push_frame(TextFrame(str(n)))
    call.say(0.04)
    call.tap.push_frame(OutputTransportMessageUrgentFrame({"n": 3}))
    assert call.tap.down(ClientConnectedFrame) == []
    await asyncio.sleep(3)
    assert call.tap.down(InputTextFrame) == texts
    assert len(call.tap.down(ClientConnectedFrame)) == 1
    kinds = [type(frame) for frame in call.received(Frame)]
    kinds.remove(ClientConnectedFrame)
    assert kinds == [
        *[TextFrame] * 3,
        OutputAudioRawFrame,
        OutputTransportMessageUrgentFrame,
    ]
    await call.finish()


@virtual_time
async def test_what_a_waiting_serializer_refuses_costs_nothing_else() -> None:
    call = Call(serializer=Waiting()).start()
    await call.connection.receive("bad")
    await call.receive(InputTextFrame("good"))
    call.tap.push_frame(TextFrame("bad"))
    call.tap.push_frame(TextFrame("good"))
    await asyncio.sleep(3)
    assert call.transport.invalid_messages == 1
    assert call.tap.down(InputTextFrame) == [InputTextFrame("good")]
    assert call.received(TextFrame) == [TextFrame("good")]
    with pytest.raises(InvalidMessage):
        await call.transport.check_message("bad")
    await call.finish()


@virtual_time
async def test_the_last_words_of_a_call_wait_for_the_serializer() -> None:
    call = Call(serializer=Waiting()).start()
    await asyncio.sleep(1)
    call.tap.push_frame(TextFrame("bye"))
    call.task.end()
    await call.task.wait()
    await call.transport.wait_closed()
    assert call.received(TextFrame) == [TextFrame("bye")]
    await call.finish()


@virtual_time
async def test_a_client_that_was_replaced_says_nothing_any_more() -> None:
    call = Call(serializer=Waiting()).start()
    await asyncio.sleep(1)
    await call.receive(InputTextFrame("late"))
    call.reconnect()
    await call.receive(InputTextFrame("new"))
    await asyncio.sleep(1)
    assert call.tap.down(InputTextFrame) == [InputTextFrame("new")]
    await call.finish()


# --- the ends of the client transport -----------------------------------------------------------


def piped(call: ClientCall) -> None:
    """The pipeline once more, with the ends that the transport has now."""
    call.tap = Tap()
    call.task = PipelineTask(Pipeline([call.transport.input(), call.tap, call.transport.output()]))


async def test_the_ends_by_hand() -> None:
    got: list[bytes | str] = []

    async def server(websocket: ServerConnection) -> None:
        got.extend([message async for message in websocket])

    async with serving(server) as uri:
        call = ClientCall(uri)
        source, output = call.transport.input(), call.transport.output()
        assert isinstance(source, WebsocketClientInputTransport)
        assert isinstance(output, WebsocketClientOutputTransport)
        audio = OutputAudioRawFrame(bytes(640), 16000)
        assert await output.write_audio_frame(audio) is False
        call.task.start()
        await until(lambda: call.names() == ["on_connected"])
        assert await output.write_audio_frame(audio) is True
        await output.send_message(OutputTransportMessageFrame({"n": 1}))
        await source.on_message(call.events[0][1], audio_frame(bytes(640)))
        assert [frame.audio for frame in call.tap.down(InputAudioRawFrame)] == [bytes(640)]
        call.task.end()
        await call.ended()
        assert await output.write_audio_frame(audio) is False
        assert not call.transport.session.is_connected
    frames = [pb.Frame.FromString(data) for data in got if isinstance(data, bytes)]
    assert [frame.WhichOneof("frame") for frame in frames] == ["audio", "message"]
    assert is_wav(frames[0].audio.audio)


class MyInput(WebsocketClientInputTransport):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []

    async def setup(self, setup: Any) -> None:
        self.seen.append("setup")
        await super().setup(setup)

    async def start(self, frame: StartFrame) -> None:
        await asyncio.sleep(0.05)
        self.seen.append("start")
        await super().start(frame)

    async def on_message(self, websocket: object, message: str | bytes) -> None:
        self.seen.append("message")
        await asyncio.sleep(0.01)
        await super().on_message(websocket, message)

    async def stop(self, frame: EndFrame) -> None:
        self.seen.append("stop")
        await asyncio.sleep(0.05)
        await super().stop(frame)

    async def cleanup(self) -> None:
        self.seen.append("cleanup")
        await super().cleanup()


class MyOutput(WebsocketClientOutputTransport):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.written: list[bool] = []

    async def start(self, frame: StartFrame) -> None:
        await asyncio.sleep(0.05)
        await super().start(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await asyncio.sleep(0.02)
        self.written.append(await super().write_audio_frame(frame))
        return self.written[-1]

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        frame.message["signed"] = True
        await super().send_message(frame)


async def test_overridden_methods_are_what_the_transport_calls() -> None:
    got: list[bytes | str] = []

    async def server(websocket: ServerConnection) -> None:
        for _ in range(3):
            await websocket.send(audio_frame(bytes(640)))
        got.extend([message async for message in websocket])

    async with serving(server) as uri:
        call = ClientCall(uri)
        transport = call.transport
        source = MyInput(transport, transport.session, params_of(call))
        output = MyOutput(transport, transport.session, params_of(call))
        assert transport.input() is source
        assert transport.output() is output
        piped(call)
        call.task.start()
        # Said before the ends have started: it waits for that, in order.
        call.tap.push_frame(OutputAudioRawFrame(bytes(3840), 24000))
        call.tap.push_frame(OutputTransportMessageFrame({"n": 1}))
        await until(lambda: len(call.tap.down(InputAudioRawFrame)) == 3)
        call.task.end()
        await call.ended()
    assert source.seen == ["start", "setup", *["message"] * 3, "stop", "cleanup"]
    assert output.written == [True, True]
    frames = [pb.Frame.FromString(data) for data in got if isinstance(data, bytes)]
    assert [frame.WhichOneof("frame") for frame in frames] == ["audio", "audio", "message"]
    assert '"signed": true' in frames[-1].message.data


def params_of(call: ClientCall) -> WebsocketClientParams:
    params = call.transport.params
    assert isinstance(params, WebsocketClientParams)
    return params


async def test_a_cancel_ends_methods_that_never_return(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(WebsocketClientOutputTransport):
        async def stop(self, frame: EndFrame) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("voicews.transports.ends.LAST_METHODS_SECS", 0.1)
    async with serving(silent) as uri:
        call = ClientCall(uri)
        Stuck(call.transport, call.transport.session, params_of(call))
        piped(call)
        call.task.start()
        await until(lambda: call.names() == ["on_connected"])
        call.task.end()
        await asyncio.sleep(0.05)
        call.task.cancel()
        await call.ended()
        assert not call.transport.session.is_connected


async def test_ends_can_t_be_changed_once_the_pipeline_has_started() -> None:
    async with serving(silent) as uri:
        call = ClientCall(uri)
        other = WebsocketClientParams(serializer=PCMSerializer())
        with pytest.raises(ConfigurationError, match="serializer"):
            MyInput(call.transport, call.transport.session, other)
        call.task.start()
        with pytest.raises(InvalidState, match="has not started"):
            MyInput(call.transport, call.transport.session, params_of(call))
        call.task.cancel()
        await call.ended()


async def test_the_session_s_tasks_are_made_by_its_task_manager() -> None:
    async with serving(silent) as uri:
        call = ClientCall(uri)
        session = call.transport.session
        with pytest.raises(InvalidState, match="set up"):
            _ = session.task_manager
        manager = TaskManager()
        await session.setup(manager)
        await session.setup(TaskManager())
        assert session.task_manager is manager
        call.task.start()
        await until(lambda: call.names() == ["on_connected"])
        assert [task.get_name() for task in manager.current_tasks()] == [
            "WebsocketClientTransport: read"
        ]
        call.task.cancel()
        await call.ended()
        await until(lambda: manager.current_tasks() == [])


async def test_a_task_manager_cancels_and_waits() -> None:
    manager = TaskManager()
    task = manager.create_task(asyncio.Event().wait(), "waits")
    assert task.get_name() == "waits"
    await manager.cancel_task(task)
    assert task.cancelled()
    assert manager.current_tasks() == []


@virtual_time
async def test_ends_that_override_nothing_wait_for_nothing() -> None:
    call = Call().start()
    await settle()
    call.tap.push_frame(InterruptionFrame())
    call.say(0.04)
    assert call.transport._output._leaving is None
    assert call.transport._output._lane is None
    assert call.transport._serializer_queues is None
    await call.finish()


@virtual_time
async def test_the_ends_of_the_server_transport() -> None:
    class Source(WebsocketServerInputTransport):
        async def start(self, frame: StartFrame) -> None:
            await asyncio.sleep(0.5)
            await super().start(frame)

    class Output(WebsocketServerOutputTransport):
        async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
            await asyncio.sleep(0.01)
            written.append(await super().write_audio_frame(frame))
            return written[-1]

    written: list[bool] = []
    call = Call()
    assert isinstance(call.transport.input(), WebsocketServerInputTransport)
    assert isinstance(call.transport.output(), WebsocketServerOutputTransport)
    source, output = Source(call.transport, call.params), Output(call.transport, call.params)
    assert call.transport.input() is source
    assert call.transport.output() is output
    call.task = PipelineTask(Pipeline([source, call.tap, output, call.after]))
    call.start()
    assert call.tap.down(StartFrame) == []
    await asyncio.sleep(1)
    assert len(call.tap.down(StartFrame)) == 1
    call.say(0.08)
    await asyncio.sleep(1)
    assert written == [True, True]
    assert call.secs() == 0.08
    with pytest.raises(InvalidState, match="has not started"):
        Output(call.transport, call.params)
    await call.finish()
