"""SQLite, slowed down; see `tests.sessions.project.slow`."""

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import base

from tests.sessions.project.slow import slow_cursor


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with the wrapper on every connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(slow_cursor)
