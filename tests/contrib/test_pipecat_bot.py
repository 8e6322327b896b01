"""A Pipecat pipeline between our processors, without a socket."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any, allow-untyped-decorators, disable-error-code=import-untyped

import asyncio
import time
from collections.abc import Callable
from typing import Any

from pipecat.frames import frames as pipecat
from pipecat.pipeline.pipeline import Pipeline as PipecatPipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor as PipecatProcessor

from voicews import frames as ours
from voicews.close_codes import CloseCode
from voicews.contrib.pipecat import PipecatBot, VoicewsTransport, bot
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask

TIMEOUT_SECS = 10.0
PCM_20_MS = bytes(640)


class Recorder(PipecatProcessor):
    """Keeps what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Any] = []

    async def process_frame(self, frame: Any, direction: Any) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        await self.push_frame(frame, direction)

    def kinds(self) -> list[str]:
        return [type(frame).__name__ for frame in self.frames]


class Sink(FrameProcessor):
    """Where our output would be."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[ours.Frame] = []

    def process_frame(self, frame: ours.Frame, direction: ours.Direction) -> None:
        self.frames.append(frame)
        self.push_frame(frame, direction)

    def heard_secs(self) -> float:
        return sum(
            frame.duration_secs
            for frame in self.frames
            if isinstance(frame, ours.OutputAudioRawFrame)
        )


class Recording(PipecatBot):
    """A pipeline that records on both sides of the output."""

    in_rate = 16000

    async def run(self, transport: VoicewsTransport) -> None:
        self.before, self.after = Recorder(), Recorder()
        self.worker = PipelineWorker(
            PipecatPipeline([transport.input(), self.before, transport.output(), self.after]),
            params=PipelineParams(audio_in_sample_rate=self.in_rate),
        )
        await self.run_workers(self.worker)


class Stubborn(PipecatBot):
    """Doesn't end when it is asked to."""

    cancelled = False

    async def run(self, transport: VoicewsTransport) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Ends:
    """The two ends of a transport, without a socket."""

    def __init__(self) -> None:
        self.source, self.sink = FrameProcessor(), Sink()
        self.handlers: dict[str, Callable[..., None]] = {}
        self.params = PipecatBot().transport_params()

    def input(self) -> FrameProcessor:
        return self.source

    def output(self) -> Sink:
        return self.sink

    def event_handler(self, name: str) -> Callable[..., None]:
        def connect(handler: Callable[..., None]) -> None:
            self.handlers[name] = handler

        return connect


class Call:
    """One call of a bot."""

    def __init__(self, pipecat_bot: PipecatBot) -> None:
        self.ends = Ends()
        transport: Any = self.ends
        pipeline: Pipeline = pipecat_bot.build_pipeline(transport, lambda: {"voicews": {"a": 1}})
        self.task = PipelineTask(pipeline, call_id="test")
        self.sink = self.ends.sink
        self.task.start()

    def connect(self) -> None:
        self.ends.handlers["on_client_connected"](self.ends, "a socket")
        self.send(ours.ClientConnectedFrame())

    def send(self, *frames: ours.Frame) -> None:
        for frame in frames:
            self.task.queue_frame(frame)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def test_a_phone_caller_who_hangs_up_has_left() -> None:
    # Providers say so in a message, and the end of the call comes before that of the socket.
    heard: list[str] = []

    class Leaving(Recording):
        async def run(self, transport: VoicewsTransport) -> None:
            @transport.event_handler("on_client_disconnected")
            async def on_client_disconnected(_transport: Any, websocket: Any) -> None:
                heard.append(websocket)
                await self.worker.cancel()

            await super().run(transport)

    pipecat_bot = Leaving()
    call = Call(pipecat_bot)
    call.connect()
    await until(lambda: hasattr(pipecat_bot, "before"))
    await until(lambda: "StartFrame" in pipecat_bot.after.kinds())
    request = ours.EndRequestFrame("the caller has left", CloseCode.GOING_AWAY, at_once=True)
    call.ends.source.push_frame(request, ours.Direction.UPSTREAM)
    await call.task.wait()
    assert heard == ["a socket"]


