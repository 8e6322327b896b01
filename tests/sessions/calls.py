"""One session, and clients that come to it through any of a cluster's nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.server_processes import Server
from tests.sessions.storm import TIMEOUT_SECS, Racer


class Session:
    """A new session of a cluster; `id` is its UUID as text."""

    def __init__(self, node: Server, bot: str = "counter") -> None:
        made = node.connect(bot)
        self.path = made["ws_url"].partition("/ws/")[2]
        self.id = self.path.split("/")[1]
        self.token = made["token"]

    def url(self, node: Server, token: str | None = None) -> str:
        return f"{node.ws_url}/ws/{self.path}?token={token or self.token}"

    @asynccontextmanager
    async def client(self, node: Server, *, ready: bool = True) -> AsyncIterator[Racer]:
        """A client that is in, or wants to be; cut off at the end."""
        client = Racer("", self.url(node))
        task = asyncio.create_task(client.run())
        try:
            if ready:
                async with asyncio.timeout(TIMEOUT_SECS):
                    waiting = asyncio.create_task(client.ready.wait())
                    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                if task.done():
                    await task
                assert client.ready.is_set(), (client.code, client.reason)
            client.task = task
            yield client
        finally:
            if client.websocket is not None:
                client.websocket.transport.abort()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
