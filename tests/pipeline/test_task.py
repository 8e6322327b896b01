from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Tap, current_loop, settle, virtual_time
from voicews.exceptions import InvalidState
from voicews.frames import (
    CancelFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    StartFrame,
    TextFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask, QueuedProcessor, TaskState

UP = Direction.UPSTREAM


class Swallowing(FrameProcessor):
    """Passes nothing on."""

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        pass


class Slow(QueuedProcessor):
    async def handle_frame(self, frame: Frame, direction: Direction) -> None:
        await asyncio.sleep(1)
        self.push_frame(frame, direction)


class OnFrame(FrameProcessor):
    """Does something when a frame of one kind passes, before anybody behind it sees it."""

    def __init__(self, kind: type[Frame], action: Callable[[FrameProcessor], object]) -> None:
        super().__init__()
        self.kind, self.action = kind, action

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, self.kind):
            self.action(self)
        self.push_frame(frame, direction)


def task_of(*processors: FrameProcessor, **options: Any) -> tuple[PipelineTask, Tap]:
    tap = Tap()
    return PipelineTask(Pipeline([*processors, tap]), call_id="c1", **options), tap


def state_of(task: PipelineTask) -> TaskState:
    """For mypy, which thinks that a state that was looked at once stays."""
    return task.state


@virtual_time
async def test_start_sends_the_rates() -> None:
    task, tap = task_of(audio_in_sample_rate=8000, audio_out_sample_rate=48000)
    assert state_of(task) is TaskState.CREATED
    assert tap.call_id == "c1"
    task.start()
    assert state_of(task) is TaskState.RUNNING
    assert tap.downstream == [StartFrame(8000, 48000)]
    task.cancel()


@virtual_time
async def test_starts_once() -> None:
    task, _ = task_of()
    task.start()
    with pytest.raises(InvalidState, match="expected a task that is CREATED, found RUNNING"):
        task.start()
    task.cancel()
    with pytest.raises(InvalidState, match="found ENDED"):
        task.start()


@virtual_time
async def test_frames_flow_only_while_it_runs() -> None:
    task, tap = task_of()
    task.queue_frame(TextFrame("early"))
    task.start()
    task.queue_frame(TextFrame("hi"))
    task.interrupt()
    task.end()
    task.queue_frame(TextFrame("late"))
    assert tap.downstream == [StartFrame(), TextFrame("hi"), InterruptionFrame(), EndFrame("ended")]


@virtual_time
async def test_before_the_start_nothing_can_end() -> None:
    task, tap = task_of()
    task.end()
    task.cancel()
    assert state_of(task) is TaskState.CREATED
    assert tap.downstream == []


@virtual_time
async def test_end_waits_for_what_is_queued() -> None:
    task, tap = task_of(Slow())
    task.start()
    task.queue_frame(TextFrame("1"))
    task.end("done", 4002)
    assert state_of(task) is TaskState.ENDING
    assert (task.reason, task.close_code) == ("done", 4002)
    assert await task.wait() == "done"
    assert state_of(task) is TaskState.ENDED
    assert tap.downstream == [StartFrame(), TextFrame("1"), EndFrame("done", 4002)]
    assert tap.cleanups == 1
    assert current_loop().timers() == []


@virtual_time
async def test_the_first_reason_stays() -> None:
    task, tap = task_of(Slow())
    task.start()
    task.end("first", 1000)
    task.end("second", 1011)
    task.cancel("third", 4000)
    assert await task.wait() == "first"
    assert task.close_code == 1000
    assert tap.downstream == [StartFrame(), CancelFrame("first", 1000)]


@virtual_time
async def test_cancel_drops_what_is_queued() -> None:
    task, tap = task_of(Slow())
    task.start()
    task.queue_frame(TextFrame("1"))
    task.cancel("gone", 1001)
    assert state_of(task) is TaskState.ENDED
    assert await task.wait() == "gone"
    assert task.close_code == 1001
    assert tap.downstream == [StartFrame(), CancelFrame("gone", 1001)]
    task.cancel("again")
    task.end("again")
    assert len(tap.downstream) == 2


@virtual_time
async def test_cancel_is_not_held_up_by_one_who_swallows_it() -> None:
    task, _tap = task_of(Swallowing())
    task.start()
    task.cancel()
    assert await task.wait() == "cancelled"


@virtual_time
async def test_an_end_that_takes_too_long_becomes_a_cancel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task, tap = task_of(Swallowing(), end_timeout_secs=7)
    task.start()
    started = current_loop().time()
    task.end("bye")
    assert await task.wait() == "bye"
    assert current_loop().time() == pytest.approx(started + 7)
    assert tap.downstream == []
    assert caplog.messages == ["call c1: not over 7 s after its end, cancelled"]


