"""Many clients that want one session at the same moment."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.consumers.client import rtvi_message
from tests.sessions.cluster import until
from voicews.serializers.frames_pb2 import Frame

TIMEOUT_SECS = 60.0


@dataclass
class Racer:
    """One client: connects, greets, and waits for what becomes of it."""

    name: str
    url: str
    code: int | None = None
    reason: str = ""
    greeted_at: float = 0.0
    ready_at: float | None = None
    #: By the id of what was asked.
    answers: dict[str, object] = field(default_factory=dict)
    said: int = 0
    websocket: ClientConnection | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def run(self, go: asyncio.Event | None = None) -> None:
        """Until the server closes the socket, or somebody calls `close`."""
        async with connect(self.url, compression=None, open_timeout=TIMEOUT_SECS) as websocket:
            self.websocket = websocket
            if go is not None:
                await go.wait()
            self.greeted_at = time.monotonic()
            try:
                await websocket.send(rtvi_message("client-ready", {"version": "2.2.0"}))
                if self.name:
                    await self.say(self.name)
                async for data in websocket:
                    self._receive(data)
            except ConnectionClosed:
                pass
        self.code, self.reason = websocket.close_code, websocket.close_reason or ""

    async def say(self, data: str) -> str:
        """Say something; its id."""
        assert self.websocket is not None
        self.said += 1
        message = rtvi_message("client-message", {"t": "say", "d": data}, str(self.said))
        await self.websocket.send(message)
        return str(self.said)

    async def ask(self, data: str) -> object:
        """Say something, and what the bot answers."""
        message_id = await self.say(data)
        async with asyncio.timeout(TIMEOUT_SECS):
            while message_id not in self.answers:
                self.answered.clear()
                await self.answered.wait()
        return self.answers[message_id]

    async def wait_closed(self, timeout_secs: float = TIMEOUT_SECS) -> int | None:
        """The code that the socket was closed with."""
        assert self.task is not None
        await asyncio.wait_for(asyncio.shield(self.task), timeout_secs)
        return self.code

    async def close(self, code: int = 1000) -> None:
        assert self.websocket is not None
        await self.websocket.close(code)

    def _receive(self, data: str | bytes) -> None:
        assert isinstance(data, bytes)
        frame = Frame.FromString(data)
        if frame.WhichOneof("frame") != "message":
            self.heard.set()
            return
        message = json.loads(frame.message.data)
        if message["type"] == "bot-ready":
            self.ready_at = time.monotonic()
            self.ready.set()
        elif message["type"] == "server-response":
            self.answers[message["id"]] = message["data"]["d"]
            self.answered.set()


async def race(urls: list[str], clients: int) -> tuple[Racer, list[Racer]]:
    """All at once; the one that is left, and the others. Fails if it is not just one."""
    racers = [Racer(f"racer {number}", urls[number % len(urls)]) for number in range(clients)]
    go = asyncio.Event()
    tasks = [asyncio.create_task(racer.run(go)) for racer in racers]
    async with asyncio.timeout(TIMEOUT_SECS):
        await until(lambda: all(racer.websocket is not None for racer in racers), TIMEOUT_SECS)
        go.set()
        await until(lambda: sum(task.done() for task in tasks) >= clients - 1, TIMEOUT_SECS)
        [winner] = [racer for racer, task in zip(racers, tasks, strict=True) if not task.done()]
        await winner.ready.wait()
        await winner.ask("I am it")
        await winner.close()
        await asyncio.gather(*tasks)
    return winner, [racer for racer in racers if racer is not winner]
