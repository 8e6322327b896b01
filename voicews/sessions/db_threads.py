"""Threads that do the sessions' database work, so that no call ever waits for a query.

Django's own `sync_to_async` has one thread for the whole process: a slow view would hold up a
claim, and a slow claim every view.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from django.db import (
    Error,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    router,
)

from voicews.backoff import Backoff, BackoffPolicy
from voicews.models import VoiceSession

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Pauses (seconds) before another try at a job that found SQLite locked.
RETRY_PAUSES_SECS = (0.005, 0.02, 0.05, 0.1, 0.2)
#: How long a job may run, and how long it may wait for a thread: less than Daphne gives a socket.
JOB_TIMEOUT_SECS = 8.0
#: A thread that had nothing to do for so long ends, and so does its connection.
IDLE_SECS = 2.0
#: Errors that say something about the database's state, not about what it was asked. The third is
#: PostgreSQL's for a write to a server that has become a standby.
CONNECTION_ERRORS = (OperationalError, InterfaceError, InternalError)
#: Pauses (seconds) before another try to store what must be stored.
FIRST_RETRY_SECS, LONGEST_RETRY_SECS = 0.5, 10.0


#: How many jobs have been abandoned: a connection that is older than the last of them may be to a
#: server that is gone.
_abandoned = itertools.count(1)
_newest_abandoned = 0


class DatabaseTimeout(OperationalError):
    """The database did not answer within the job's deadline."""


class _Order(Generic[T]):
    """One job, and the future of its caller."""

    def __init__(self, job: Callable[[], T], timeout_secs: float) -> None:
        self.job = job
        self.timeout_secs = timeout_secs
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self.loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.started_at: float | None = None
        self.worker: _Worker | None = None
        self.is_abandoned = False
        self.is_done = False

    def finished(self, value: Any, error: BaseException | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.result.done():
            return
        if error is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)


