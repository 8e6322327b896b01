"""Workers on one bus: jobs, activation, families, the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.polling import until
from tests.workers.agents import Listener, Researcher
from voicews.exceptions import ConfigurationError, InvalidState
from voicews.workers import (
    BaseWorker,
    BusCancelMessage,
    BusDataMessage,
    BusEndMessage,
    BusEndWorkerMessage,
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusJobResponseMessage,
    BusJobStreamDataMessage,
    BusJobStreamEndMessage,
    BusJobStreamStartMessage,
    BusJobUpdateMessage,
    BusJobUpdateRequestMessage,
    BusMessage,
    BusWorkerErrorMessage,
    BusWorkerReadyMessage,
    JobError,
    JobEvent,
    JobGroupError,
    JobGroupParams,
    JobGroupResponse,
    JobParams,
    JobStatus,
    Payload,
    WorkerErrorData,
    WorkerReadyData,
    WorkerRegistry,
    WorkerRunner,
    job,
)
from voicews.workers.worker import MAX_QUEUED_MESSAGES


async def started(*workers: BaseWorker) -> WorkerRunner:
    runner = WorkerRunner()
    await runner.add_workers(*workers)
    await runner.start()
    await until(lambda: all(worker.name in runner.registry for worker in workers))
    return runner


# --- jobs ---------------------------------------------------------------------------------------


async def test_a_job_is_asked_for_and_answered() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        async with voice.job("research", params=JobParams(name="double", payload={"n": 4})) as one:
            assert one.job_id in voice.job_groups
        assert one.response == {"result": 8}
        assert one.responses == {"research": {"result": 8}}
        assert voice.job_groups == {}
        assert research.active_jobs == {}


async def test_a_job_that_streams() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        async with voice.job("research", params=JobParams(name="stream", payload={"n": 3})) as one:
            events = [(event.type, event.worker_name, event.data) async for event in one]
        assert events == [
            (JobEvent.UPDATE, "research", {"at": 0}),
            (JobEvent.STREAM_START, "research", {"of": 3}),
            *((JobEvent.STREAM_DATA, "research", {"n": n}) for n in range(3)),
            (JobEvent.STREAM_END, "research", {"sum": 3}),
        ]
        assert one.response == {"sum": 3}


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("broken", JobStatus.ERROR, "research failed"),
        ("impossible", JobStatus.FAILED, "nobody can do that"),
        ("unknown", JobStatus.FAILED, "has no job 'unknown'"),
    ],
)
async def test_a_job_that_goes_wrong(name: str, status: JobStatus, error: str) -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        with pytest.raises(JobError, match=error) as caught:
            async with voice.job("research", params=JobParams(name=name)):
                pass
        assert "secret" not in str(caught.value)
        await until(lambda: voice.of(BusJobResponseMessage))
        assert voice.of(BusJobResponseMessage)[0].status is status


async def test_a_job_that_takes_too_long_is_cancelled() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        with pytest.raises(JobError, match="timeout"):
            async with voice.job("research", params=JobParams(name="forever", timeout=0.05)):
                pass
        await until(lambda: research.cancelled)
        assert research.active_jobs == {}
        assert voice.job_groups == {}


async def test_the_timeout_includes_waiting_for_the_worker() -> None:
    voice = Listener()
    async with await started(voice):
        with pytest.raises(JobError, match="nobody: not ready within 0.05 s"):
            async with voice.job("nobody", params=JobParams(timeout=0.05)):
                pass


async def test_a_job_waits_for_its_worker() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice) as runner:

        async def ask() -> Payload:
            async with voice.job(
                "research", params=JobParams(name="double", payload={"n": 1})
            ) as a:
                pass
            return a.response

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.02)
        assert not asking.done()
        await runner.add_workers(research)
        assert await asking == {"result": 2}


async def test_leaving_the_block_by_an_exception_cancels_the_job() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        one = voice.job("research", params=JobParams(name="forever"))
        with suppress(KeyError):
            async with one:
                await until(lambda: research.active_jobs)
                raise KeyError
        await until(lambda: research.cancelled == [one.job_id])


async def test_a_cancel_that_overtakes_its_request() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research) as runner:
        runner.bus.send(BusJobCancelMessage(source="voice", target="research", job_id="1"))
        await asyncio.sleep(0.01)
        runner.bus.send(
            BusJobRequestMessage(source="voice", target="research", job_id="1", job_name="forever")
        )
        await until(lambda: voice.of(BusJobResponseMessage))
        assert voice.of(BusJobResponseMessage)[0].status is JobStatus.CANCELLED
        assert research.active_jobs == {}


async def test_who_is_outside_may_end_a_job_unless_it_is_to_go_on() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        params = JobParams(name="forever", label="Research: the weather")
        job_id = await voice.request_job("research", params=params)
        assert voice.job_groups[job_id].label == "Research: the weather"
        await until(lambda: research.active_jobs)
        assert await voice.request_cancel_job_group(job_id, reason="the page was closed")
        await until(lambda: research.cancelled == [job_id])
        assert not await voice.request_cancel_job_group(job_id)
        params = JobGroupParams(name="forever", cancellable=False)
        job_id = await voice.request_job_group("research", params=params)
        assert not await voice.request_cancel_job_group(job_id)
        assert job_id in voice.job_groups
        await voice.cancel_job_group(job_id)
        assert job_id not in voice.job_groups


async def test_a_worker_that_stops_leaves_nobody_waiting() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research) as runner:
        job_id = await voice.request_job("research", params=JobParams(name="forever"))
        group = voice.job_groups[job_id]
        await until(lambda: research.active_jobs)
        await research.stop()
        # Cancelled is an answer, and no failure.
        await group.wait()
        assert group.responses == {"research": {}}
        await until(lambda: voice.of(BusJobResponseMessage))
        assert voice.of(BusJobResponseMessage)[0].status is JobStatus.CANCELLED
        assert "research" not in runner.registry
        await until(lambda: runner.get_worker("research") is None)


async def test_sequential_jobs_take_turns_and_others_do_not() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research):
        params = JobParams(name="in turn")
        await asyncio.gather(*(voice.request_job("research", params=params) for _ in range(4)))
        await until(lambda: len(voice.of(BusJobResponseMessage)) == 4)
        assert research.most_running == 1


async def test_two_handlers_of_one_job_are_an_error() -> None:
    class Twice(BaseWorker):
        @job(name="same")
        async def one(self, message: BusJobRequestMessage) -> None: ...

        @job(name="same")
        async def another(self, message: BusJobRequestMessage) -> None: ...

    with pytest.raises(ConfigurationError, match="'same'"):
        Twice("twice")


async def test_the_same_job_for_several_workers() -> None:
    voice, one, two = Listener(), Researcher("one"), Researcher("two")
    async with await started(voice, one, two):
        params = JobGroupParams(name="double", payload={"n": 1})
        async with voice.job_group("one", "two", params=params) as group:
            pass
        assert group.responses == {"one": {"result": 2}, "two": {"result": 2}}


async def test_one_that_fails_cancels_the_others() -> None:
    class Fails(Researcher):
        @job(name="forever")
        async def forever(self, message: BusJobRequestMessage) -> None:
            raise JobError("no")

    voice, good, bad = Listener(), Researcher("good"), Fails("bad")
    async with await started(voice, good, bad):
        with pytest.raises(JobGroupError, match="no"):
            async with voice.job_group("good", "bad", params=JobGroupParams(name="forever")):
                pass
        await until(lambda: good.cancelled)


async def test_a_group_may_bear_one_that_fails() -> None:
    class Fails(Researcher):
        @job(name="double")
        async def double(self, message: BusJobRequestMessage) -> Payload:
            raise JobError("no")

    voice, good, bad = Listener(), Researcher("good"), Fails("bad")
    async with await started(voice, good, bad):
        params = JobGroupParams(name="double", payload={"n": 1}, cancel_on_error=False)
        async with voice.job_group("good", "bad", params=params) as group:
            pass
        assert group.responses == {"good": {"result": 2}, "bad": {"error": "no"}}


class Hooked(Listener):
    """Notes which hooks were called."""

    def __init__(self, name: str = "voice") -> None:
        super().__init__(name)
        self.called: list[str] = []
        self.result: JobGroupResponse | None = None

    async def on_job_response(self, message: Any) -> None:
        self.called.append("response")

    async def on_job_update(self, message: Any) -> None:
        self.called.append("update")

    async def on_job_stream_start(self, message: BusJobStreamStartMessage) -> None:
        self.called.append("stream_start")

    async def on_job_stream_data(self, message: BusJobStreamDataMessage) -> None:
        self.called.append("stream_data")

    async def on_job_stream_end(self, message: BusJobStreamEndMessage) -> None:
        self.called.append("stream_end")

    async def on_job_completed(self, result: JobGroupResponse) -> None:
        self.called.append("completed")
        self.result = result

    async def on_job_error(self, message: Any) -> None:
        self.called.append("error")


async def test_the_requester_s_hooks() -> None:
    voice, research = Hooked(), Researcher()
    async with await started(voice, research):
        await voice.request_job("research", params=JobParams(name="stream", payload={"n": 1}))
        await until(lambda: voice.result)
        assert voice.called == ["update", "stream_start", "stream_data", "stream_end", "completed"]
        assert voice.result is not None
        assert voice.result.responses == {"research": {"sum": 0}}
        voice.called.clear()
        await voice.request_job_group("research", params=JobGroupParams(name="broken"))
        await until(lambda: voice.called == ["response", "error"])


async def test_asking_how_far_a_job_is() -> None:
    class Reports(Researcher):
        async def on_job_update_requested(self, message: BusJobUpdateRequestMessage) -> None:
            await self.send_job_update(message.job_id, {"percent": 50}, urgent=True)
            await self.send_job_response(message.job_id, {"late": True}, urgent=True)

    voice, research = Listener(), Reports()
    async with await started(voice, research):
        async with voice.job("research", params=JobParams(name="forever")) as one:
            await voice.request_job_update(one.job_id, "research")
            events = [event.data async for event in one]
        assert events == [{"percent": 50}]
        assert one.response == {"late": True}


async def test_a_job_that_is_over_takes_no_more() -> None:
    research = Researcher()
    async with await started(research):
        for send in (
            research.send_job_response,
            research.send_job_update,
            research.send_job_stream_start,
            research.send_job_stream_data,
            research.send_job_stream_end,
        ):
            with pytest.raises(InvalidState, match="'gone'"):
                await send("gone")


async def test_a_stranger_can_t_answer_a_job() -> None:
    voice, research = Listener(), Researcher()
    async with await started(voice, research) as runner:
        async with voice.job("research", params=JobParams(name="double", payload={"n": 1})) as one:
            runner.bus.send(
                BusJobResponseMessage(
                    source="stranger",
                    target="voice",
                    job_id=one.job_id,
                    status=JobStatus.ERROR,
                )
            )
        assert one.response == {"result": 2}


# --- priorities and isolation -------------------------------------------------------------------


class Slow(Listener):
    def __init__(self) -> None:
        super().__init__("slow")
        self.go_on = asyncio.Event()

    async def on_bus_message(self, message: BusMessage) -> None:
        await super().on_bus_message(message)
        if isinstance(message, BusJobUpdateMessage):
            await self.go_on.wait()


async def test_system_messages_pass_data_messages_that_wait() -> None:
    slow = Slow()
    async with await started(slow) as runner:
        update = BusJobUpdateMessage(source="x", target="slow", job_id="1")
        for _ in range(3):
            runner.bus.send(update)
        runner.bus.send(BusJobCancelMessage(source="x", target="slow", job_id="1"))
        await until(lambda: slow.of(BusJobCancelMessage))
        assert len(slow.of(BusJobUpdateMessage)) == 1
        slow.go_on.set()
        await until(lambda: len(slow.of(BusJobUpdateMessage)) == 3)


async def test_a_system_message_passes_data_of_the_same_turn() -> None:
    voice, other = Listener(), Listener("other")
    async with await started(voice, other) as runner:
        await asyncio.sleep(0.01)
        voice.heard.clear()
        for reason in ("1", "2"):
            runner.bus.send(BusDataMessage(source="other", target="voice"))
            runner.bus.send(
                BusWorkerErrorMessage(source="other", target="voice", error=f"error {reason}")
            )
        await until(lambda: len(voice.heard) == 4)
        assert [type(message) for message in voice.heard] == [
            *[BusWorkerErrorMessage] * 2,
            *[BusDataMessage] * 2,
        ]


async def test_a_worker_that_is_too_slow_loses_the_oldest() -> None:
    slow = Slow()
    async with await started(slow) as runner:
        await asyncio.sleep(0.01)
        update = BusJobUpdateMessage(source="x", target="slow", job_id="1")
        runner.bus.send(update)
        await until(lambda: slow.of(BusJobUpdateMessage))
        for _ in range(MAX_QUEUED_MESSAGES + 5):
            runner.bus.send(update)
        assert slow.dropped_messages == 5
        slow.go_on.set()


async def test_a_hook_that_fails_stops_nothing() -> None:
    class Fails(Listener):
        async def on_bus_message(self, message: BusMessage) -> None:
            await super().on_bus_message(message)
            raise RuntimeError("on purpose")

    fails = Fails()
    async with await started(fails) as runner:
        for _ in range(3):
            runner.bus.send(BusJobUpdateMessage(source="x", target="voice", job_id="1"))
        await until(lambda: len(fails.of(BusJobUpdateMessage)) == 3)


async def test_messages_to_others_are_not_heard_those_to_all_are() -> None:
    class News(BusDataMessage):
        pass

    one, two = Listener("one"), Listener("two")
    async with await started(one, two):
        await one.send_bus_message(News(source="one", target="two"))
        await one.send_bus_message(News(source="one"))
        await until(lambda: len(two.of(News)) == 2)
        assert one.of(News) == []


# --- activation ---------------------------------------------------------------------------------


class Actor(Listener):
    def __init__(self, name: str, *, active: bool = True) -> None:
        super().__init__(name, active=active)
        self.log: list[Any] = []

    async def on_activated(self, args: Payload | None) -> None:
        self.log.append(args)

    async def on_deactivated(self) -> None:
        self.log.append("off")


async def test_an_inactive_worker_hears_nothing_until_it_is_activated() -> None:
    one, two = Actor("one"), Actor("two", active=False)
    async with await started(one, two) as runner:
        await until(lambda: one.log == [None])
        assert (one.active, two.active) == (True, False)
        runner.bus.send(BusJobUpdateMessage(source="x", target="two", job_id="1"))
        await one.activate_worker("two", args={"a": 1}, deactivate_self=True)
        assert one.active is False
        await until(lambda: two.log == [{"a": 1}] and one.log == [None, "off"])
        assert two.activation_args == {"a": 1}
        assert two.of(BusJobUpdateMessage) == []
        runner.bus.send(BusJobUpdateMessage(source="x", target="two", job_id="1"))
        await until(lambda: two.of(BusJobUpdateMessage))
        await two.deactivate_worker("two")
        await until(lambda: two.log == [{"a": 1}, "off"])
        assert two.activation_args is None


# --- families, registry, the end ----------------------------------------------------------------


class Parent(Listener):
    def __init__(self) -> None:
        super().__init__("parent")
        self.ready: list[WorkerReadyData] = []
        self.failed: list[WorkerErrorData] = []

    async def on_worker_ready(self, data: WorkerReadyData) -> None:
        self.ready.append(data)

    async def on_worker_failed(self, data: WorkerErrorData) -> None:
        self.failed.append(data)


class SlowToStop(Listener):
    def __init__(self) -> None:
        super().__init__("child")
        self.has_stopped = False

    async def stop(self) -> None:
        await super().stop()
        await asyncio.sleep(0.05)
        self.has_stopped = True


async def test_a_parent_waits_until_its_child_has_stopped() -> None:
    parent, child = Parent(), SlowToStop()
    async with await started(parent) as runner:
        await parent.add_workers(child)
        await until(lambda: "child" in runner.registry)
        runner.bus.send(BusEndWorkerMessage(source="x", target="parent"))
        await parent.wait()
        assert child.has_stopped


async def test_a_parent_and_its_child() -> None:
    parent, child, other = Parent(), Listener("child"), Listener("other")
    async with await started(parent, other) as runner:
        await parent.add_workers(child)
        await until(lambda: parent.ready == [WorkerReadyData("child", runner.name)])
        assert parent.children == [child]
        assert child.parent == "parent"
        with pytest.raises(InvalidState, match="without a parent"):
            await other.add_workers(child)
        await child.send_bus_error_message("oh no")
        await until(lambda: parent.failed == [WorkerErrorData("child", "oh no")])
        assert not any("Error" in type(message).__name__ for message in other.heard)
        await runner.end()
        await runner.stop()
        assert runner.get_worker("child") is None


async def test_ready_is_told_to_all_and_to_those_who_watch() -> None:
    parent = Parent()
    async with await started(parent) as runner:
        await parent.watch_workers("late")
        await runner.add_workers(Listener("late"))
        await until(lambda: parent.ready == [WorkerReadyData("late", runner.name)])
        await until(lambda: parent.of(BusWorkerReadyMessage))
        assert parent.of(BusWorkerReadyMessage)[0].source == "late"


async def test_run_ends_with_the_last_worker() -> None:
    runner, worker = WorkerRunner(), Listener()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await until(lambda: worker.active)
    await worker.stop()
    await asyncio.wait_for(running, 2)
    with pytest.raises(InvalidState):
        await runner.start()


@pytest.mark.parametrize("how", [BusEndMessage, BusCancelMessage])
async def test_a_worker_can_end_them_all(how: type[BusEndMessage | BusCancelMessage]) -> None:
    runner, one, two = WorkerRunner(), Listener("one"), Listener("two")
    await runner.add_workers(one, two)
    running = asyncio.create_task(runner.run(auto_end=False))
    await until(lambda: one.active and two.active)
    await (one.end(reason="bye") if how is BusEndMessage else one.cancel(reason="bye"))
    await asyncio.wait_for(running, 2)
    await asyncio.wait_for(two.wait(), 1)


async def test_an_end_in_order_waits_for_what_was_sent_before() -> None:
    runner, slow = WorkerRunner(), Slow()
    await runner.add_workers(slow)
    running = asyncio.create_task(runner.run())
    await until(lambda: slow.active)
    for _ in range(3):
        runner.bus.send(BusJobUpdateMessage(source="x", target="slow", job_id="1"))
    await runner.end("enough")
    await asyncio.sleep(0.05)
    assert not running.done()
    slow.go_on.set()
    await asyncio.wait_for(running, 2)
    assert len(slow.of(BusJobUpdateMessage)) == 3


async def test_a_cancel_does_not_wait() -> None:
    runner, slow = WorkerRunner(), Slow()
    await runner.add_workers(slow)
    running = asyncio.create_task(runner.run())
    await until(lambda: slow.active)
    runner.bus.send(BusJobUpdateMessage(source="x", target="slow", job_id="1"))
    await until(lambda: slow.of(BusJobUpdateMessage))
    await runner.cancel("enough")
    await asyncio.wait_for(running, 2)


async def test_names_are_unique() -> None:
    async with await started(Listener("one")) as runner:
        with pytest.raises(ConfigurationError, match="one"):
            await runner.add_workers(Listener("one"))
        with pytest.raises(InvalidState):
            _ = Listener("lonely").runner


def test_a_registry() -> None:
    registry = WorkerRegistry("here")
    seen: list[WorkerReadyData] = []
    registry.watch("a", seen.append)
    registry.watch("a", seen.append)
    registry.register("a", "here")
    registry.register("a", "here")
    registry.register("b", "there")
    assert seen == [WorkerReadyData("a", "here")]
    assert (registry.local_workers, registry.remote_workers) == (["a"], ["b"])
    assert registry.get("b") == WorkerReadyData("b", "there")
    registry.watch("b", seen.append)
    assert len(seen) == 2
    registry.forget("b", "elsewhere")
    assert "b" in registry
    registry.forget("b")
    assert "b" not in registry
    registry.register("b", "there")
    assert len(seen) == 3
    registry.unwatch("b", seen.append)
    registry.forget_runner("there")
    registry.forget_runner("here")
    assert "a" in registry
    registry.register("b", "there")
    assert len(seen) == 3
