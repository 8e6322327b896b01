"""One client that floods, next to one that talks: over every server, and its sockets' kinds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from tests.server_processes import ROOT, free_port

UVICORN = "uvicorn {application} --host 127.0.0.1 --port {port} --loop "
COMMANDS = {
    "asyncio": UVICORN + "asyncio",
    "uvloop": UVICORN + "uvloop",
    "websockets": UVICORN + "uvloop --ws websockets",
    "daphne": "daphne -b 127.0.0.1 -p {port} {application}",
}
#: A peer that has not been closed by then has not been noticed.
FLOOD_TIMEOUT_SECS = 20.0
MAX_GROWTH_BYTES = 10 * 1024 * 1024


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    written = Frame(Opcode(opcode), payload, fin=fin).serialize(mask=True, extensions=[])
    return bytes((written[0] | 0x40 * rsv1,)) + written[1:]


def bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(bytes(1024 * 1024)) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed.removesuffix(b"\x00\x00\xff\xff")


FLOODS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    # What comes first, and what comes again and again.
    "fragments": lambda: (frame(2, b"", fin=False), frame(0, b"", fin=False) * 10_000),
    "long fragments": lambda: (frame(2, b"", fin=False), frame(0, bytes(1000), fin=False) * 60),
    "pings": lambda: (b"", frame(9, bytes(125)) * 500),
    "pongs": lambda: (b"", frame(10) * 10_000),
    "messages": lambda: (b"", frame(2) * 10_000),
    "bombs": lambda: (b"", frame(2, bomb(), rsv1=True) * 60),
}

HANDSHAKE = (
    "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class Server:
    def __init__(self, kind: str, directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "server.log"
        command = COMMANDS[kind].format(
            application="tests.servers.echo_application:application", port=self.port
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command.split()], cwd=ROOT, stdout=log, stderr=log
            )

    @property
    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    async def started(self) -> None:
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    async with connect(f"ws://127.0.0.1:{self.port}/"):
                        return
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    one = Server(request.param, tmp_path_factory.mktemp(request.param))
    yield one
    one.process.terminate()
    one.process.wait()


@asynccontextmanager
async def talk(server: Server) -> AsyncIterator[list[float]]:
    """Somebody who says something every 20 ms; yields how long the answers took."""
    took: list[float] = []
    async with connect(f"ws://127.0.0.1:{server.port}/", compression=None) as client:

        async def talking() -> None:
            while True:
                began = time.perf_counter()
                await client.send(len(took).to_bytes(4, "big"))
                assert await client.recv() == len(took).to_bytes(4, "big")
                took.append(time.perf_counter() - began)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(talking())
        try:
            await asyncio.sleep(0.1)
            yield took
            await asyncio.sleep(0.1)
            assert not task.done() or task.result() is None
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def flood(server: Server, path: str, kind: str) -> bytes:
    """What the server said last to a client that goes on and on."""
    first, again = FLOODS[kind]()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE.format(path=path).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    received = bytearray()

    async def read() -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                received[:] = (received + data)[-4096:]

    reading = asyncio.create_task(read())
    try:
        with suppress(ConnectionError):
            writer.write(first)
            while not reading.done():
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0)
        await reading
    finally:
        reading.cancel()
        writer.transport.abort()
    return bytes(received)


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_is_ended_and_others_go_on(server: Server, kind: str) -> None:
    await server.started()
    async with talk(server) as took:
        before, said = server.memory_bytes, len(took)
        async with asyncio.timeout(FLOOD_TIMEOUT_SECS):
            await flood(server, "", kind)
        assert server.memory_bytes - before < MAX_GROWTH_BYTES
    assert len(took) > said


async def test_a_flood_after_our_close_is_not_read_for_long(server: Server) -> None:
    await server.started()
    async with talk(server) as took, asyncio.timeout(FLOOD_TIMEOUT_SECS):
        said = len(took)
        received = await flood(server, "closes", "messages")
        assert received.endswith(b"\x88\x02\x0f\xa2")  # 4002, and nothing else
    assert len(took) > said
