"""What workers say to each other over the bus.

The names of messages and fields, and which of them are system messages, are those of Pipecat 1.14,
so that a worker of either can be at the other end of a proxy.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, field
from typing import Any, Protocol

from voicews.frames import Direction, Frame

_ids = itertools.count(1)

#: What a message carries for the application: anything that JSON can say.
Payload = dict[str, Any]


class JobStatus(enum.StrEnum):
    """How a job ended: `FAILED` on the merits, `ERROR` by accident."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ERROR = "error"


class NamedWorker(Protocol):
    """A worker, as far as a message has to know it."""

    name: str


@dataclass(kw_only=True)
class BusMessage:
    """A message from the worker `source` to the worker `target`; None: to all.

    A subclass is either a `BusDataMessage`, which keeps its place among the others, or a
    `BusSystemMessage`, which overtakes them.
    """

    source: str
    target: str | None = None
    id: int = field(default_factory=lambda: next(_ids), compare=False)


class BusLocalMessage:
    """Mixin: stays in this process."""


@dataclass(kw_only=True)
class BusDataMessage(BusMessage):
    """Delivered in the order in which it was sent."""


@dataclass(kw_only=True)
class BusSystemMessage(BusMessage):
    """Delivered before data messages that wait."""


# --- frames -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class BusFrameMessage(BusDataMessage):
    """A frame from one worker's pipeline for another's."""

    frame: Frame
    direction: Direction = Direction.DOWNSTREAM
    bridge: str | None = None


@dataclass(kw_only=True)
class BusTTSSpeakMessage(BusDataMessage):
    """Asks a worker with a voice to say this; `append_to_context` counts it as the bot's words."""

    text: str
    append_to_context: bool = True


# --- life cycle -------------------------------------------------------------------------------


@dataclass(kw_only=True)
class BusActivateWorkerMessage(BusDataMessage):
    """The target takes part from now on."""

    args: Payload | None = None


@dataclass(kw_only=True)
class BusDeactivateWorkerMessage(BusDataMessage):
    """The target takes no part until it is activated again."""


@dataclass(kw_only=True)
class BusEndMessage(BusDataMessage):
    """Asks the runner to end all workers in order."""

    reason: str | None = None


@dataclass(kw_only=True)
class BusEndWorkerMessage(BusDataMessage):
    """The target ends, after what was sent to it before."""

    reason: str | None = None


@dataclass(kw_only=True)
class BusCancelMessage(BusSystemMessage):
    """Asks the runner to end all workers at once."""

    reason: str | None = None


@dataclass(kw_only=True)
class BusCancelWorkerMessage(BusSystemMessage):
    """The target ends at once."""

    reason: str | None = None


# --- registry and errors ----------------------------------------------------------------------


@dataclass(kw_only=True)
class WorkerRegistryEntry:
    """A worker in a `BusWorkerRegistryMessage`; `started_at` is in Unix seconds."""

    name: str
    parent: str | None = None
    active: bool = False
    bridged: bool = False
    started_at: float | None = None


@dataclass(kw_only=True)
class BusWorkerRegistryMessage(BusSystemMessage):
    """The workers that `runner` has ready; none: it has left."""

    runner: str
    workers: list[WorkerRegistryEntry]


@dataclass(kw_only=True)
class BusWorkerReadyMessage(BusDataMessage):
    """The source is ready; `started_at` is in Unix seconds."""

    runner: str
    parent: str | None = None
    active: bool = False
    bridged: bool = False
    started_at: float | None = None


@dataclass(kw_only=True)
class BusWorkerErrorMessage(BusSystemMessage):
    """Something went wrong in a worker that has no parent."""

    error: str


@dataclass(kw_only=True)
class BusWorkerLocalErrorMessage(BusSystemMessage, BusLocalMessage):
    """Something went wrong in a child: for its parent."""

    error: str


@dataclass(kw_only=True)
class BusAddWorkerMessage(BusSystemMessage, BusLocalMessage):
    """Asks the runner to take a worker in."""

    worker: NamedWorker


# --- jobs -------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class BusJobRequestMessage(BusDataMessage):
    """The target is asked to do something; `job_name` picks the handler."""

    job_id: str
    job_name: str | None = None
    payload: Payload | None = None


@dataclass(kw_only=True)
class BusJobResponseMessage(BusDataMessage):
    """The job is over."""

    job_id: str
    status: JobStatus
    response: Payload | None = None


@dataclass(kw_only=True)
class BusJobResponseUrgentMessage(BusSystemMessage):
    """The job is over; overtakes what was streamed before."""

    job_id: str
    status: JobStatus
    response: Payload | None = None


@dataclass(kw_only=True)
class BusJobUpdateMessage(BusDataMessage):
    """How far the job is."""

    job_id: str
    update: Payload | None = None


@dataclass(kw_only=True)
class BusJobUpdateUrgentMessage(BusSystemMessage):
    """How far the job is; overtakes what was sent before."""

    job_id: str
    update: Payload | None = None


@dataclass(kw_only=True)
class BusJobUpdateRequestMessage(BusDataMessage):
    """Asks how far the job is."""

    job_id: str


@dataclass(kw_only=True)
class BusJobCancelMessage(BusSystemMessage):
    """The job's result is not needed any more."""

    job_id: str
    reason: str | None = None


@dataclass(kw_only=True)
class BusJobStreamStartMessage(BusDataMessage):
    """The job's result comes in pieces."""

    job_id: str
    data: Payload | None = None


@dataclass(kw_only=True)
class BusJobStreamDataMessage(BusDataMessage):
    """A piece of the job's result."""

    job_id: str
    data: Payload | None = None


@dataclass(kw_only=True)
class BusJobStreamEndMessage(BusDataMessage):
    """The last piece of the job's result: the job is over."""

    job_id: str
    data: Payload | None = None


JobOver = BusJobResponseMessage | BusJobResponseUrgentMessage | BusJobStreamEndMessage
