from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.fakes import Tap, settle, virtual_time
from voicews.frames import (
    CancelFrame,
    ClientMessageFrame,
    ControlFrame,
    Direction,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TextFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, QueuedProcessor

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM


class Failing(FrameProcessor):
    def process_frame(self, frame: Frame, direction: Direction) -> None:
        raise ValueError("secret detail")


class Chain:
    """Processors between two taps, all of a call named c1."""

    def __init__(self, *processors: FrameProcessor) -> None:
        self.first, self.last = Tap("first"), Tap("last")
        for processor in Pipeline([self.first, *processors, self.last]).processors:
            processor.call_id = "c1"

    def down(self, *frames: Frame) -> None:
        for frame in frames:
            self.first.push_frame(frame)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the limit on log lines goes by."""
    now = [100.0]
    monkeypatch.setattr("voicews.pipeline.processor.time.monotonic", lambda: now[0])
    return now


class TestFrameProcessor:
    def test_by_default_everything_passes(self) -> None:
        chain = Chain(FrameProcessor())
        chain.down(TextFrame("1"), EndFrame())
        chain.last.push_frame(TextFrame("2"), UP)
        assert chain.last.downstream == [TextFrame("1"), EndFrame()]
        assert chain.first.upstream == [TextFrame("2")]

    def test_beyond_the_ends_is_nobody(self) -> None:
        FrameProcessor().broadcast_frame(EndFrame())

    def test_broadcast(self) -> None:
        middle = FrameProcessor()
        chain = Chain(middle)
        middle.broadcast_frame(TextFrame("news"))
        assert chain.last.downstream == [TextFrame("news")]
        assert chain.first.upstream == [TextFrame("news")]

    def test_name(self) -> None:
        assert FrameProcessor(name="mine").name == "mine"
        assert Failing().name == "Failing"


class TestFailing:
    def test_an_error_frame_goes_upstream_without_detail(self, clock: list[float]) -> None:
        chain = Chain(Failing())
        chain.down(TextFrame("hi"))
        assert chain.first.upstream == [ErrorFrame("Failing failed", False, "Failing")]
        assert chain.last.downstream == []

    @pytest.mark.parametrize(
        "frame", [StartFrame(), EndFrame(), CancelFrame(), InterruptionFrame()]
    )
    def test_what_concerns_everybody_gets_through(self, frame: Frame, clock: list[float]) -> None:
        chain = Chain(Failing(), Failing())
        chain.down(frame)
        assert chain.last.downstream == [frame]

    def test_the_one_who_pushes_goes_on(self, clock: list[float]) -> None:
        chain = Chain(FrameProcessor(), Failing())
        chain.down(TextFrame("1"), EndFrame())
        assert chain.last.downstream == [EndFrame()]

    def test_one_log_line_a_second(
        self, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        chain = Chain(Failing())
        for _ in range(40):
            chain.down(TextFrame("hi"))
            clock[0] += 0.125
        assert len(caplog.records) == 5
        assert caplog.messages[0] == "call c1: Failing failed on TextFrame"
        assert caplog.messages[1] == "call c1: Failing failed on TextFrame (7 more like it)"
        assert len(chain.first.up(ErrorFrame)) == 5

    def test_processors_are_limited_apart(
        self, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        chain = Chain(Failing(name="a"), Failing(name="b"))
        chain.down(StartFrame())
        assert caplog.messages[:2] == [
            "call c1: a failed on StartFrame",
            "call c1: b failed on StartFrame",
        ]

    def test_upstream(self, clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
        chain = Chain(Failing())
        chain.last.push_frame(TextFrame("hi"), UP)
        assert caplog.messages == ["call c1: Failing failed on TextFrame"]

    def test_a_failing_error_handler_does_not_go_round_in_circles(
        self, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        chain = Chain(Failing(name="handler"), Failing(name="other"))
        chain.down(StartFrame())
        # `other` reports upstream to `handler`, which fails on that too.
        assert len(caplog.records) == 3
        assert caplog.messages[-1] == "call c1: handler failed on an error"

    @virtual_time
    async def test_a_cancelled_task_is_not_a_failure(self) -> None:
        class Cancelled(FrameProcessor):
            def process_frame(self, frame: Frame, direction: Direction) -> None:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            Chain(Cancelled()).down(TextFrame("hi"))


class Slow(QueuedProcessor):
    """Takes a second for each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Frame] = []
        self.cancelled: list[Frame] = []

    async def handle_frame(self, frame: Frame, direction: Direction) -> None:
        self.begun.append(frame)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cancelled.append(frame)
            raise
        self.push_frame(frame, direction)