@pytest.mark.parametrize("at_once", [False, True])
@virtual_time
async def test_a_processor_asks_for_the_end(at_once: bool) -> None:
    task, tap = task_of(Slow())
    task.start()
    task.queue_frame(TextFrame("1"))
    tap.push_frame(EndRequestFrame("enough", 4002, at_once), UP)
    await asyncio.sleep(5)
    assert await task.wait() == "enough"
    assert task.close_code == 4002
    last = CancelFrame("enough", 4002) if at_once else EndFrame("enough", 4002)
    assert tap.downstream[-1] == last
    assert (TextFrame("1") in tap.downstream) is not at_once


@virtual_time
async def test_a_fatal_error_ends_the_call(caplog: pytest.LogCaptureFixture) -> None:
    task, tap = task_of()
    task.start()
    tap.push_error("harmless")
    assert state_of(task) is TaskState.RUNNING
    tap.push_error("out of order", fatal=True)
    assert await task.wait() == "error"
    assert task.close_code == 1011
    assert caplog.messages == ["call c1: ended by a fatal error in tap"]


@virtual_time
async def test_a_processor_that_cannot_clean_up_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Messy(FrameProcessor):
        async def cleanup(self) -> None:
            raise ValueError("secret")

    task, tap = task_of(Messy())
    task.start()
    task.cancel()
    await task.wait()
    assert tap.cleanups == 1
    assert caplog.messages == ["call c1: Messy failed to clean up"]


@virtual_time
async def test_a_cleanup_that_never_returns_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(FrameProcessor):
        async def cleanup(self) -> None:
            await asyncio.Event().wait()

    task, tap = task_of(Stuck())
    task.start()
    task.cancel()
    await task.wait()
    assert tap.cleanups == 1
    assert caplog.messages == ["call c1: Stuck failed to clean up"]


@virtual_time
async def test_cleaned_up_once_however_many_wait() -> None:
    task, tap = task_of()
    task.start()
    waiting = [asyncio.create_task(task.wait()) for _ in range(3)]
    await settle()
    task.end("bye")
    assert await asyncio.gather(*waiting) == ["bye"] * 3
    assert await task.wait() == "bye"
    assert tap.cleanups == 1


@virtual_time
async def test_cleaned_up_even_if_nobody_waits() -> None:
    task, tap = task_of()
    task.start()
    task.end()
    await settle()
    assert tap.cleanups == 1


@virtual_time
async def test_one_who_gives_up_waiting_cuts_no_cleanup_short() -> None:
    class Thorough(Tap):
        async def cleanup(self) -> None:
            await asyncio.sleep(1)
            self.cleanups += 1

    tap = Thorough()
    task = PipelineTask(Pipeline([tap]))
    task.start()
    task.cancel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task.wait(), 0.5)
    await task.wait()
    assert tap.cleanups == 1


@virtual_time
async def test_everybody_is_told_the_start_before_the_end() -> None:
    def fail(processor: FrameProcessor) -> None:
        processor.push_error("no model", fatal=True)

    task, tap = task_of(OnFrame(StartFrame, fail))
    task.start()
    assert tap.downstream == [StartFrame(), CancelFrame("error", 1011)]
    assert await task.wait() == "error"


@virtual_time
async def test_an_end_asked_for_during_the_start() -> None:
    task, tap = task_of(
        OnFrame(StartFrame, lambda p: p.push_frame(EndRequestFrame("closed today"), UP))
    )
    task.start()
    assert tap.downstream == [StartFrame(), EndFrame("closed today")]
    assert await task.wait() == "closed today"


@virtual_time
async def test_a_cancel_during_the_start_beats_an_end() -> None:
    def both(processor: FrameProcessor) -> None:
        processor.push_frame(EndRequestFrame("end"), UP)
        processor.push_frame(EndRequestFrame("cancel", at_once=True), UP)
        processor.push_frame(EndRequestFrame("end again"), UP)

    task, tap = task_of(OnFrame(StartFrame, both))
    task.start()
    assert tap.downstream == [StartFrame(), CancelFrame("cancel")]
    await task.wait()


@virtual_time
async def test_a_cancel_is_sent_once() -> None:
    """One who answers the cancel by asking for it, as a transport that loses its client does."""
    task, tap = task_of(
        OnFrame(
            CancelFrame, lambda p: p.push_frame(EndRequestFrame("client left", at_once=True), UP)
        )
    )
    task.start()
    task.cancel("first")
    assert tap.downstream == [StartFrame(), CancelFrame("first")]
    await task.wait()
    assert tap.cleanups == 1


@virtual_time
async def test_no_cancel_follows_the_end() -> None:
    task, tap = task_of()
    task.start()
    task.end()
    tap.push_frame(EndRequestFrame("late", at_once=True), UP)
    assert tap.downstream == [StartFrame(), EndFrame("ended")]
    assert state_of(task) is TaskState.ENDED


def test_error_frames_name_their_processor() -> None:
    tap, failing = Tap(), FrameProcessor(name="tts")
    Pipeline([tap, failing])
    failing.push_error("no voice", fatal=True)
    assert tap.upstream == [ErrorFrame("no voice", True, "tts")]
