"""A TCP proxy that can go deaf: a failover whose old server sends nothing at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SwallowingProxy:
    """Forwards connections to a port of this host, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        #: Of each connection: what has to be set for its bytes to pass.
        self._gates: list[threading.Event] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait()

    def swallow(self) -> None:
        """Pass nothing more of the connections that there are; they stay open. New ones work."""
        for gate in self._gates:
            gate.clear()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        self._started.set()
        self._loop.run_forever()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = threading.Event()
        gate.set()
        self._gates.append(gate)
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers += [writer, back]
        await asyncio.gather(self._pass(reader, back, gate), self._pass(there, writer, gate))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if gate.is_set():
                    writer.write(data)
                    await writer.drain()
        if gate.is_set():
            writer.close()


@contextmanager
def swallowing_proxy(target_port: int) -> Iterator[SwallowingProxy]:
    proxy = SwallowingProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.stop()
