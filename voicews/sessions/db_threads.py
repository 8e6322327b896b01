"""Threads that do the sessions' database work, so that no call ever waits for a query.

Django's own `sync_to_async` has one thread for the whole process: a slow view would hold up a
claim, and a slow claim every view. Each of ours keeps its connection from job to job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error, connections

T = TypeVar("T")

#: Pauses (seconds) before another try at a job that found SQLite locked.
RETRY_PAUSES_SECS = (0.005, 0.02, 0.05, 0.1, 0.2)


class DatabaseThreads:
    """Runs jobs, plain functions that use Django's models, in threads of its own.

    A job that fails is run once more on a new connection, because the old one may have been closed
    by the server or by a proxy: a job must be a transaction, or harmless to repeat. After an error
    no connection is kept.
    """

    def __init__(self, name: str, max_threads: int) -> None:
        self._executor = ThreadPoolExecutor(max_threads, thread_name_prefix=f"voicews-{name}")

    async def run(self, job: Callable[[], T]) -> T:
        """Wait for the job's result. Raises what it raises.

        The job is done even if the caller is cancelled meanwhile.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, _run, job)

    async def close_connections(self) -> None:
        """Close the connections of the threads that are idle: for tests that drop the database."""
        threads = len(self._executor._threads)
        await asyncio.gather(*(self.run(connections.close_all) for _ in range(threads)))


def _run(job: Callable[[], T]) -> T:
    for pause_secs in RETRY_PAUSES_SECS:
        try:
            return job()
        except Error as error:
            connections.close_all()
            if "locked" not in str(error):
                break
        # SQLite does not wait for every kind of lock; a shared in-memory database's for none.
        time.sleep(pause_secs)
    try:
        return job()
    except Error:
        connections.close_all()
        raise


#: For claims and what else changes a session. Threads start as needed: mostly there is one.
session_database = DatabaseThreads("sessions", 4)
#: A heartbeat never queues behind anything.
heartbeat_database = DatabaseThreads("heartbeat", 1)
