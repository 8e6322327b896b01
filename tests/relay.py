"""A TCP relay between two peers that a test can cut, and let go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class Relay:
    """Forwards connections to `port` on 127.0.0.1 while `flows` is set.

    Otherwise it is a cable that was pulled out: what is sent is lost, nobody is told, and nobody
    gets through.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._cables: set[Cable] = set()
        self.flows = True
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Pull the cable out."""
        self.flows = False
        for cable in self._cables:
            cable.dead = True

    def mend(self) -> None:
        """Put the cable in: new connections get through, the old ones have timed out."""
        self.flows = True
        for cable in list(self._cables):
            if cable.dead:
                cable.reset()

    def reset(self) -> None:
        """Reset every connection."""
        for cable in list(self._cables):
            cable.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        cable = Cable(writer)
        self._cables.add(cable)
        try:
            if not self.flows:
                cable.dead = True
                await cable.closed.wait()
                return
            remote_reader, remote_writer = await asyncio.open_connection("127.0.0.1", self._target)
            cable.writers.append(remote_writer)
            ways = [(reader, remote_writer), (remote_reader, writer)]
            pumps = [asyncio.create_task(cable.pump(*way)) for way in ways]
            await asyncio.wait(pumps)
        except OSError:
            pass
        finally:
            cable.reset()
            self._cables.discard(cable)


class Cable:
    """One connection through the relay."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.dead = False
        self.closed = asyncio.Event()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self.dead:
                    writer.write(data)
                    await writer.drain()
            if not self.dead:
                writer.close()

    def reset(self) -> None:
        self.dead = True
        self.closed.set()
        for writer in self.writers:
            writer.transport.abort()
