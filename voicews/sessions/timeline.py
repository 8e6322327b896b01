"""Writes down what happens in sessions, in batches, without making anybody wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from django.db import DataError, IntegrityError
from django.db import Error as DatabaseError
from django.db.models import Model

from voicews.sessions import store
from voicews.sessions.db_threads import DatabaseThreads, records_database

logger = logging.getLogger(__name__)

#: What is written may be so old (seconds) if the database is well.
BATCH_SECS = 0.25
RETRY_SECS = 2.0
MAX_BATCH_ROWS = 500
#: Rows that may wait for a database that is away; beyond it the oldest go.
MAX_WAITING_ROWS = 20_000


class Timeline:
    """Rows that are only ever added: events and transcripts. Used on the event loop."""

    def __init__(self, database: DatabaseThreads) -> None:
        self._database = database
        self._waiting: deque[Model] = deque(maxlen=MAX_WAITING_ROWS)
        self._writer: asyncio.Task[None] | None = None

    def add(self, row: Model) -> None:
        """Have a row written soon. Does not wait."""
        self._waiting.append(row)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def flush(self) -> None:
        """Wait until everything that was added before is written, or can't be."""
        if self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        pause_secs = BATCH_SECS
        while self._waiting:
            await asyncio.sleep(pause_secs)
            count = min(len(self._waiting), MAX_BATCH_ROWS)
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                await self._database.run(lambda batch=batch: write_rows(batch))  # type: ignore[misc]
            except DatabaseError as error:
                logger.warning("%d rows of session timelines wait: %s", count, error)
                self._waiting.extendleft(reversed(batch))
                pause_secs = RETRY_SECS
            else:
                pause_secs = BATCH_SECS


def write_rows(rows: list[Model]) -> None:
    """Insert rows of any models; those that the database will never take are left out.

    Such are the rows of sessions that have been deleted.
    """
    by_model: dict[type[Model], list[Model]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    for model, batch in by_model.items():
        manager: Any = model._default_manager.using(store.database())
        try:
            with store.atomic():
                manager.bulk_create(batch)
        except (IntegrityError, DataError):
            for row in batch:
                _write_row(manager, row)


def _write_row(manager: Any, row: Model) -> None:
    try:
        with store.atomic():
            manager.bulk_create([row])
    except IntegrityError:
        logger.info("a %s belongs to a session that is gone", type(row).__name__)
    except DataError as error:
        logger.warning("a %s can't be stored: %s", type(row).__name__, error)


timeline = Timeline(records_database)
