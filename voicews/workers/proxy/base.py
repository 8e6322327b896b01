"""What both proxies are: a worker that stands here for one on another host."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any, ClassVar

from voicews.close_codes import CloseCode
from voicews.exceptions import InvalidMessage, NotAllowed, UnknownMessage
from voicews.signals import EventHandler, EventSource
from voicews.transports.writer import Socket
from voicews.workers.messages import (
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusJobResponseUrgentMessage,
    BusJobStreamDataMessage,
    BusJobStreamStartMessage,
    BusLocalMessage,
    BusMessage,
    BusWorkerRegistryMessage,
    JobOver,
    JobStatus,
    WorkerRegistryEntry,
)
from voicews.workers.outbox import MAX_MESSAGE_BYTES, Outbox
from voicews.workers.proxy.link import Link, Lost
from voicews.workers.registry import WorkerReadyData
from voicews.workers.serializers import JSONMessageSerializer, MessageSerializer
from voicews.workers.worker import BaseWorker

logger = logging.getLogger(__name__)

LOG_INTERVAL_SECS = 1.0
#: How long (seconds) the last messages of a proxy that ends have to leave, and a peer to say bye.
CLOSE_TIMEOUT_SECS = 0.5
#: A peer that confirms nothing may have a queue in which a cancel overtakes its request: Pipecat's
#: has. So long (seconds) after it, the request has been taken out.
CANCEL_DELAY_SECS = 0.25
#: Types of messages whose refusals are counted one by one; the rest are counted together.
MAX_REFUSED_TYPES = 100
OTHER_TYPES = "others"


class ProxyWorker(BaseWorker):
    """What both proxies are.

    * Out go messages whose target is `remote`, and those of the types `forward_messages` whose
      source is `local`; never a `BusLocalMessage`.
    * In come messages whose target is `local`, those of the types `forward_messages` whatever
      their target, and the announcement of `remote`. Anything else is refused and counted. So
      forward only types that any worker here may get from the remote.

    What can't leave waits, in a queue of `max_queued_messages`: the oldest data messages make room
    for new ones, system messages go first and are dropped last. The bus never waits.

    A message may have `max_message_bytes` (8 MiB by default, 1 MiB to a client of another kind). A
    longer one, and one that can't be written, is dropped, and its job gets an error.

    A message of a type that the serializer doesn't know is refused and counted by its type; after
    `max_invalid_messages` in a row that are no messages at all the link is closed with 1007.

    A link that is lost for good fails the jobs that were under way over it: who asked gets an
    error, who works on it a cancel.
    """

    events: ClassVar[frozenset[str]] = frozenset()
    #: Whether a peer that gives no sign of life is left; otherwise the socket's pings see to that.
    leaves_silent_peer: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        local: str,
        remote: str,
        forward_messages: tuple[type[BusMessage], ...] = (),
        serializer: MessageSerializer | None = None,
        active: bool = True,
        max_queued_messages: int = 1000,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        heartbeat_secs: float = 5.0,
        write_timeout_secs: float = 10.0,
        max_invalid_messages: int = 10,
    ) -> None:
        super().__init__(name, active=active)
        self._local = local
        self._remote = remote
        self._forward_messages = forward_messages
        self._serializer: MessageSerializer = serializer or JSONMessageSerializer()
        self._outbox = Outbox(max_queued_messages, 2 * max_message_bytes)
        self._link = Link(self._outbox, heartbeat_secs, max_message_bytes)
        self._max_message_bytes = max_message_bytes
        self._heartbeat_secs = heartbeat_secs
        self._write_timeout_secs = write_timeout_secs
        self._max_invalid_messages = max_invalid_messages
        self._events = EventSource(self, self.events, role="worker")
        self._socket: Socket | None = None
        self._writer: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._heard_at = 0.0
        self._invalid_in_a_row = 0
        self._refusal_logged_at = float("-inf")
        self._remote_runner = ""
        #: Bus messages let in.
        self.received_messages = 0
        #: Messages of the remote that were not let in, and ours that can't be written.
        self.refused_messages = 0
        #: Of those, how many were of each type that the serializer doesn't know.
        self.refused_types: Counter[str] = Counter()

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    @property
    def sent_messages(self) -> int:
        """Messages written; after a resumed link, written again counts."""
        return self._link.sent_messages

    @property
    def dropped_messages(self) -> int:
        """Messages to the remote that were dropped: the queue was full, or the link was lost."""
        return self._outbox.dropped_messages

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be sent."""
        return len(self._outbox)

    def event_handler(self, name: str) -> Any:
        """Decorator: call a function for each event `name` of this proxy.

        Raises `ConfigurationError` for an event that it doesn't have.
        """

        def connect(handler: EventHandler) -> EventHandler:
            self._events.connect(name, handler)
            return handler

        return connect

    # --- out ------------------------------------------------------------------------------------

    def deliver(self, message: BusMessage) -> None:
        """Called by the bus for every message: forwards it if it is for the other side."""
        if self._stopped or not self._leaves(message):
            super().deliver(message)
        elif self.active:
            self._send(message)
        else:
            self._outbox.dropped_messages += 1
            self._not_sent(message)

    def _leaves(self, message: BusMessage) -> bool:
        if isinstance(message, BusLocalMessage):
            return False
        if message.target == self._remote:
            return True
        return isinstance(message, self._forward_messages) and message.source == self._local

    def _send(self, message: BusMessage) -> None:
        try:
            data = self._serializer.serialize(message)
        except InvalidMessage as error:
            self._refuse(f"a {type(message).__name__} of ours can't be written: {error}")
            self._unsendable(message, "it can't be written")
            return
        limit = self._link.peer_max_message_bytes
        if len(data) > limit:
            self._too_long(message, limit)
        elif (delay_secs := self._cancel_delay_secs(message)) > 0:
            asyncio.get_running_loop().call_later(delay_secs, self._put, message, data)
        else:
            self._put(message, data)

    def _cancel_delay_secs(self, message: BusMessage) -> float:
        if not isinstance(message, BusJobCancelMessage) or self._link.confirms:
            return 0.0
        return CANCEL_DELAY_SECS - self._link.asked_secs_ago(message.job_id)

    def _put(self, message: BusMessage, data: bytes) -> None:
        for dropped in self._outbox.put(message, data):
            self._not_sent(dropped)
        self._is_idle.clear()
        self._has_work.set()

    def _not_sent(self, message: BusMessage) -> None:
        if isinstance(message, BusJobRequestMessage):
            self._fail_job(message, f"{self.name}: the request could not be sent")

    def _too_long(self, message: BusMessage, limit: int) -> None:
        self._outbox.dropped_messages += 1
        kind = type(message).__name__
        logger.warning("worker %s: a %s of more than %d bytes was dropped", self.name, kind, limit)
        self._unsendable(message, f"it has more than {limit} bytes")

    def _unsendable(self, message: BusMessage, why: str) -> None:
        """A message will never leave: its job must not wait for it."""
        error = f"{self.name}: a {type(message).__name__} could not be sent: {why}"
        if isinstance(message, BusJobRequestMessage):
            self._fail_job(message, error)
        elif isinstance(message, _ANSWERS):
            self._send(
                BusJobResponseUrgentMessage(
                    source=message.source,
                    target=message.target,
                    job_id=message.job_id,
                    status=JobStatus.ERROR,
                    response={"error": error},
                )
            )
            if not isinstance(message, JobOver):
                # A stream with a hole in it is of no use to anybody.
                self._cancel_job(message.job_id, error)

    async def _write(self, socket: Socket) -> None:
        try:
            while True:
                await self._has_work.wait()
                data = self._link.next()
                if data is None:
                    self._has_work.clear()
                    self._is_idle.set()
                    continue
                async with asyncio.timeout(self._write_timeout_secs):
                    await socket.send(data)
        except Exception as error:  # noqa: BLE001 - each server has its own for "the peer is gone"
            logger.info("worker %s: can't write: %s", self.name, type(error).__name__)
            socket.abort()

    def _say_received(self) -> None:
        self._link.say_received()
        self._has_work.set()

    # --- in -------------------------------------------------------------------------------------

    def _take(self, data: str | bytes) -> None:
        """Take one message of the remote. Closes the link when too many in a row are bad."""
        self._heard_at = asyncio.get_running_loop().time()
        try:
            if isinstance(data, str):
                data = data.encode(errors="replace")
            if self._link.is_control(data):
                self._take_control(data)
                return
            if self._link.count():
                self._say_received()
            message = self._serializer.deserialize(data)
        except UnknownMessage as error:
            self._invalid_in_a_row = 0
            is_counted = len(self.refused_types) < MAX_REFUSED_TYPES
            known = is_counted or error.type_name in self.refused_types
            self.refused_types[error.type_name if known else OTHER_TYPES] += 1
            self._refuse(str(error))
            return
        except InvalidMessage as error:
            self._refuse(str(error))
            self._invalid_in_a_row += 1
            if self._invalid_in_a_row == self._max_invalid_messages:
                self._drop_link(CloseCode.BAD_DATA, "too many invalid messages")
            return
        self._invalid_in_a_row = 0
        if message is None:
            return
        try:
            self._check(message)
        except NotAllowed as error:
            self._refuse(str(error))
            return
        self.received_messages += 1
        self._link.admit(message)
        self.bus.send(message)

    def _check(self, message: BusMessage) -> None:
        """Raise `NotAllowed` for a message that may not enter."""
        if isinstance(message, BusLocalMessage):
            raise NotAllowed(f"expected a message that may leave, found {type(message).__name__}")
        if isinstance(message, BusWorkerRegistryMessage):
            # One that could announce any worker could take any worker's place.
            names = {entry.name for entry in message.workers}
            if names != {self._remote} or message.runner == self.registry.runner_name:
                raise NotAllowed("expected the remote worker alone to be announced")
            self._remote_runner = message.runner
            return
        # Without a target it would reach every worker: with one it reaches fewer.
        forwarded = isinstance(message, self._forward_messages)
        if not forwarded and message.target != self._local:
            raise NotAllowed("expected a message to the local worker, found another target")

    def _take_control(self, data: bytes) -> None:
        hello = self._link.take_control(data)
        if hello is not None:
            try:
                lost = self._link.greet(hello)
            except InvalidMessage:
                # The two don't agree on what was sent: there is nothing to go on from.
                self._drop_link(CloseCode.BAD_DATA, "the link can't be resumed")
                raise
            if lost is not None:
                self._report_lost(lost)
            limit = self._link.peer_max_message_bytes
            for message in self._outbox.drop_longer(limit):
                self._unsendable(message, f"it has more than {limit} bytes")
            self._announce()
        self._has_work.set()

    def _refuse(self, why: str) -> None:
        self.refused_messages += 1
        now = asyncio.get_running_loop().time()
        if now - self._refusal_logged_at >= LOG_INTERVAL_SECS:
            self._refusal_logged_at = now
            logger.warning(
                "worker %s: a message was refused: %s (%d so far)",
                self.name,
                why,
                self.refused_messages,
            )

    # --- life cycle -----------------------------------------------------------------------------

    async def start(self) -> None:
        self._heartbeat = asyncio.get_running_loop().create_task(self._watch_heartbeat())
        await super().start()
        await self.watch_workers(self._local)

    async def stop(self) -> None:
        if self._stopped:
            return
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        await self._end_link()
        await super().stop()
        self._events.disconnect_all()

    async def _end_link(self) -> None:
        """Let the last messages leave, and go."""
        await self._unlink()
        if self._runner is not None:
            self._report_lost(self._link.give_up())

    async def _unlink(self) -> None:
        """Let go of the socket for good; `_flush` comes first."""
        raise NotImplementedError

    # --- the socket -----------------------------------------------------------------------------

    def _attach(self, socket: Socket, *, confirms: bool, resumed: bool | None = None) -> None:
        """A socket is there."""
        self._socket = socket
        self._link.attach(confirms=confirms, resumed=resumed)
        self._invalid_in_a_row = 0
        self._heard_at = asyncio.get_running_loop().time()
        if not confirms:
            self._restart_link()
        self._has_work.set()
        self._writer = asyncio.get_running_loop().create_task(self._write(socket))

    def _detach(self) -> None:
        """The socket is gone."""
        self._socket = None
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        if self._runner is not None:
            self.registry.forget(self._remote, self._remote_runner)

    def _drop_link(self, code: int, reason: str) -> None:
        """Close the socket, whose reader will notice. Does not wait."""
        socket = self._socket
        if socket is None:
            return

        async def close() -> None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_SECS):
                    await socket.close(code, reason)
            except Exception as error:  # noqa: BLE001 - the peer was faster
                logger.debug("worker %s: closing: %s", self.name, type(error).__name__)
            socket.abort()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _restart_link(self) -> None:
        self._report_lost(self._link.restart())

    def _report_lost(self, lost: Lost) -> None:
        """Fail the jobs that were under way over the link."""
        if lost.messages:
            logger.warning("worker %s: %d messages were lost", self.name, len(lost.messages))
        for request in lost.asked:
            self._fail_job(request, f"{self.name}: the connection was lost")
        for job_id in lost.doing:
            self._cancel_job(job_id, "the connection was lost")

    def _cancel_job(self, job_id: str, reason: str) -> None:
        self.bus.send(
            BusJobCancelMessage(
                source=self._remote, target=self._local, job_id=job_id, reason=reason
            )
        )

    def _fail_job(self, request: BusJobRequestMessage, error: str) -> None:
        self.bus.send(
            BusJobResponseUrgentMessage(
                source=self._remote,
                target=request.source,
                job_id=request.job_id,
                status=JobStatus.ERROR,
                response={"error": error},
            )
        )

    def _announce(self) -> None:
        """Tell the peer that the local worker is ready."""
        if self._socket is not None and self._local in self.registry.local_workers:
            entry = WorkerRegistryEntry(name=self._local, active=True)
            self._send(
                BusWorkerRegistryMessage(
                    source=self.name, runner=self.registry.runner_name, workers=[entry]
                )
            )

    async def on_worker_ready(self, data: WorkerReadyData) -> None:
        """The local worker is ready."""
        # A peer that has not said where it is yet is told when it has.
        if data.worker_name == self._local and self._link.is_greeted:
            self._announce()

    async def _watch_heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_secs)
            if self._socket is None or not self._link.confirms:
                continue
            silent_secs = asyncio.get_running_loop().time() - self._heard_at
            if self.leaves_silent_peer and silent_secs > self._link.patience_secs:
                logger.warning("worker %s: nothing received for %.1f s", self.name, silent_secs)
                self._socket.abort()
            elif self._link.is_greeted:
                self._say_received()

    async def _flush(self) -> None:
        """Let the last messages leave, if they can soon."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECS):
                if self._socket is not None and self._link.is_greeted:
                    await self._is_idle.wait()
        except TimeoutError:
            logger.info("worker %s: %d messages stay behind", self.name, len(self._outbox))


#: Messages that the requester of a job waits for.
_ANSWERS = JobOver | BusJobStreamStartMessage | BusJobStreamDataMessage
