"""Workers for the tests."""

from __future__ import annotations

import asyncio
from typing import Any

from voicews.workers import (
    BaseWorker,
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusMessage,
    JobError,
    Payload,
    job,
)


class Listener(BaseWorker):
    """Remembers what it hears."""

    def __init__(self, name: str = "voice", **options: Any) -> None:
        super().__init__(name, **options)
        self.heard: list[BusMessage] = []

    async def on_bus_message(self, message: BusMessage) -> None:
        self.heard.append(message)

    def of(self, kind: type[BusMessage]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def numbers(self) -> list[int]:
        """The numbers in the payloads that it heard."""
        return [
            message.payload["n"]
            for message in self.heard
            if isinstance(message, BusJobRequestMessage) and message.payload
        ]

    async def on_job_request(self, message: BusJobRequestMessage) -> Payload | None:
        return None


class Researcher(BaseWorker):
    """Does jobs, in the ways in which jobs can be done."""

    def __init__(self, name: str = "research", **options: Any) -> None:
        super().__init__(name, **options)
        self.cancelled: list[str] = []
        self.running = 0
        self.most_running = 0

    @job(name="double")
    async def double(self, message: BusJobRequestMessage) -> Payload:
        assert message.payload is not None
        return {"result": message.payload["n"] * 2}

    @job(name="stream")
    async def stream(self, message: BusJobRequestMessage) -> None:
        assert message.payload is not None
        await self.send_job_update(message.job_id, {"at": 0})
        await self.send_job_stream_start(message.job_id, {"of": message.payload["n"]})
        for n in range(message.payload["n"]):
            await self.send_job_stream_data(message.job_id, {"n": n})
        await self.send_job_stream_end(message.job_id, {"sum": sum(range(message.payload["n"]))})

    @job(name="forever")
    async def forever(self, message: BusJobRequestMessage) -> None:
        await asyncio.Event().wait()

    @job(name="broken")
    async def broken(self, message: BusJobRequestMessage) -> None:
        raise RuntimeError("a secret")

    @job(name="impossible")
    async def impossible(self, message: BusJobRequestMessage) -> None:
        raise JobError("nobody can do that")

    @job(name="in turn", sequential=True)
    async def in_turn(self, message: BusJobRequestMessage) -> Payload:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        return {}

    async def on_job_cancelled(self, message: BusJobCancelMessage) -> None:
        self.cancelled.append(message.job_id)