class Handler(QueuedProcessor):
    def __init__(self, handle: Callable[[Frame], Awaitable[None]]) -> None:
        super().__init__(name="handler")
        self.handle = handle

    async def handle_frame(self, frame: Frame, direction: Direction) -> None:
        await self.handle(frame)
        self.push_frame(frame, direction)


AUDIO_IN = InputAudioRawFrame(bytes(640), 16000)


class TestQueuedProcessor:
    @virtual_time
    async def test_keeps_order_in_both_directions(self) -> None:
        slow = Slow()
        chain = Chain(slow)
        frames = [TextFrame("1"), AUDIO_IN, TextFrame("2"), EndFrame()]
        chain.down(*frames)
        chain.last.push_frame(InputTextFrame("up"), UP)
        assert chain.last.downstream == []
        await asyncio.sleep(3.5)
        assert chain.last.downstream == frames[:3]
        await asyncio.sleep(2)
        assert chain.last.downstream == frames
        assert chain.first.upstream == [InputTextFrame("up")]

    @virtual_time
    async def test_system_frames_overtake(self) -> None:
        chain = Chain(Slow())
        chain.down(TextFrame("1"), ErrorFrame("x"), EndFrame())
        assert chain.last.downstream == [ErrorFrame("x")]
        await asyncio.sleep(3)

    @virtual_time
    async def test_system_frames_have_a_handler_of_their_own(self) -> None:
        class Deaf(QueuedProcessor):
            def handle_system_frame(self, frame: SystemFrame, direction: Direction) -> None:
                pass

        chain = Chain(Deaf())
        chain.down(ErrorFrame("x"), TextFrame("1"))
        await settle()
        assert chain.last.downstream == [TextFrame("1")]

    @virtual_time
    async def test_interruption_drops_what_the_bot_says_only(self) -> None:
        slow = Slow()
        chain = Chain(slow)
        chain.down(TextFrame("1"), TextFrame("2"), AUDIO_IN, TextFrame("3"), EndFrame())
        await settle()
        chain.down(InterruptionFrame())
        assert chain.last.downstream == [InterruptionFrame()]
        await asyncio.sleep(5)
        assert slow.cancelled == [TextFrame("1")]
        assert slow.begun == [TextFrame("1"), AUDIO_IN, EndFrame()]
        assert chain.last.downstream == [InterruptionFrame(), AUDIO_IN, EndFrame()]

    @pytest.mark.parametrize("frame", [TranscriptionFrame("hi"), EndFrame(), AUDIO_IN])
    @virtual_time
    async def test_interruption_lets_other_work_end(self, frame: Frame) -> None:
        slow = Slow()
        chain = Chain(slow)
        chain.down(frame)
        await settle()
        chain.down(InterruptionFrame())
        await asyncio.sleep(2)
        assert slow.cancelled == []
        assert chain.last.downstream == [InterruptionFrame(), frame]

    @virtual_time
    async def test_interruption_before_a_handler_began(self) -> None:
        slow = Slow()
        chain = Chain(slow)
        chain.down(TextFrame("1"), InterruptionFrame(), TextFrame("2"))
        await asyncio.sleep(3)
        assert slow.begun == [TextFrame("2")]

    @virtual_time
    async def test_cancel_stops_everything(self) -> None:
        slow = Slow()
        chain = Chain(slow)
        chain.down(AUDIO_IN, AUDIO_IN, EndFrame())
        await settle()
        chain.down(CancelFrame(), AUDIO_IN)
        await asyncio.sleep(9)
        assert slow.begun == slow.cancelled == [AUDIO_IN]
        assert chain.last.downstream == [CancelFrame()]

    @virtual_time
    async def test_a_failing_handler_is_reported_and_the_next_frame_handled(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(frame: Frame) -> None:
            raise ValueError("secret")

        chain = Chain(Handler(fail))
        chain.down(StartFrame(), TextFrame("1"), EndFrame())
        await settle()
        assert chain.first.upstream == [ErrorFrame("handler failed", False, "handler")]
        assert chain.last.downstream == [StartFrame(), EndFrame()]
        assert len(caplog.records) == 1

    @virtual_time
    async def test_the_end_gets_through_a_handler_that_is_cancelled_from_within(self) -> None:
        async def give_up(frame: Frame) -> None:
            raise asyncio.CancelledError

        chain = Chain(Handler(give_up))
        chain.down(TextFrame("1"), EndFrame())
        await settle()
        assert chain.last.downstream == [EndFrame()]

    @virtual_time
    async def test_overflow_drops_the_oldest_audio(self, caplog: pytest.LogCaptureFixture) -> None:
        slow = Slow()
        slow.max_queued_frames = 3
        chain = Chain(slow)
        texts = [TextFrame(str(n)) for n in range(8)]
        chain.down(texts[0])
        await settle()
        chain.down(TranscriptionFrame("kept"), *texts[1:])
        assert slow.dropped_frames == 5
        await asyncio.sleep(9)
        assert chain.last.downstream == [texts[0], TranscriptionFrame("kept"), *texts[6:]]
        assert caplog.messages == ["call c1: Slow is too slow, 1 TextFrame dropped"]

    @virtual_time
    async def test_overflow_of_all_that_users_do(self, caplog: pytest.LogCaptureFixture) -> None:
        slow = Slow()
        slow.max_queued_frames = 4
        chain = Chain(slow)
        chain.down(TextFrame("busy"))
        await settle()
        did: list[Frame] = [
            TranscriptionFrame("1"),
            InputTextFrame("2"),
            ClientMessageFrame("3"),
            InputTransportMessageFrame({"4": 4}),
            InputDTMFFrame("5"),
            UserStartedSpeakingFrame(),
        ]
        # Audio goes first, also if it is what comes last.
        chain.down(AUDIO_IN, *did, AUDIO_IN)
        assert slow.dropped_frames == 4
        await asyncio.sleep(9)
        assert chain.last.downstream == [TextFrame("busy"), *did[2:]]
        assert caplog.messages == [
            "call c1: Slow is too slow, 1 InputAudioRawFrame dropped",
            "call c1: Slow is too slow, 1 TranscriptionFrame dropped",
            "call c1: Slow is too slow, 1 InputTextFrame dropped",
        ]

    @virtual_time
    async def test_a_stuck_handler_piles_nothing_up(self, caplog: pytest.LogCaptureFixture) -> None:
        slow = Slow()
        chain = Chain(slow)
        for n in range(slow.max_queued_frames + 1000):
            chain.down(InputTextFrame(str(n)))
        assert slow.dropped_frames == 1000
        assert len(caplog.records) == 2
        chain.down(CancelFrame())
        await settle()

    @virtual_time
    async def test_overflow_drops_no_control_frame(self, caplog: pytest.LogCaptureFixture) -> None:
        slow = Slow()
        slow.max_queued_frames = 2
        chain = Chain(slow)
        chain.down(TextFrame("busy"))
        await settle()
        chain.down(*[EndFrame(str(n)) for n in range(4)], InputTextFrame("x"))
        await asyncio.sleep(9)
        assert chain.last.downstream == [TextFrame("busy"), *[EndFrame(str(n)) for n in range(4)]]
        assert caplog.messages == ["call c1: Slow is too slow, 1 InputTextFrame dropped"]

    @virtual_time
    async def test_a_slow_one_delays_neither_its_own_call_nor_another(self) -> None:
        slow, other = Chain(Slow()), Chain(Slow())
        before = Tap("before")
        slow.first.link(before)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(100):
            slow.down(AUDIO_IN)
        other.down(TextFrame("hi"))
        assert loop.time() == started
        await asyncio.sleep(1.5)
        assert other.last.downstream == [TextFrame("hi")]
        assert len(before.downstream) == 100
        slow.down(CancelFrame())
        await settle()

    @virtual_time
    async def test_cleanup_waits_for_the_handler_to_stop(self) -> None:
        stopped = []

        async def tidy(frame: Frame) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)
                stopped.append(frame)

        handler = Handler(tidy)
        Chain(handler).down(TextFrame("1"), TextFrame("2"))
        await settle()
        await handler.cleanup()
        assert stopped == [TextFrame("1")]

    @virtual_time
    async def test_a_second_start_opens_it_again(self) -> None:
        chain = Chain(QueuedProcessor())
        chain.down(CancelFrame(), TextFrame("lost"), StartFrame(), TextFrame("kept"))
        await settle()
        assert chain.last.down(TextFrame) == [TextFrame("kept")]

    @virtual_time
    async def test_thousands_of_frames(self) -> None:
        chain = Chain(QueuedProcessor())
        for n in range(2000):
            chain.down(OutputAudioRawFrame(n.to_bytes(2, "little"), 16000))
        chain.down(ControlFrame())
        await asyncio.sleep(1)
        assert [f.audio for f in chain.last.down(OutputAudioRawFrame)] == [
            n.to_bytes(2, "little") for n in range(2000)
        ]


def test_errors_are_logged_as_errors(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    Chain(Failing()).down(TextFrame("hi"))
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].exc_info is not None
