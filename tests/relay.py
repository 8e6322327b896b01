"""A TCP relay between two peers that a test can cut, and let go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Self

#: So much at once on a link with a fixed rate: whoever shares it waits no longer than that.
PACKET_BYTES = 512
#: A relay in a thread starts and ends within so long.
TIMEOUT_SECS = 10.0


class Relay:
    """Forwards connections to `port` on 127.0.0.1 while `flows` is set.

    Otherwise it is a cable that was pulled out: what is sent is lost, nobody is told, and nobody
    gets through. With `up_bits_per_sec` everything to `port` shares a link that is no faster.
    """

    def __init__(self, port: int, *, up_bits_per_sec: float | None = None) -> None:
        self._target = port
        self._up = Link(up_bits_per_sec) if up_bits_per_sec is not None else None
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
        await asyncio.gather(*(cable.ended.wait() for cable in self._cables))

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
            pumps = [
                asyncio.create_task(cable.pump(reader, remote_writer, self._up)),
                asyncio.create_task(cable.pump(remote_reader, writer)),
            ]
            await asyncio.wait(pumps)
        except OSError:
            pass
        finally:
            cable.reset()
            cable.ended.set()
            self._cables.discard(cable)


class Link:
    """The time that bytes need on a link with a fixed rate."""

    def __init__(self, bits_per_sec: float) -> None:
        self._secs_per_byte = 8 / bits_per_sec
        self._free_at = 0.0

    def take(self, num_bytes: int) -> float:
        """Seconds until the last one of these bytes is at the other end."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + num_bytes * self._secs_per_byte
        return self._free_at - now


class Cable:
    """One connection through the relay."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.dead = False
        self.closed = asyncio.Event()
        self.ended = asyncio.Event()

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link | None = None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536 if link is None else PACKET_BYTES):
                if link is not None:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.closed.wait(), link.take(len(data)))
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


@contextmanager
def relaying(port: int, *, up_bits_per_sec: float) -> Iterator[int]:
    """The port of a relay that runs in a thread, for tests without an event loop."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def relay() -> None:
        over = asyncio.Event()
        async with Relay(port, up_bits_per_sec=up_bits_per_sec) as relay:
            ready.set_result((asyncio.get_running_loop(), over, relay.port))
            await over.wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, relay())
        loop, over, own_port = ready.result(TIMEOUT_SECS)
        try:
            yield own_port
        finally:
            loop.call_soon_threadsafe(over.set)
            running.result(TIMEOUT_SECS)
