"""This server process among the others: its lease, its heartbeats, its end."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from voicews import signals
from voicews.close_codes import CloseCode
from voicews.conf import settings
from voicews.exceptions import Busy
from voicews.models import ServerProcess, VoiceSession
from voicews.sessions import store
from voicews.sessions.control import ControlChannel, Message
from voicews.sessions.db_threads import (
    heartbeat_database,
    records_database,
    session_database,
)
from voicews.sessions.event_log import record_event, send_signal
from voicews.sessions.live import LiveSessions, announce_end, live_sessions
from voicews.sessions.looplag import LoopLag
from voicews.sessions.rules import Lease
from voicews.sessions.store import Heartbeat
from voicews.sessions.takeover import Takeovers
from voicews.sessions.timeline import timeline
from voicews.sessions.warnings import warn_of_several_processes, warn_of_this_server

logger = logging.getLogger(__name__)

#: How long a drained process tries to say so to the database before it ends.
STOP_TIMEOUT_SECS = 10.0
#: Rows of processes that ended so long ago (seconds) are deleted.
FORGET_SECS = 24 * 3600.0
#: A phone call whose stream has not come so long (seconds) after its row was made has none: longer
#: than any token of a stream lasts, and than any phone rings.
PHONE_UNJOINED_SECS = 1800.0
LOG_INTERVAL_SECS = 1.0
#: The longest pause after a heartbeat that failed.
LONGEST_RETRY_SECS = 0.5


class ProcessState(enum.IntEnum):
    STARTING = 0
    RUNNING = 1
    #: Takes no new calls, and stops after the last one.
    DRAINING = 2
    STOPPED = 3


class Process:
    """One event loop's part in the sessions; see `this_process`."""

    def __init__(self, sessions: LiveSessions) -> None:
        self.state = ProcessState.STARTING
        self.lease = Lease(settings.LEASE_SECS)
        self.live_sessions = sessions
        self.control = ControlChannel(self._handle, self._tell_soon)
        self.loop_lag = LoopLag()
        self.grace_secs = settings.RECONNECT_GRACE_SECS
        self._row = ServerProcess(
            id=uuid.uuid4(),
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            capacity=self.capacity,
        )
        self.takeovers = Takeovers(self.id, self.lease, self.control, sessions, self.grace_secs)
        #: Set while the lease lasts.
        self._leased = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._beat_now = asyncio.Event()
        #: When (monotonic seconds) the first of the heartbeats began that have failed since.
        self.heartbeat_failed_since: float | None = None
        self._lease_watch: asyncio.TimerHandle | None = None
        self._suspended = False
        self._began_at = monotonic()
        self._sweep_at = 0.0
        self._logged_at = float("-inf")
        self._handlers: dict[str, Callable[[Message], object]] = {
            "claimed": self._claimed,
            "released": lambda message: self.takeovers.released(UUID(message["session"])),
            "challenge": self.takeovers.answer_challenge,
            "end": self._end_asked,
            "drain": lambda message: self.drain_soon(),
            "ping": self.control.answer,
        }
        self._at_start: list[Callable[[], object]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def id(self) -> UUID:
        return self._row.pk

    @property
    def is_draining(self) -> bool:
        return self.state >= ProcessState.DRAINING

    @property
    def has_lease(self) -> bool:
        return self.lease.is_valid(monotonic())

    @property
    def is_full(self) -> bool:
        return self.capacity is not None and len(self.live_sessions) >= self.capacity

    @property
    def capacity(self) -> int | None:
        """Sessions that it takes; None: no limit."""
        return settings.MAX_SESSIONS_PER_PROCESS

    @property
    def takes_calls(self) -> bool:
        """What a load balancer wants to know: yes, until it has found out that it can't."""
        if self.state is ProcessState.STARTING:
            return True
        return self.state is ProcessState.RUNNING and self.has_lease and not self.is_full

    async def started(self, timeout_secs: float | None = None) -> None:
        """Wait until this process is known to the others, and may take calls.

        Raises `Busy` if it can't be within `timeout_secs` (default: a lease).
        """
        if self._beating is None:
            self._start()
        if self.has_lease:
            return
        try:
            async with asyncio.timeout(timeout_secs or self.lease.secs):
                while not self.has_lease:
                    # It may run out again before a waiter has its turn.
                    self._leased.clear()
                    await self._leased.wait()
        except TimeoutError:
            raise Busy("the server is not ready") from None

    def check_room(self, session_id: UUID) -> None:
        """Raise `Busy` if this process takes no call more; those that it has may come back."""
        if self.live_sessions.get(session_id) is not None:
            return
        if self.is_draining:
            raise Busy("the server restarts", CloseCode.SERVER_RESTARTING)
        if self.is_full:
            raise Busy("the server is full")

    def on_message(self, op: str, handler: Callable[[Message], object]) -> None:
        """Call `handler(message)` for each control message `op`."""
        self._handlers[op] = handler

    def on_start(self, handler: Callable[[], object]) -> None:
        """Call `handler()` when the process takes its first call, on the event loop."""
        self._at_start.append(handler)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._beating = loop.create_task(self._beat_for_ever())
        self.control.start()
        self.loop_lag.start()
        for handler in self._at_start:
            handler()
        warn_of_this_server()

    # --- heartbeats -------------------------------------------------------------------------------

    def _tell_soon(self) -> None:
        """Have the others know soon what has changed here."""
        self._beat_now.set()

    async def _beat_for_ever(self) -> None:
        await self.control.wait_open()
        while self.state is not ProcessState.STOPPED:
            self._beat_now.clear()
            began_at = monotonic()
            pause_secs = self.lease.heartbeat_secs
            try:
                await self._beat()
                self.heartbeat_failed_since = None
            except Exception as error:  # noqa: BLE001 - the next one may do better
                if self.heartbeat_failed_since is None:
                    self.heartbeat_failed_since = began_at
                pause_secs = min(pause_secs, LONGEST_RETRY_SECS)
                self._log("heartbeat failed: %r", error)
            # From its beginning: one that hung is followed by the next at once.
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._loop_time(began_at + pause_secs)):
                    await self._beat_now.wait()

    @staticmethod
    def _loop_time(at: float) -> float:
        """A time of `monotonic()` as the event loop's clock has it."""
        return asyncio.get_running_loop().time() + at - monotonic()

    async def _beat(self) -> None:
        row = self._row
        row.channel = self.control.name
        row.live_sessions = len(self.live_sessions)
        row.draining = self.is_draining
        sent_at = monotonic()
        beat = await heartbeat_database.run(
            partial(store.heartbeat, row, self.lease.secs), self.lease.heartbeat_timeout_secs
        )
        contiguous = self.lease.renewed(sent_at, monotonic()) and not beat.was_forgotten
        if not contiguous:
            await self._regain(sent_at)
        self._watch_lease()
        if self.state is ProcessState.STARTING:
            self.state = ProcessState.RUNNING
        if self.has_lease:
            self._leased.set()
        self._obey(beat)
        # Who was cut off itself is in no position to give others up.
        if contiguous and sent_at >= self._sweep_at:
            self._sweep_at = sent_at + self.lease.secs / 2
            self._spawn(self._sweep())

    def _obey(self, beat: Heartbeat) -> None:
        for session_id, epoch in beat.superseded:
            self.takeovers.let_go_soon(session_id, epoch)
        for request in beat.end_requests:
            self.takeovers.end_soon(request.session, request.close_code, request.reason)
        if beat.draining and not self.is_draining:
            self.drain_soon()
        warn_of_several_processes(
            beat.live_processes, monotonic() - self._began_at, self.lease.secs
        )

    async def _regain(self, sent_at: float) -> None:
        """Find out which sessions are still our own, then go on with them."""
        held = [
            (live, live.epoch, live.connection.row_id if live.connection is not None else None)
            for live in self.live_sessions
        ]
        asked = [(live.row.pk, epoch, connection) for live, epoch, connection in held]
        own = await heartbeat_database.run(
            partial(store.regain, self.id, asked), self.lease.heartbeat_timeout_secs
        )
        for live, epoch, _connection in held:
            is_ours = own.get(live.row.pk)
            if is_ours is None:
                logger.warning("call %s: another process has taken it over", live.row.pk)
                live.abandon()
            elif not is_ours:
                self.takeovers.let_go_soon(live.row.pk, epoch + 1)
        self.lease.confirmed(sent_at)
        if self._suspended and self.has_lease:
            self._suspended = False
            logger.warning("the lease holds again: %d calls go on", len(self.live_sessions))
            send_signal(signals.process_resumed, ServerProcess, process=self._row)

    def _watch_lease(self) -> None:
        if self._lease_watch is not None:
            self._lease_watch.cancel()
        self._lease_watch = asyncio.get_running_loop().call_later(
            self.lease.valid_until - monotonic(), self._lease_ran_out
        )

    def _lease_ran_out(self) -> None:
        if self.has_lease or self._suspended or self.state is ProcessState.STOPPED:
            return
        self._suspended = True
        logger.error(
            "the lease ran out: %d calls are suspended until the database answers",
            len(self.live_sessions),
        )
        send_signal(signals.process_suspended, ServerProcess, process=self._row)

    async def _sweep(self) -> None:
        try:
            held = await records_database.run(partial(store.held_by, self.id))
            swept = await records_database.run(
                partial(
                    store.sweep,
                    self.lease.secs,
                    self.grace_secs,
                    FORGET_SECS,
                    settings.TOKEN_MAX_AGE_SECS + self.lease.secs,
                    PHONE_UNJOINED_SECS,
                )
            )
        except Exception as error:  # noqa: BLE001 - the next one may do better
            self._log("could not sweep: %r", error)
            return
        self.takeovers.settle_soon(held)
        for session_id in swept.lost:
            logger.warning("call %s: %s", session_id, store.PROCESS_LOST)
            row = VoiceSession(pk=session_id)
            record_event(
                row,
                store.EventKind.INTERRUPTED,
                close_code=CloseCode.ABNORMAL,
                detail=store.PROCESS_LOST,
            )
            send_signal(signals.session_lost, VoiceSession, session_id=session_id)
        for session in swept.ended:
            announce_end(session)

    # --- what others want -------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        handler = self._handlers.get(message.get("op", ""))
        if handler is not None:
            handler(message)

    def _claimed(self, message: Message) -> None:
        self.takeovers.let_go_soon(
            UUID(message["session"]), int(message["epoch"]), message["reply_to"]
        )

    def _end_asked(self, message: Message) -> None:
        self.takeovers.end_soon(
            UUID(message["session"]), int(message["code"]), str(message["reason"])
        )

    # --- the end ----------------------------------------------------------------------------------

    def drain_soon(self) -> asyncio.Task[None] | None:
        """Take no new calls, and stop when those that run are over. Does not wait."""
        if self.is_draining:
            return None
        self.state = ProcessState.DRAINING
        self._beat_now.set()
        return self._spawn(self._drain())

    async def _drain(self) -> None:
        logger.info("draining: %d calls run", len(self.live_sessions))
        send_signal(signals.process_draining, ServerProcess, process=self._row)
        await self.live_sessions.wait_empty(settings.DRAIN_TIMEOUT_SECS)
        for live in self.live_sessions:
            self._spawn(self._move(live))
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECS):
                await self.live_sessions.wait_empty(STOP_TIMEOUT_SECS)
                await timeline.flush()
                self.state = ProcessState.STOPPED
                if self._beating is not None:
                    self._beat_now.set()
                    await asyncio.wait([self._beating])
                await session_database.run(partial(store.stop, self.id))
        except Exception as error:  # noqa: BLE001 - the lease runs out by itself
            logger.warning("could not store that this process ends: %r", error)
        self.state = ProcessState.STOPPED
        logger.info("drained")

    async def _move(self, live: Any) -> None:
        async with self.live_sessions.lock(live.row.pk):
            await live.release(CloseCode.SERVER_RESTARTING, "server restarts", self.grace_secs)

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _log(self, text: str, error: Exception) -> None:
        now = monotonic()
        if now - self._logged_at >= LOG_INTERVAL_SECS:
            self._logged_at = now
            logger.warning(text, error)


_processes: WeakKeyDictionary[asyncio.AbstractEventLoop, Process] = WeakKeyDictionary()
_extensions: list[Callable[[Process], object]] = []


def extend_processes(extend: Callable[[Process], object]) -> None:
    """Call `extend(process)` for each process that begins: it answers messages, say."""
    if extend not in _extensions:
        _extensions.append(extend)


def this_process() -> Process:
    """The one of the running event loop: a server has one."""
    loop = asyncio.get_running_loop()
    process = _processes.get(loop)
    if process is None:
        process = _processes[loop] = Process(live_sessions)
        for extend in _extensions:
            extend(process)
    return process
