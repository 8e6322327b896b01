"""What happens in the server's process, one JSON object a line, for the tests to read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "SOCKETS_JOURNAL"


def note(event: str, call: object, **details: Any) -> None:
    """Append a line; `call` is a session's id, or another name of the call."""
    path = os.environ.get(VARIABLE)
    if path is None:
        return
    line = json.dumps({"event": event, "call": str(call), **details})
    with Path(path).open("a") as journal:
        journal.write(line + "\n")