async def test_a_call_that_the_bot_ends_is_not_left_by_its_client() -> None:
    heard: list[str] = []

    class Ending(Recording):
        async def run(self, transport: VoicewsTransport) -> None:
            transport.add_event_handler(
                "on_client_disconnected", lambda *_: heard.append("disconnected")
            )
            await super().run(transport)

    pipecat_bot = Ending()
    call = Call(pipecat_bot)
    call.connect()
    await until(lambda: hasattr(pipecat_bot, "before"))
    await until(lambda: "StartFrame" in pipecat_bot.after.kinds())
    for at_once in (False, True):
        request = ours.EndRequestFrame("that is all", CloseCode.NORMAL, at_once=at_once)
        call.ends.source.push_frame(request, ours.Direction.UPSTREAM)
    await call.task.wait()
    assert heard == []


async def recording(**attributes: Any) -> tuple[Recording, Call]:
    pipecat_bot = Recording()
    for name, value in attributes.items():
        setattr(pipecat_bot, name, value)
    call = Call(pipecat_bot)
    call.connect()
    await until(lambda: hasattr(pipecat_bot, "before"))
    await until(lambda: "ClientConnectedFrame" in pipecat_bot.before.kinds())
    return pipecat_bot, call


async def test_what_the_client_does_reaches_the_pipeline_in_order() -> None:
    pipecat_bot, call = await recording()
    call.send(
        ours.InputAudioRawFrame(PCM_20_MS, 16000),
        ours.InputDTMFFrame("5"),
        ours.InputDTMFFrame("A"),
        ours.InputTextFrame("typed"),
        ours.InputTransportMessageFrame({"label": "mine"}),
        ours.UserStartedSpeakingFrame(0.0, 0.25),
        ours.InterruptionFrame(),
    )
    await until(lambda: "InterruptionFrame" in pipecat_bot.before.kinds())
    frames = {type(frame).__name__: frame for frame in pipecat_bot.before.frames}
    assert frames["InputAudioRawFrame"].audio == PCM_20_MS
    assert [
        frame.button.value
        for frame in pipecat_bot.before.frames
        if isinstance(frame, pipecat.InputDTMFFrame)
    ] == ["5"]
    assert frames["TextFrame"].text == "typed"
    assert frames["InputTransportMessageFrame"].message == {"label": "mine"}
    assert frames["VADUserStartedSpeakingFrame"].start_secs == 0.25
    call.task.cancel()
    await call.task.wait()


async def test_audio_is_converted_to_the_pipelines_rate() -> None:
    pipecat_bot, call = await recording(in_rate=8000)
    call.send(*[ours.InputAudioRawFrame(PCM_20_MS, 16000)] * 50)
    await until(lambda: pipecat_bot.before.kinds().count("InputAudioRawFrame") == 50)
    audio = [
        frame
        for frame in pipecat_bot.before.frames
        if isinstance(frame, pipecat.InputAudioRawFrame)
    ]
    assert {frame.sample_rate for frame in audio} == {8000}
    assert abs(sum(len(frame.audio) for frame in audio) - 16000) < 64
    call.task.cancel()
    await call.task.wait()


async def test_output_takes_as_long_as_it_is_heard() -> None:
    pipecat_bot, call = await recording()
    began = time.monotonic()
    pcm = bytes(24000 * 2)
    await pipecat_bot.worker.queue_frames(
        [
            pipecat.TTSStartedFrame(),
            pipecat.TTSAudioRawFrame(audio=pcm, sample_rate=24000, num_channels=1),
            pipecat.TTSStoppedFrame(),
        ]
    )
    await until(lambda: "BotStartedSpeakingFrame" in pipecat_bot.after.kinds())
    lead_secs = call.ends.params.audio_out_lead_secs
    assert call.sink.heard_secs() < time.monotonic() - began + lead_secs + 0.1
    await until(lambda: "BotStoppedSpeakingFrame" in pipecat_bot.after.kinds())
    assert time.monotonic() - began > 0.95
    assert abs(call.sink.heard_secs() - 1.0) < 0.05
    call.task.cancel()
    await call.task.wait()


