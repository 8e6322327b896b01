"""Bots that write down who reaches them, with times that all processes of a host share."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from voicews.bots import Bot
from voicews.frames import (
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    ClientMessageFrame,
    Direction,
    Frame,
)


def log(session: object, event: str, detail: str = "") -> None:
    """Append one line, which is one write, to the log that all processes share."""
    entry = {
        "at": time.monotonic(),
        "pid": os.getpid(),
        "session": str(session),
        "event": event,
        "detail": detail,
    }
    descriptor = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(descriptor)


class Watched(Bot):
    """Writes down when a client begins and ceases to reach it, and what it says."""

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, ClientConnectedFrame):
            log(self.call_id, "attach")
        elif isinstance(frame, ClientDisconnectedFrame):
            log(self.call_id, "detach")
        super().process_frame(frame, direction)

    def on_start(self) -> None:
        log(self.call_id, "start")

    def on_message(self, message: ClientMessageFrame) -> object:
        log(self.call_id, "message", str(message.data))
        return os.getpid()

    def on_end(self, reason: str) -> None:
        log(self.call_id, "end", reason)


class Counter(Watched):
    """Counts what it is told, also when it moves to another process."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_message(self, message: ClientMessageFrame) -> object:
        self.count += 1
        log(self.call_id, "message", str(message.data))
        return {"pid": os.getpid(), "count": self.count}

    def save_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def restore_state(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])


class Diligent(Counter):
    """Has its state stored all the time."""

    save_state_interval_secs = 0.2


class Ponderous(Diligent):
    """Takes its time to save."""

    async def save_state(self) -> dict[str, Any]:  # type: ignore[override]  # either way
        state = super().save_state()
        await asyncio.sleep(0.3)
        return state


class Forgetful(Diligent):
    """Forgets what it has counted while its client is away."""

    save_state_interval_secs = 1.0

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        super().process_frame(frame, direction)
        if isinstance(frame, ClientDisconnectedFrame):
            asyncio.get_running_loop().call_later(0.5, self.forget)

    def forget(self) -> None:
        self.count = 0


class Leaver(Watched):
    """Hangs up with what it is told for a reason."""

    def on_message(self, message: ClientMessageFrame) -> object:
        self.hang_up(str(message.data))
        return None


class Scribe(Diligent):
    """Keeps what it is told."""

    said = ""

    def on_message(self, message: ClientMessageFrame) -> object:
        said, self.said = self.said, str(message.data)
        return said

    def save_state(self) -> dict[str, Any]:
        return {"said": self.said}

    def restore_state(self, state: dict[str, Any]) -> None:
        self.said = state["said"]
