"""Writes down what happens in sessions, in batches, without making anybody wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any

from django.db import IntegrityError
from django.db.models import Model

from voicews.sessions import store
from voicews.sessions.db_threads import CONNECTION_ERRORS, DatabaseThreads, records_database

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
                await self._database.run(partial(write_rows, batch))
            except CONNECTION_ERRORS as error:
                logger.warning("database error, %d timeline rows wait: %s", len(batch), error)
                self._waiting.extendleft(reversed(batch))
                pause_secs = RETRY_SECS
            except Exception:
                logger.exception("%d timeline rows are lost", len(batch))
            else:
                pause_secs = BATCH_SECS


def write_rows(rows: list[Model]) -> None:
    """Insert rows of any models, and take them out of the list when that is done.

    Rows that the database will never take are reported and left out. Raises only what is worth
    another try, with the rows that are left.
    """
    by_model: dict[type[Model], list[Model]] = {}
    for row in rows:
        by_model.setdefault(type(row), []).append(row)
    for model, batch in by_model.items():
        manager: Any = model._default_manager.using(store.database())
        _write_batch(manager, batch)
        rows[:] = [row for row in rows if type(row) is not model]


def _write_batch(manager: Any, batch: list[Model]) -> None:
    try:
        with store.atomic():
            manager.bulk_create(batch)
    except CONNECTION_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 - what is wrong with one row must not cost another
        if len(batch) > 1:
            middle = len(batch) // 2
            _write_batch(manager, batch[:middle])
            _write_batch(manager, batch[middle:])
        elif isinstance(error, IntegrityError):
            logger.info("a %s belongs to a session that is gone", type(batch[0]).__name__)
        else:
            # Not its text: that may quote the user.
            logger.warning(
                "call %s: a %s can't be stored: %s",
                getattr(batch[0], "session_id", ""),
                type(batch[0]).__name__,
                type(error).__name__,
            )


timeline = Timeline(records_database)
