"""A worker behind a `ProxyConsumer`, as a process of its own.

``python -m tests.workers.remote PORT`` serves it until the process is ended. Each ``count`` job has
the worker send so many numbered messages of its own; each ``report`` job says what it has heard.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import django

TOKEN = "a token for the tests"


def research_application() -> Any:
    """The ASGI application; needs Django's apps."""
    from voicews.workers import BaseWorker, BusJobRequestMessage, BusJobUpdateMessage, Payload, job
    from voicews.workers.consumers import ProxyConsumer

    class Counter(BaseWorker):
        def __init__(self) -> None:
            super().__init__("research")
            self.heard: list[int] = []

        @job(name="number")
        async def number(self, message: BusJobRequestMessage) -> Payload:
            assert message.payload is not None
            self.heard.append(message.payload["n"])
            return {"n": message.payload["n"]}

        @job(name="count")
        async def count(self, message: BusJobRequestMessage) -> Payload:
            assert message.payload is not None
            for n in range(message.payload["to"]):
                update = BusJobUpdateMessage(
                    source=self.name, target="voice", job_id="count", update={"n": n}
                )
                await self.send_bus_message(update)
                await asyncio.sleep(message.payload["every_secs"])
            return {}

        @job(name="forever")
        async def forever(self, message: BusJobRequestMessage) -> None:
            await asyncio.Event().wait()

        @job(name="report")
        async def report(self, message: BusJobRequestMessage) -> Payload:
            return {"heard": self.heard}

    class Research(ProxyConsumer):
        worker_name = "research"
        remote_worker_name = "voice"
        tokens = [TOKEN]
        heartbeat_secs = 0.2

        def build_workers(self) -> Sequence[BaseWorker]:
            return [Counter()]

    return Research.as_asgi()


async def serve(port: int) -> None:
    from voicews.servers.embedded import Listener

    listener = Listener(research_application(), "127.0.0.1", port)
    await listener.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    asyncio.run(serve(int(sys.argv[1])))