class _Worker(threading.Thread):
    """One thread and its connections. A daemon: one that hangs must not hold up the exit."""

    def __init__(self, name: str, work: Callable[[_Worker], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.connection: Any = None
        self.newest_abandoned = 0

    def run(self) -> None:
        try:
            self.connection = connections[router.db_for_write(VoiceSession)]
            self._work(self)
        finally:
            connections.close_all()

    def break_connection(self) -> None:
        """Cancel the query in the driver, where that is possible: its result is not needed."""
        raw: Any = getattr(self.connection, "connection", None)
        # Each driver has its own error for a connection that is closed.
        with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)


class DatabaseThreads:
    """Runs jobs, plain functions that use Django's models, in threads of its own.

    A job that fails is run once more on a new connection, because the old one may have been closed
    by the server or by a proxy: a job must be a transaction, or harmless to repeat. After a job its
    connection is kept, or goes back to where it came from, as after a request (`CONN_MAX_AGE`,
    Django's pool). A job that runs longer than its deadline is abandoned with its thread and its
    connection: what it does may or may not be stored. Other connections are not used again then.
    """

    def __init__(self, name: str, max_threads: int, timeout_secs: float = JOB_TIMEOUT_SECS) -> None:
        self._name = f"voicews-{name}"
        self._max_threads = max_threads
        self._timeout_secs = timeout_secs
        self._changed = threading.Condition()
        self._orders: deque[_Order[Any]] = deque()
        self._workers: set[_Worker] = set()
        self._idle = 0

    @property
    def thread_count(self) -> int:
        """Threads that work or wait for work, without those that were abandoned."""
        return len(self._workers)

    async def run(self, job: Callable[[], T], timeout_secs: float | None = None) -> T:
        """Wait for the job's result. Raises what it raises, `DatabaseTimeout` after its deadline.

        The job is done even if the caller is cancelled meanwhile.
        """
        order = _Order(job, timeout_secs or self._timeout_secs)
        order.timer = order.loop.call_later(order.timeout_secs, self._check, order)
        with self._changed:
            self._orders.append(order)
            self._add_worker()
            self._changed.notify()
        return await order.result

    def _add_worker(self) -> None:
        if len(self._orders) > self._idle and len(self._workers) < self._max_threads:
            worker = _Worker(self._name, self._work)
            self._workers.add(worker)
            worker.start()

    def _check(self, order: _Order[Any]) -> None:
        """An order's time may be up."""
        global _newest_abandoned  # noqa: PLW0603 - what one notices is true for all
        with self._changed:
            if order.is_done:
                return
            if order.started_at is not None:
                left_secs = order.started_at + order.timeout_secs - time.monotonic()
                if left_secs > 0:
                    order.timer = order.loop.call_later(left_secs, self._check, order)
                    return
            order.is_abandoned = True
            if order.worker is None:
                self._orders.remove(order)
            else:
                _newest_abandoned = next(_abandoned)
                self._workers.discard(order.worker)
                order.worker.break_connection()
                self._add_worker()
        order.finished(None, DatabaseTimeout(f"no answer within {order.timeout_secs:g} s"))

    # --- in the threads ---------------------------------------------------------------------------

    def _work(self, worker: _Worker) -> None:
        while (order := self._next_order(worker)) is not None:
            value, error = None, None
            try:
                value = _run(order)
            except BaseException as raised:  # noqa: BLE001 - it is raised where it is waited for
                error = raised
            with self._changed:
                order.is_done = True
            with suppress(Exception):  # one that can't even be closed
                _give_back_connections()
            with suppress(RuntimeError):  # the event loop is closed
                order.loop.call_soon_threadsafe(order.finished, value, error)
            if order.is_abandoned:
                return

    def _next_order(self, worker: _Worker) -> _Order[Any] | None:
        """What is to be done next; None if there was nothing for long."""
        with self._changed:
            self._idle += 1
            try:
                if not self._changed.wait_for(lambda: self._orders, IDLE_SECS):
                    self._workers.discard(worker)
                    return None
                order = self._orders.popleft()
            finally:
                self._idle -= 1
            order.worker = worker
            order.started_at = time.monotonic()
            return order


def _run(order: _Order[T]) -> T:
    for pause_secs in RETRY_PAUSES_SECS:
        try:
            return _try(order)
        except Error as error:
            connections.close_all()
            if order.is_abandoned:
                raise
            if "locked" not in str(error):
                break
        # SQLite does not wait for every kind of lock; a shared in-memory database's for none.
        time.sleep(pause_secs)
    try:
        return _try(order)
    except Error:
        connections.close_all()
        raise


def _try(order: _Order[T]) -> T:
    worker = order.worker
    if worker is not None and worker.newest_abandoned != _newest_abandoned:
        worker.newest_abandoned = _newest_abandoned
        connections.close_all()
    _give_back_connections()
    # Connecting is what takes long when a server is gone: the caller may have given up by then.
    connections[router.db_for_write(VoiceSession)].ensure_connection()
    if order.is_abandoned:
        raise DatabaseTimeout("abandoned")
    return order.job()


def _give_back_connections() -> None:
    """What Django does before and after each request."""
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()


#: For claims and what else changes a session. Threads start as needed: mostly there is one.
session_database = DatabaseThreads("sessions", 4)
#: A heartbeat never queues behind anything.
heartbeat_database = DatabaseThreads("heartbeat", 1)
#: For what is written in batches, and for sweeps: no claim queues behind them.
records_database = DatabaseThreads("records", 1, 2 * JOB_TIMEOUT_SECS)
#: For pages and probes that look again and again.
polling_database = DatabaseThreads("polling", 2)


async def retry_until_stored(job: Callable[[], T]) -> T:
    """The job's result, however long the database is away. Raises what no waiting can mend."""
    backoff = Backoff(
        BackoffPolicy(first_delay_secs=FIRST_RETRY_SECS, max_delay_secs=LONGEST_RETRY_SECS)
    )
    while True:
        try:
            return await session_database.run(job)
        except CONNECTION_ERRORS as error:
            pause_secs = backoff.next_delay() or 0.0
            logger.warning("database error, retrying in %.1f s: %s", pause_secs, error)
        await asyncio.sleep(pause_secs)
