from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.fakes import Tap, current_loop, settle, virtual_time
from voicews.frames import (
    CancelFrame,
    EndFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.serializers import PCMSerializer
from voicews.transports import ChannelsWebsocketParams, ChannelsWebsocketTransport
from voicews.transports.base import TransportState
from voicews.transports.channels import ConsumerSocket


class FakeConsumer:
    """What a transport needs of an `AsyncWebsocketConsumer`."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []
        self.closed: list[tuple[int, str]] = []
        self.aborted = 0

    async def base_send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.closed.append((message["code"], message["reason"]))
        else:
            self.sent.append(message)

    def abort(self) -> None:
        self.aborted += 1


class Call:
    def __init__(self, *processors: FrameProcessor, **options: Any) -> None:
        self.consumer = FakeConsumer()
        defaults = {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_auto_silence": False,
            "audio_out_end_silence_secs": 0.0,
            "serializer": PCMSerializer(),
        }
        params = ChannelsWebsocketParams(**{**defaults, **options})
        self.transport = ChannelsWebsocketTransport(cast("Any", self.consumer), params)
        self.tap = Tap()
        self.task = PipelineTask(
            Pipeline([self.transport.input(), *processors, self.tap, self.transport.output()])
        )

    async def finish(self) -> None:
        self.task.cancel()
        await self.task.wait()
        await self.transport.wait_closed()
        await asyncio.sleep(1)
        assert current_loop().timers() == []


@virtual_time
async def test_a_consumers_whole_life() -> None:
    call = Call()
    # What comes before the pipeline has started has nowhere to go.
    await call.transport.receive(b"ab")
    call.transport.disconnect(1006)
    call.task.start()
    await call.transport.receive(b"abcd")
    assert call.tap.down(InputAudioRawFrame) == [InputAudioRawFrame(b"abcd", 16000, 1)]
    call.tap.push_frame(OutputAudioRawFrame(b"efgh", 16000))
    call.tap.push_frame(OutputTransportMessageUrgentFrame({"a": 1}))
    await settle()
    assert call.consumer.sent == [
        {"type": "websocket.send", "text": '{"a": 1}'},
        {"type": "websocket.send", "bytes": b"efgh"},
    ]
    call.transport.disconnect(1001)
    assert await call.task.wait() == "client left"
    assert call.task.close_code == 1001
    await call.transport.receive(b"late")
    assert call.consumer.closed == []
    await call.finish()


@pytest.mark.parametrize("at_once", [False, True])
@virtual_time
async def test_the_bot_ends_the_call(at_once: bool) -> None:
    call = Call()
    call.task.start()
    (call.task.cancel if at_once else call.task.end)("bye", 1000)
    await call.task.wait()
    await call.transport.wait_closed()
    assert call.consumer.closed == [(1000, "bye")]
    # The client that goes with the call does not cancel what has ended.
    ends = [frame for frame in call.tap.downstream if isinstance(frame, EndFrame | CancelFrame)]
    assert ends == [CancelFrame("bye") if at_once else EndFrame("bye")]
    call.transport.disconnect(1000)
    await call.finish()
    assert call.consumer.aborted == 1


@virtual_time
async def test_the_client_leaves_while_the_bot_says_goodbye() -> None:
    call = Call()
    call.task.start()
    call.tap.push_frame(OutputAudioRawFrame(bytes(32000), 16000))
    call.task.end("bye")
    await asyncio.sleep(0.5)
    call.transport.disconnect(1006)
    assert await call.task.wait() == "bye"
    assert len(call.tap.down(CancelFrame)) + len(call.tap.down(EndFrame)) == 1
    await call.finish()


@virtual_time
async def test_another_grace_makes_no_difference() -> None:
    call = Call(reconnect_grace=60.0)
    call.task.start()
    call.transport.disconnect(1006)
    assert await call.task.wait() == "client left"
    await call.finish()


@virtual_time
async def test_a_pipeline_that_cannot_start_closes_the_socket() -> None:
    class NoModel(FrameProcessor):
        def process_frame(self, frame: Any, direction: Any) -> None:
            if isinstance(frame, StartFrame):
                self.push_error("no model", fatal=True)
            self.push_frame(frame, direction)

    call = Call(NoModel())
    call.task.start()
    await call.task.wait()
    await call.transport.wait_closed()
    assert call.transport.state is TransportState.CLOSED
    assert call.consumer.closed == [(1011, "error")]
    await call.finish()


@virtual_time
async def test_events_show_the_consumer() -> None:
    call = Call()
    seen: list[tuple[str, object]] = []

    @call.transport.event_handler("on_client_connected")
    def connected(transport: ChannelsWebsocketTransport, websocket: object) -> None:
        seen.append(("connected", websocket))

    @call.transport.event_handler("on_client_disconnected")
    async def disconnected(transport: ChannelsWebsocketTransport, websocket: object) -> None:
        seen.append(("disconnected", websocket))

    call.task.start()
    call.transport.disconnect(1006)
    await call.task.wait()
    await settle()
    assert seen == [("connected", call.consumer), ("disconnected", call.consumer)]
    await call.finish()


@virtual_time
async def test_a_consumer_of_somebody_elses_that_cannot_abort() -> None:
    class Plain:
        scope: dict[str, Any] = {}

        async def base_send(self, message: dict[str, Any]) -> None: ...

    ConsumerSocket(cast("Any", Plain())).abort()