async def test_after_an_interruption_nothing_of_what_waited_is_sent() -> None:
    pipecat_bot, call = await recording()
    await pipecat_bot.worker.queue_frame(
        pipecat.TTSAudioRawFrame(audio=bytes(24000 * 2 * 5), sample_rate=24000, num_channels=1)
    )
    await until(lambda: call.sink.heard_secs() > 0)
    await pipecat_bot.worker.rtvi.interrupt_bot()
    await until(lambda: any(isinstance(f, ours.InterruptionFrame) for f in call.sink.frames))
    heard_secs = call.sink.heard_secs()
    await until(lambda: "BotStoppedSpeakingFrame" in pipecat_bot.after.kinds())
    await asyncio.sleep(0.2)
    assert call.sink.heard_secs() == heard_secs
    call.task.cancel()
    await call.task.wait()


async def test_while_the_client_is_away_nothing_is_played() -> None:
    pipecat_bot, call = await recording()
    call.send(ours.ClientDisconnectedFrame())
    await pipecat_bot.worker.queue_frame(
        pipecat.TTSAudioRawFrame(audio=bytes(24000), sample_rate=24000, num_channels=1)
    )
    await asyncio.sleep(0.2)
    assert call.sink.heard_secs() == 0
    call.send(ours.ClientConnectedFrame(resumed=True))
    await until(lambda: call.sink.heard_secs() > 0.4)
    call.task.cancel()
    await call.task.wait()


async def test_an_orderly_end_waits_for_the_pipelines() -> None:
    pipecat_bot, call = await recording()
    await pipecat_bot.worker.queue_frame(
        pipecat.TTSAudioRawFrame(audio=bytes(24000), sample_rate=24000, num_channels=1)
    )
    await until(lambda: call.sink.heard_secs() > 0)
    call.task.end("enough")
    assert await call.task.wait() == "enough"
    assert call.sink.heard_secs() > 0.4
    assert isinstance(call.sink.frames[-1], ours.EndFrame)
    assert "EndFrame" in pipecat_bot.after.kinds()


async def test_an_orderly_end_plays_nothing_to_nobody() -> None:
    pipecat_bot, call = await recording()
    call.send(ours.ClientDisconnectedFrame())
    await pipecat_bot.worker.queue_frame(
        pipecat.TTSAudioRawFrame(audio=bytes(24000 * 20), sample_rate=24000, num_channels=1)
    )
    async with asyncio.timeout(5):
        call.task.end("nobody is there")
        await call.task.wait()
    assert call.sink.heard_secs() == 0


async def test_messages_keep_their_urgency_and_bot_ready_gets_our_extension() -> None:
    pipecat_bot, call = await recording()
    ready = {"label": "rtvi-ai", "type": "bot-ready", "id": "1", "data": {"version": "2.0.0"}}
    await pipecat_bot.worker.queue_frames(
        [
            pipecat.OutputTransportMessageUrgentFrame(message=ready),
            pipecat.OutputTransportMessageFrame(message={"later": 1}),
        ]
    )
    await until(
        lambda: any(isinstance(f, ours.OutputTransportMessageFrame) for f in call.sink.frames)
    )
    urgent = [
        f.message for f in call.sink.frames if isinstance(f, ours.OutputTransportMessageUrgentFrame)
    ]
    assert urgent == [{**ready, "data": {"version": "2.0.0", "voicews": {"a": 1}}}]
    call.task.cancel()
    await call.task.wait()


async def test_keys_are_pressed_by_our_transport() -> None:
    pipecat_bot, call = await recording()
    await pipecat_bot.worker.queue_frame(pipecat.OutputDTMFFrame.from_string("12#"))
    await until(lambda: ours.OutputDTMFFrame("12#") in call.sink.frames)
    assert call.sink.heard_secs() == 0
    call.task.cancel()
    await call.task.wait()


async def test_the_session_timeout_is_an_event() -> None:
    pipecat_bot, call = await recording()
    assert pipecat_bot._transport is not None
    heard: list[object] = []
    pipecat_bot._transport.add_event_handler(
        "on_session_timeout", lambda transport, websocket: heard.append(websocket)
    )
    call.ends.handlers["on_session_timeout"](call.ends, "a socket")
    await until(lambda: heard == ["a socket"])
    call.task.cancel()
    await call.task.wait()


async def test_one_that_does_not_end_is_cancelled(monkeypatch: Any) -> None:
    monkeypatch.setattr(bot, "STOP_TIMEOUT_SECS", 0.1)
    stubborn = Stubborn()
    call = Call(stubborn)
    await asyncio.sleep(0.05)
    call.task.cancel("enough")
    assert await call.task.wait() == "enough"
    assert stubborn.cancelled
