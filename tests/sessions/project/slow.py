"""A database that takes its time: every statement waits as long as a file says (seconds)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def wait() -> None:
    text = Path(os.environ["TEST_DATABASE_DELAY_FILE"]).read_text().strip()
    if text:
        time.sleep(float(text))


def slow_cursor(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    """A wrapper of Django's for each statement."""
    wait()
    return execute(sql, params, many, context)
