"""Threads that do the sessions' database work, so that no call ever waits for a query.

Django's own `sync_to_async` has one thread for the whole process: a slow view would hold up a
claim, and a slow claim every view. Each of ours keeps its connection from job to job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error, connections

logger = logging.getLogger(__name__)

T = TypeVar("T")


class DatabaseThreads:
    """Runs jobs, plain functions that use Django's models, in threads of its own.

    A job that fails is run once more on a new connection, because the old one may have been closed
    by the server or by a proxy: a job must be a transaction, or harmless to repeat.
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
    try:
        return job()
    except Error:
        connections.close_all()
        return job()
    finally:
        # With autocommit off, or after an error that Django has not seen, it can't be used again.
        for connection in connections.all(initialized_only=True):
            if connection.errors_occurred:
                connection.close()


#: For claims and what else changes a session. Threads start as needed: mostly there is one.
session_database = DatabaseThreads("sessions", 4)
#: A heartbeat never queues behind anything.
heartbeat_database = DatabaseThreads("heartbeat", 1)
