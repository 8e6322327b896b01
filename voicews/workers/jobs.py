"""Jobs: what one worker asks another to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from voicews.exceptions import ConfigurationError, InvalidState, VoicewsError
from voicews.workers.messages import BusJobRequestMessage, Payload

JobHandler = Callable[[BusJobRequestMessage], Awaitable[Payload | None]]
F = TypeVar("F", bound=Callable[..., Any])


class JobGroupError(VoicewsError):
    """A group of jobs has not come to its end: cancelled, failed, timed out."""


class JobError(JobGroupError):
    """A job has not come to its end: cancelled, failed, timed out."""


@dataclass(frozen=True, kw_only=True)
class JobParams:
    """What a job is: the handler's `name`, the `payload` for it.

    `timeout` (seconds) counts from the request, and includes waiting for the worker to be ready.
    `label` says to people what is being done. A job that is not `cancellable` goes on when somebody
    outside asks for its end; see `BaseWorker.request_cancel_job_group`.
    """

    name: str | None = None
    payload: Payload | None = None
    timeout: float | None = None
    label: str | None = None
    cancellable: bool = True


@dataclass(frozen=True, kw_only=True)
class JobGroupParams(JobParams):
    """The same job for several workers; with `cancel_on_error` one's failure is that of all."""

    cancel_on_error: bool = True


@dataclass(frozen=True)
class JobGroupEvent:
    """News of a job that runs, from the worker `worker_name`."""

    UPDATE: ClassVar[str] = "update"
    STREAM_START: ClassVar[str] = "stream_start"
    STREAM_DATA: ClassVar[str] = "stream_data"
    STREAM_END: ClassVar[str] = "stream_end"

    type: str
    worker_name: str
    data: Payload | None = None


JobEvent = JobGroupEvent


@dataclass(frozen=True)
class JobGroupResponse:
    """What the workers of a group have answered."""

    job_id: str
    responses: dict[str, Payload]


@dataclass(eq=False)
class JobGroup:
    """Jobs under way: one for each worker, under one id."""

    job_id: str
    worker_names: Sequence[str]
    cancel_on_error: bool = True
    label: str | None = None
    cancellable: bool = True
    #: What `wait` raises.
    failure: type[JobGroupError] = JobGroupError
    responses: dict[str, Payload] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    events: asyncio.Queue[JobGroupEvent | None] = field(default_factory=asyncio.Queue)
    error: str | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self, error: str | None = None) -> None:
        """It is over; `error` says why it went wrong. Only the first call has an effect."""
        if not self.done.is_set():
            self.error = error
            self.done.set()
            self.events.put_nowait(None)
            if self.timer is not None:
                self.timer.cancel()

    async def wait(self) -> None:
        """Wait until it is over. Raises its `failure` if it went wrong."""
        await self.done.wait()
        if self.error is not None:
            raise self.failure(self.error)


class JobOwner(Protocol):
    """What a job asks of the worker that it is done for."""

    async def start_job_group(
        self,
        worker_names: Sequence[str],
        params: JobGroupParams,
        *,
        failure: type[JobGroupError] = JobGroupError,
    ) -> JobGroup: ...

    async def cancel_job_group(self, job_id: str, *, reason: str | None = None) -> None: ...


class JobGroupContext:
    """`async with` waits for the jobs' end; `async for` inside of it gives their news.

    Leaving it by an exception cancels the jobs. Raises `JobGroupError` when they go wrong.
    """

    failure: ClassVar[type[JobGroupError]] = JobGroupError

    def __init__(
        self, worker: JobOwner, worker_names: Sequence[str], params: JobGroupParams
    ) -> None:
        self._worker = worker
        self._worker_names = worker_names
        self._params = params
        self._group: JobGroup | None = None

    @property
    def group(self) -> JobGroup:
        if self._group is None:
            raise InvalidState("expected a job that was entered with `async with`")
        return self._group

    @property
    def job_id(self) -> str:
        return self.group.job_id

    @property
    def responses(self) -> dict[str, Payload]:
        """What the workers have answered, by their names."""
        return self.group.responses

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobGroupEvent:
        event = await self.group.events.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        self._group = await self._worker.start_job_group(
            self._worker_names, self._params, failure=self.failure
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.group.wait()
        finally:
            # Nothing, if it is over.
            await self._worker.cancel_job_group(self.job_id, reason="the caller left")


class JobContext(JobGroupContext):
    """`async with` waits for the job's end; `async for` inside of it gives its news.

    Leaving it by an exception cancels the job. Raises `JobError` when it goes wrong.
    """

    failure = JobError

    @property
    def response(self) -> Payload:
        """What the worker has answered."""
        return self.responses.get(self._worker_names[0], {})


def job(*, name: str, sequential: bool = False) -> Callable[[F], F]:
    """Decorator: the method handles the job `name`, each in a task of its own.

    A dict that it returns answers the job; an exception fails it. `sequential` jobs take turns.
    """

    def mark(function: F) -> F:
        function.__dict__["voicews_job"] = (name, sequential)
        return function

    return mark


def collect_job_handlers(worker: object) -> dict[str, tuple[JobHandler, asyncio.Lock | None]]:
    """The handlers of a worker by the names of their jobs."""
    found: dict[str, tuple[JobHandler, asyncio.Lock | None]] = {}
    for attribute in dir(type(worker)):
        function = getattr(type(worker), attribute, None)
        marked = getattr(function, "__dict__", {}).get("voicews_job")
        if marked is not None:
            name, sequential = marked
            if name in found:
                raise ConfigurationError(f"expected one handler of the job {name!r}, found two")
            found[name] = (getattr(worker, attribute), asyncio.Lock() if sequential else None)
    return found
