"""A worker: an agent with a name on the bus."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from voicews.exceptions import InvalidState
from voicews.serial_queue import SerialQueue
from voicews.workers.bus import WorkerBus
from voicews.workers.jobs import (
    JobContext,
    JobError,
    JobGroup,
    JobGroupContext,
    JobGroupError,
    JobGroupEvent,
    JobGroupParams,
    JobGroupResponse,
    JobHandler,
    JobParams,
    collect_job_handlers,
)
from voicews.workers.messages import (
    BusActivateWorkerMessage,
    BusAddWorkerMessage,
    BusCancelMessage,
    BusCancelWorkerMessage,
    BusDeactivateWorkerMessage,
    BusEndMessage,
    BusEndWorkerMessage,
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusJobResponseMessage,
    BusJobResponseUrgentMessage,
    BusJobStreamDataMessage,
    BusJobStreamEndMessage,
    BusJobStreamStartMessage,
    BusJobUpdateMessage,
    BusJobUpdateRequestMessage,
    BusJobUpdateUrgentMessage,
    BusMessage,
    BusSystemMessage,
    BusWorkerErrorMessage,
    BusWorkerLocalErrorMessage,
    BusWorkerReadyMessage,
    JobStatus,
    Payload,
)
from voicews.workers.registry import (
    Unreachable,
    WorkerErrorData,
    WorkerReadyData,
    WorkerRegistry,
)

logger = logging.getLogger(__name__)

#: Messages that may wait for a worker; beyond it the oldest goes.
MAX_QUEUED_MESSAGES = 10_000
#: Cancelled jobs that are remembered until their request, which they overtook, arrives.
MAX_EARLY_CANCELS = 1000

JobResponse = BusJobResponseMessage | BusJobResponseUrgentMessage
JobUpdate = BusJobUpdateMessage | BusJobUpdateUrgentMessage
JobStream = BusJobStreamStartMessage | BusJobStreamDataMessage | BusJobStreamEndMessage


class WorkerHost(Protocol):
    """What a worker knows of the runner that it runs under."""

    name: str
    bus: WorkerBus
    registry: WorkerRegistry

    def get_worker(self, name: str) -> BaseWorker | None:
        """The worker of that name, if it runs under the same runner."""

    async def add_workers(self, *workers: BaseWorker) -> None:
        """Take workers in."""

    async def end(self, reason: str | None = None) -> None:
        """End all workers in order."""

    async def cancel(self, reason: str | None = None) -> None:
        """End all workers at once."""


class BaseWorker:
    """Override the hooks that you need, mark handlers of jobs with `@job(name=...)`.

    Hooks are called one after the other, those of system messages apart from the others; jobs run
    in tasks of their own. A hook that fails is logged and stops nothing. Names and meaning are
    those of Pipecat's workers.

    A worker that is not `active` gets no messages but those that activate or end it.
    """

    def __init__(self, name: str, *, active: bool = True) -> None:
        self.name = name
        self.active = False
        self.activation_args: Payload | None = None
        self.parent: str | None = None
        self.children: list[BaseWorker] = []
        self.started_at: float | None = None
        self._starts_active = active
        self._runner: WorkerHost | None = None
        #: It is to end; `stop` then has a turn.
        self._finished = asyncio.Event()
        #: It has ended, its own `stop` included.
        self._ended = asyncio.Event()
        self._is_run = False
        self._stopped = False
        self._system_lane = self._new_lane()
        self._data_lane = self._new_lane(after=self._system_lane)
        self._job_handlers = collect_job_handlers(self)
        self._jobs: dict[str, BusJobRequestMessage] = {}
        self._job_tasks: dict[str, asyncio.Task[None]] = {}
        self._early_cancels: deque[str] = deque(maxlen=MAX_EARLY_CANCELS)
        self._groups: dict[str, JobGroup] = {}

    def _new_lane(self, after: SerialQueue | None = None) -> SerialQueue:
        return SerialQueue(
            on_error=self._hook_failed,
            on_dropped=self._message_dropped,
            limit=MAX_QUEUED_MESSAGES,
            after=after,
        )

    def _hook_failed(self, name: str, error: Exception) -> None:
        logger.error("worker %s failed to handle a message", self.name, exc_info=error)

    def _message_dropped(self, name: str, dropped: int) -> None:
        if dropped % MAX_QUEUED_MESSAGES == 1:
            logger.warning("worker %s is too slow: %d messages dropped", self.name, dropped)

    # --- where it is ----------------------------------------------------------------------------

    @property
    def runner(self) -> WorkerHost:
        """Its runner. Raises `InvalidState` before it has one."""
        if self._runner is None:
            raise InvalidState(f"expected worker {self.name} to have been added to a runner")
        return self._runner

    @property
    def bus(self) -> WorkerBus:
        return self.runner.bus

    @property
    def registry(self) -> WorkerRegistry:
        return self.runner.registry

    @property
    def active_jobs(self) -> dict[str, BusJobRequestMessage]:
        """The jobs that it works on, by their ids."""
        return dict(self._jobs)

    @property
    def job_groups(self) -> dict[str, JobGroup]:
        """The jobs that others do for it, by their ids."""
        return dict(self._groups)

    @property
    def dropped_messages(self) -> int:
        """Messages that waited too long for it."""
        return self._data_lane.dropped + self._system_lane.dropped

    # --- life cycle -----------------------------------------------------------------------------

    def attach(self, runner: WorkerHost) -> None:
        """Called by the runner that takes it in."""
        if self._runner is not None:
            raise InvalidState(f"expected a worker without a runner, found {self.name}")
        runner.bus.subscribe(self)
        self._runner = runner

    async def run(self) -> None:
        """Live until `stop` or a message ends it. Called by the runner."""
        self._is_run = True
        try:
            await self.start()
            await self._finished.wait()
        finally:
            try:
                await self.stop()
            finally:
                self._ended.set()

    async def start(self) -> None:
        """Called once, before the first message: it is ready from then on."""
        self.started_at = time.time()
        self.bus.send(
            BusWorkerReadyMessage(
                source=self.name,
                runner=self.registry.runner_name,
                parent=self.parent,
                active=self._starts_active,
                started_at=self.started_at,
            )
        )
        if self._starts_active:
            self.active = True
            self._data_lane.put("activate", partial(self._activate, None))
        self.registry.register(self.name, self.registry.runner_name)

    async def stop(self) -> None:
        """Called once, after the last message: cancels its own jobs, notifies its requesters."""
        if self._stopped:
            return
        self._stopped = True
        for job_id in list(self._groups):
            await self.cancel_job_group(job_id, reason=f"worker {self.name} stopped")
        for job_id in list(self._jobs):
            await self._respond(job_id, JobStatus.CANCELLED)
        for task in list(self._job_tasks.values()):
            await _cancel(task)
        await self._system_lane.cancel()
        await self._data_lane.cancel()
        if self._runner is not None:
            self.registry.forget(self.name, self.registry.runner_name)
            self.bus.unsubscribe(self)
        self._finished.set()
        if not self._is_run:
            self._ended.set()

    async def wait(self) -> None:
        """Wait until it has ended, and its `stop` is done."""
        await self._ended.wait()

    async def end(self, *, reason: str | None = None) -> None:
        """Ask the runner to end all workers in order."""
        self.bus.send(BusEndMessage(source=self.name, reason=reason))

    async def cancel(self, *, reason: str | None = None) -> None:
        """Ask the runner to end all workers at once."""
        self.bus.send(BusCancelMessage(source=self.name, reason=reason))

    # --- hooks ----------------------------------------------------------------------------------

    async def on_activated(self, args: Payload | None) -> None:
        """It takes part from now on."""

    async def on_deactivated(self) -> None:
        """It takes no part until it is activated again."""

    async def on_worker_ready(self, data: WorkerReadyData) -> None:
        """A worker that it watches is ready."""

    async def on_worker_failed(self, data: WorkerErrorData) -> None:
        """A child has reported an error."""

    async def on_bus_message(self, message: BusMessage) -> None:
        """A message to it or to all, after what is done about it here."""

    async def on_job_request(self, message: BusJobRequestMessage) -> Payload | None:
        """A job for which no handler is marked; see `job`."""
        raise JobError(f"worker {self.name} has no job {message.job_name!r}")

    async def on_job_cancelled(self, message: BusJobCancelMessage) -> None:
        """A job's result is not needed any more; its handler has been cancelled."""

    async def on_job_update_requested(self, message: BusJobUpdateRequestMessage) -> None:
        """The requester asks how far a job is; see `send_job_update`."""

    async def on_job_response(self, message: JobResponse) -> None:
        """A worker has done its job for us, or not."""

    async def on_job_update(self, message: JobUpdate) -> None:
        """A worker says how far its job for us is."""

    async def on_job_stream_start(self, message: BusJobStreamStartMessage) -> None:
        """The result of a job for us comes in pieces."""

    async def on_job_stream_data(self, message: BusJobStreamDataMessage) -> None:
        """A piece of the result of a job for us."""

    async def on_job_stream_end(self, message: BusJobStreamEndMessage) -> None:
        """The last piece of the result of a job for us."""

    async def on_job_completed(self, result: JobGroupResponse) -> None:
        """All workers of a group have done their job for us."""

    async def on_job_error(self, message: JobResponse) -> None:
        """A worker could not do its job for us, and the others of its group are cancelled."""

    # --- messages -------------------------------------------------------------------------------

    def accepts_bus_message(self, message: BusMessage) -> bool:
        """Whether a message concerns it: one to it, or one of another's to all."""
        if message.target is None:
            return message.source != self.name
        return message.target == self.name

    def deliver(self, message: BusMessage) -> None:
        """Called by the bus for every message."""
        if not self._stopped and self.accepts_bus_message(message):
            lane = self._system_lane if isinstance(message, BusSystemMessage) else self._data_lane
            lane.put("message", partial(self._handle, message))

    async def send_bus_message(self, message: BusMessage) -> None:
        """Send a message over the bus."""
        self.bus.send(message)

    async def send_bus_error_message(self, error: str) -> None:
        """Report an error: to the parent, or to all if it has none."""
        kind = BusWorkerErrorMessage if self.parent is None else BusWorkerLocalErrorMessage
        self.bus.send(kind(source=self.name, target=self.parent, error=error))

    async def add_workers(self, *workers: BaseWorker) -> None:
        """Take in children: they end with this worker, which watches them."""
        for worker in workers:
            if worker.parent is not None:
                raise InvalidState(f"expected a worker without a parent, found {worker.name}")
            worker.parent = self.name
            self.children.append(worker)
            self.bus.send(BusAddWorkerMessage(source=self.name, worker=worker))
            await self.watch_workers(worker.name)

    async def watch_workers(self, *worker_names: str) -> None:
        """Have `on_worker_ready` called when these workers are ready."""
        for worker_name in worker_names:
            self.registry.watch(worker_name, self._on_ready)

    async def activate_worker(
        self, worker_name: str, *, args: Payload | None = None, deactivate_self: bool = False
    ) -> None:
        """Let another worker take part, if asked in the place of this one."""
        if deactivate_self:
            # At once, so that never two are active.
            self.active = False
            await self.deactivate_worker(self.name)
        self.bus.send(BusActivateWorkerMessage(source=self.name, target=worker_name, args=args))

    async def deactivate_worker(self, worker_name: str) -> None:
        """Let a worker take no part any more."""
        self.bus.send(BusDeactivateWorkerMessage(source=self.name, target=worker_name))

    # --- jobs for others ------------------------------------------------------------------------

    async def send_job_response(
        self,
        job_id: str,
        response: Payload | None = None,
        *,
        status: JobStatus = JobStatus.COMPLETED,
        urgent: bool = False,
    ) -> None:
        """Answer a job, which is over then. Raises `InvalidState` if there is none of that id."""
        self._job(job_id)
        await self._respond(job_id, status, response, urgent=urgent)

    async def send_job_update(
        self, job_id: str, update: Payload | None = None, *, urgent: bool = False
    ) -> None:
        """Say how far a job is. Raises `InvalidState` if there is none of that id."""
        kind = BusJobUpdateUrgentMessage if urgent else BusJobUpdateMessage
        target = self._job(job_id).source
        self.bus.send(kind(source=self.name, target=target, job_id=job_id, update=update))

    async def send_job_stream_start(self, job_id: str, data: Payload | None = None) -> None:
        """Begin to answer in pieces. Raises `InvalidState` if there is no job of that id."""
        self._stream(BusJobStreamStartMessage, job_id, data)

    async def send_job_stream_data(self, job_id: str, data: Payload | None = None) -> None:
        """Answer one piece. Raises `InvalidState` if there is no job of that id."""
        self._stream(BusJobStreamDataMessage, job_id, data)

    async def send_job_stream_end(self, job_id: str, data: Payload | None = None) -> None:
        """Answer the last piece: the job is over. Raises `InvalidState` if there is none."""
        self._stream(BusJobStreamEndMessage, job_id, data)
        del self._jobs[job_id]

    def _stream(self, kind: type[JobStream], job_id: str, data: Payload | None) -> None:
        target = self._job(job_id).source
        self.bus.send(kind(source=self.name, target=target, job_id=job_id, data=data))

    # --- jobs by others -------------------------------------------------------------------------

    def job(self, worker_name: str, *, params: JobParams | None = None) -> JobContext:
        """A job for one worker: `async with worker.job("research", params=...) as job: ...`."""
        return JobContext(self, [worker_name], _group_params(params))

    def job_group(
        self, *worker_names: str, params: JobGroupParams | None = None
    ) -> JobGroupContext:
        """The same job for several workers; see `job`."""
        return JobGroupContext(self, worker_names, params or JobGroupParams())

    async def request_job(self, worker_name: str, *, params: JobParams | None = None) -> str:
        """Ask one worker, and don't wait for the answer: the hooks tell. Returns the job's id."""
        return (await self.start_job_group([worker_name], _group_params(params))).job_id

    async def request_job_group(
        self, *worker_names: str, params: JobGroupParams | None = None
    ) -> str:
        """Ask several workers, and don't wait for their answers. Returns the job's id."""
        return (await self.start_job_group(worker_names, params or JobGroupParams())).job_id

    async def start_job_group(
        self,
        worker_names: Sequence[str],
        params: JobGroupParams,
        *,
        failure: type[JobGroupError] = JobGroupError,
    ) -> JobGroup:
        """Wait until the workers are ready, and ask them.

        Raises `failure` at the timeout, and when one can't be reached any more.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(params.timeout):
                for worker_name in worker_names:
                    await self.registry.wait_ready(worker_name)
        except TimeoutError:
            raise failure(
                f"{', '.join(worker_names)}: not ready within {params.timeout:g} s"
            ) from None
        except Unreachable as error:
            raise failure(f"{', '.join(worker_names)}: not ready: {error}") from None
        group = JobGroup(
            str(uuid.uuid4()),
            list(worker_names),
            cancel_on_error=params.cancel_on_error,
            label=params.label,
            cancellable=params.cancellable,
            failure=failure,
        )
        self._groups[group.job_id] = group
        if params.timeout is not None:
            group.timer = loop.call_at(asked_at + params.timeout, self._job_timed_out, group.job_id)
        for worker_name in worker_names:
            self.bus.send(
                BusJobRequestMessage(
                    source=self.name,
                    target=worker_name,
                    job_id=group.job_id,
                    job_name=params.name,
                    payload=params.payload,
                )
            )
        return group

    async def cancel_job_group(self, job_id: str, *, reason: str | None = None) -> None:
        """Cancel the job: the result is not needed. Does nothing when the job is over."""
        self._cancel_group(job_id, reason or "cancelled")

    async def request_cancel_job_group(self, job_id: str, *, reason: str | None = None) -> bool:
        """The same for a caller from outside, such as a page or an operator, who may be refused.

        False for a job that is over, or that is not `cancellable`: it goes on.
        """
        group = self._groups.get(job_id)
        if group is None or not group.cancellable:
            return False
        await self.cancel_job_group(job_id, reason=reason)
        return True

    async def request_job_update(self, job_id: str, worker_name: str) -> None:
        """Ask a worker how far its job is."""
        self.bus.send(
            BusJobUpdateRequestMessage(source=self.name, target=worker_name, job_id=job_id)
        )

    # --- the machinery --------------------------------------------------------------------------

    async def _handle(self, message: BusMessage) -> None:
        if not self.active and not isinstance(message, _ALWAYS_HANDLED):
            return
        handler = _HANDLERS.get(type(message))
        if handler is not None:
            await handler(self, message)
        await self.on_bus_message(message)

    def _on_ready(self, data: WorkerReadyData) -> None:
        self._data_lane.put("ready", lambda: self.on_worker_ready(data))

    async def _activate(self, args: Payload | None) -> None:
        self.active = True
        self.activation_args = args
        await self.on_activated(args)

    async def _handle_activate(self, message: BusActivateWorkerMessage) -> None:
        await self._activate(message.args)

    async def _handle_deactivate(self, message: BusDeactivateWorkerMessage) -> None:
        self.active = False
        self.activation_args = None
        await self.on_deactivated()

    async def _handle_end(self, message: BusEndWorkerMessage) -> None:
        self._tell_children(message)
        for child in self.children:
            await child.wait()
        self._finished.set()

    async def _handle_cancel(self, message: BusCancelWorkerMessage) -> None:
        self._tell_children(message)
        self._finished.set()

    def _tell_children(self, message: BusEndWorkerMessage | BusCancelWorkerMessage) -> None:
        for child in self.children:
            self.bus.send(type(message)(source=self.name, target=child.name, reason=message.reason))

    async def _handle_error(
        self, message: BusWorkerErrorMessage | BusWorkerLocalErrorMessage
    ) -> None:
        if any(child.name == message.source for child in self.children):
            await self.on_worker_failed(WorkerErrorData(message.source, message.error))

    # --- jobs for others ---

    async def _handle_job_request(self, message: BusJobRequestMessage) -> None:
        job_id = message.job_id
        if job_id in self._jobs:
            logger.warning("worker %s: a second job of the same id, ignored", self.name)
            return
        self._jobs[job_id] = message
        if job_id in self._early_cancels:
            self._early_cancels.remove(job_id)
            await self._respond(job_id, JobStatus.CANCELLED)
            return
        handler, lock = self._job_handlers.get(message.job_name or "", (self.on_job_request, None))
        task = asyncio.get_running_loop().create_task(self._run_job(message, handler, lock))
        self._job_tasks[job_id] = task
        task.add_done_callback(lambda _task: self._job_tasks.pop(job_id, None))

    async def _run_job(
        self, message: BusJobRequestMessage, handler: JobHandler, lock: asyncio.Lock | None
    ) -> None:
        job_id = message.job_id
        try:
            if lock is None:
                response = await handler(message)
            else:
                async with lock:
                    response = await handler(message)
        except JobError as error:
            await self._respond(job_id, JobStatus.FAILED, {"error": str(error)})
        except Exception:
            logger.exception("worker %s: job %s failed", self.name, message.job_name or "")
            # Its text may hold what a remote must not see.
            await self._respond(job_id, JobStatus.ERROR, {"error": f"{self.name} failed"})
        else:
            if response is not None:
                await self._respond(job_id, JobStatus.COMPLETED, response)

    async def _respond(
        self,
        job_id: str,
        status: JobStatus,
        response: Payload | None = None,
        *,
        urgent: bool = False,
    ) -> None:
        request = self._jobs.pop(job_id, None)
        if request is None:
            return
        kind = BusJobResponseUrgentMessage if urgent else BusJobResponseMessage
        self.bus.send(
            kind(
                source=self.name,
                target=request.source,
                job_id=job_id,
                status=status,
                response=response,
            )
        )

    async def _handle_job_cancel(self, message: BusJobCancelMessage) -> None:
        if message.job_id not in self._jobs:
            self._early_cancels.append(message.job_id)
            return
        task = self._job_tasks.get(message.job_id)
        if task is not None:
            await _cancel(task)
        await self.on_job_cancelled(message)
        await self._respond(message.job_id, JobStatus.CANCELLED)

    async def _handle_update_request(self, message: BusJobUpdateRequestMessage) -> None:
        if message.job_id in self._jobs:
            await self.on_job_update_requested(message)

    def _job(self, job_id: str) -> BusJobRequestMessage:
        request = self._jobs.get(job_id)
        if request is None:
            raise InvalidState(f"worker {self.name}: expected a job that runs, found {job_id!r}")
        return request

    # --- jobs by others ---

    def _group(self, message: Any) -> JobGroup | None:
        """The group that a message is about, if its sender belongs to it."""
        group = self._groups.get(message.job_id)
        return group if group is not None and message.source in group.worker_names else None

    async def _handle_job_response(self, message: JobResponse) -> None:
        await self.on_job_response(message)
        group = self._group(message)
        if group is None:
            return
        failed = message.status in (JobStatus.ERROR, JobStatus.FAILED)
        if failed and group.cancel_on_error:
            group.responses[message.source] = message.response or {}
            await self.on_job_error(message)
            why = (message.response or {}).get("error") or f"{message.source}: {message.status}"
            self._cancel_group(message.job_id, str(why))
            return
        await self._take_response(group, message.source, message.response)

    async def _handle_job_update(self, message: JobUpdate) -> None:
        await self.on_job_update(message)
        self._tell(message, JobGroupEvent.UPDATE, message.update)

    async def _handle_stream_start(self, message: BusJobStreamStartMessage) -> None:
        await self.on_job_stream_start(message)
        self._tell(message, JobGroupEvent.STREAM_START, message.data)

    async def _handle_stream_data(self, message: BusJobStreamDataMessage) -> None:
        await self.on_job_stream_data(message)
        self._tell(message, JobGroupEvent.STREAM_DATA, message.data)

    async def _handle_stream_end(self, message: BusJobStreamEndMessage) -> None:
        await self.on_job_stream_end(message)
        self._tell(message, JobGroupEvent.STREAM_END, message.data)
        group = self._group(message)
        if group is not None:
            await self._take_response(group, message.source, message.data)

    def _tell(self, message: BusMessage, kind: str, data: Payload | None) -> None:
        group = self._group(message)
        if group is not None:
            group.events.put_nowait(JobGroupEvent(kind, message.source, data))

    async def _take_response(
        self, group: JobGroup, worker_name: str, response: Payload | None
    ) -> None:
        group.responses[worker_name] = response or {}
        if group.responses.keys() >= set(group.worker_names):
            self._groups.pop(group.job_id, None)
            group.finish()
            await self.on_job_completed(JobGroupResponse(group.job_id, group.responses))

    def _job_timed_out(self, job_id: str) -> None:
        self._cancel_group(job_id, "timeout")

    def _cancel_group(self, job_id: str, reason: str) -> None:
        group = self._groups.pop(job_id, None)
        if group is None:
            return
        for worker_name in group.worker_names:
            if worker_name not in group.responses:
                self.bus.send(
                    BusJobCancelMessage(
                        source=self.name, target=worker_name, job_id=job_id, reason=reason
                    )
                )
        group.finish(reason)


def _group_params(params: JobParams | None) -> JobGroupParams:
    params = params or JobParams()
    if isinstance(params, JobGroupParams):
        return params
    values = {one.name: getattr(params, one.name) for one in dataclasses.fields(params)}
    return JobGroupParams(**values)


async def _cancel(task: asyncio.Task[None]) -> None:
    if task is not asyncio.current_task():
        task.cancel()
        await asyncio.wait([task])


#: Or else nothing could wake or end a worker that is not active.
_ALWAYS_HANDLED = (
    BusActivateWorkerMessage,
    BusDeactivateWorkerMessage,
    BusEndWorkerMessage,
    BusCancelWorkerMessage,
)

_HANDLERS: dict[type[BusMessage], Callable[[BaseWorker, Any], Awaitable[None]]] = {
    BusActivateWorkerMessage: BaseWorker._handle_activate,
    BusDeactivateWorkerMessage: BaseWorker._handle_deactivate,
    BusEndWorkerMessage: BaseWorker._handle_end,
    BusCancelWorkerMessage: BaseWorker._handle_cancel,
    BusWorkerErrorMessage: BaseWorker._handle_error,
    BusWorkerLocalErrorMessage: BaseWorker._handle_error,
    BusJobRequestMessage: BaseWorker._handle_job_request,
    BusJobCancelMessage: BaseWorker._handle_job_cancel,
    BusJobUpdateRequestMessage: BaseWorker._handle_update_request,
    BusJobResponseMessage: BaseWorker._handle_job_response,
    BusJobResponseUrgentMessage: BaseWorker._handle_job_response,
    BusJobUpdateMessage: BaseWorker._handle_job_update,
    BusJobUpdateUrgentMessage: BaseWorker._handle_job_update,
    BusJobStreamStartMessage: BaseWorker._handle_stream_start,
    BusJobStreamDataMessage: BaseWorker._handle_stream_data,
    BusJobStreamEndMessage: BaseWorker._handle_stream_end,
}
