"""`send` and `receive` over the servers themselves: what comes, what waits, how it ends."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from channels.sessions import InstanceSessionWrapper
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.server_processes import ROOT, START_TIMEOUT_SECS, STOP_TIMEOUT_SECS, free_port
from voicews.servers.fast_path import MAX_REASON_BYTES

TIMEOUT_SECS = 30.0
#: What both kernels and both programs hold at most, on a connection that nobody reads.
MAX_HELD_BYTES = 24 * 1024 * 1024
FLOOD_BYTES = 64 * 1024 * 1024
#: For so long nothing moves on a connection that has come to a stop.
STILL_SECS = 1.0

UVICORN = (
    "uvicorn tests.servers.asgi_application:application --host 127.0.0.1 --port {port}"
    " --timeout-graceful-shutdown 5"
)
DAPHNE = "daphne tests.servers.asgi_application:application"
TLS = " --ssl-keyfile {key} --ssl-certfile {certificate}"
COMMANDS = {
    "uvicorn": UVICORN + " --loop asyncio --ws-per-message-deflate false",
    "uvloop": UVICORN + " --loop uvloop --ws-per-message-deflate false",
    "compressing": UVICORN + " --loop asyncio",
    "websockets": UVICORN + " --loop asyncio --ws websockets --ws-per-message-deflate false",
    "uvicorn-tls": UVICORN + " --loop asyncio --ws-per-message-deflate false" + TLS,
    "uvloop-tls": UVICORN + " --loop uvloop --ws-per-message-deflate false" + TLS,
    "pinging": UVICORN + " --loop asyncio --ws-per-message-deflate false"
    " --ws-ping-interval 0.1 --ws-ping-timeout 0.5",
    "daphne": DAPHNE + " -b 127.0.0.1 -p {port}",
    "daphne-tls": DAPHNE
    + " -e ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
}
OURS = ["uvicorn", "uvloop", "compressing", "uvicorn-tls", "uvloop-tls"]
ALL = [*OURS, "websockets", "daphne", "daphne-tls"]
SIZES = [0, 1, 125, 126, 65535, 65536, 1024 * 1024]


@dataclass
class Server:
    """The application of `asgi_application.py` under one server program."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    tls: ssl.SSLContext | None

    def url(self, path: str, **options: object) -> str:
        scheme = "ws" if self.tls is None else "wss"
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://127.0.0.1:{self.port}/{path}?{query}"

    @property
    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @asynccontextmanager
    async def open(
        self, path: str, *, buffer_bytes: int | None = None, **options: object
    ) -> AsyncIterator[ClientConnection]:
        """A client that reads nothing by itself: its library stops at the first message."""
        own = socket.socket()
        if buffer_bytes is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self.port))
        async with connect(
            self.url(path, **options),
            sock=own,
            ssl=self.tls,
            max_size=None,
            max_queue=1,
            ping_interval=None,
            close_timeout=TIMEOUT_SECS,
            proxy=None,
        ) as client:
            yield client

    async def ask(self, name: str) -> dict[str, Any]:
        """What became of a socket; with `!` before its name it goes on."""
        async with self.open("control") as client:
            await client.send(name)
            answer: dict[str, Any] = json.loads(await client.recv())
            return answer

    async def wait_for(self, name: str, key: str) -> Any:
        """What became of a socket, once there is something to tell."""
        async with asyncio.timeout(TIMEOUT_SECS):
            while (found := (await self.ask(name))[key]) is None:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)
        return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files with a key and with a certificate for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (directory / "certificate.pem").write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
    )
    return directory / "key.pem", directory / "certificate.pem"


def start(kind: str, directory: Path, certificate: tuple[Path, Path]) -> Server:
    port = free_port()
    key, chain = certificate
    command = COMMANDS[kind].format(port=port, key=key, certificate=chain)
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    tls = ssl.create_default_context(cafile=str(chain)) if kind.endswith("-tls") else None
    server = Server(process, log, port, tls)
    deadline = time.monotonic() + START_TIMEOUT_SECS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"{kind} did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return server


def stop(server: Server) -> None:
    server.process.terminate()
    try:
        server.process.wait(STOP_TIMEOUT_SECS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[dict[str, Server]]:
    """Those that run, by their kind."""
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        stop(server)


@pytest.fixture
def server(
    request: pytest.FixtureRequest,
    servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
    certificate: tuple[Path, Path],
) -> Server:
    """The server of the test's kind, for every test that does not stop it."""
    kind = request.param
    if kind not in servers:
        servers[kind] = start(kind, tmp_path_factory.mktemp(kind), certificate)
    return servers[kind]


on_all = pytest.mark.parametrize("server", ALL, indirect=True)
on_ours = pytest.mark.parametrize("server", OURS, indirect=True)
on_bounded = pytest.mark.parametrize("server", [*OURS, "daphne", "daphne-tls"], indirect=True)
# With compression uvicorn's own `receive` stays.
on_uncompressed = pytest.mark.parametrize(
    "server",
    ["uvicorn", "uvloop", "uvicorn-tls", "uvloop-tls", "daphne", "daphne-tls"],
    indirect=True,
)

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A socket's name, unlike all others."""
    return f"socket{next(_numbers)}"


async def read(client: ClientConnection) -> list[str | bytes]:
    """All messages until the connection ends, however it does."""
    messages: list[str | bytes] = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(await client.recv())
    return messages


async def flood(client: ClientConnection, size: int) -> int:
    """How many messages of this size the peer takes."""
    sent = 0
    while sent * size < FLOOD_BYTES:
        try:
            # The library's own buffer is part of what a stuck connection holds.
            async with asyncio.timeout(STILL_SECS):
                await client.send(os.urandom(size))
        except TimeoutError:
            # It was written to the buffer all the same.
            return sent + 1
        sent += 1
    return sent


# --- messages -------------------------------------------------------------------------------------


@on_all
async def test_messages_of_every_size(server: Server, name: str) -> None:
    async with server.open("echo", name=name) as client:
        for size in SIZES:
            data = os.urandom(size)
            await client.send(data)
            assert await client.recv() == (data or b"empty")
            text = "ü" * (size // 2) + "x" * (size % 2)
            await client.send(text)
            assert await client.recv() == (text or "empty")
    assert await server.wait_for(name, "code") in (1000, 1005)


@on_all
async def test_messages_in_fragments(server: Server, name: str) -> None:
    async with server.open("echo", name=name) as client:
        for pieces in ([b"a", b"", b"b" * 70_000, b"c"], [b"", b""], ["x", "", "ü" * 100]):
            await client.send(pieces)
            whole: str | bytes = type(pieces[0])().join(pieces)  # type: ignore[arg-type]
            assert await client.recv() == (whole or b"empty")


@on_ours
@pytest.mark.parametrize("size", SIZES)
async def test_sent_messages_of_every_size(server: Server, name: str, size: int) -> None:
    async with server.open("pours", name=name, size=size, count=3) as client:
        messages = await read(client)
    assert [len(message) for message in messages] == [size] * 3


@pytest.mark.parametrize("server", ["compressing"], indirect=True)
async def test_compression_is_left_to_the_server(server: Server, name: str) -> None:
    async with server.open("echo", name=name) as client:
        assert client.protocol.extensions
        await client.send(bytes(100_000))
        assert await client.recv() == bytes(100_000)


@on_all
async def test_messages_that_come_before_they_are_asked_for(server: Server, name: str) -> None:
    sizes = list(range(200))
    async with server.open("stuck", name=name) as client:
        for size in sizes:
            await client.send(bytes(size))
        await server.ask(f"!{name}")
    await server.wait_for(name, "code")
    assert (await server.ask(name))["sizes"] == sizes


# --- too much -------------------------------------------------------------------------------------


@on_bounded
@pytest.mark.parametrize("size", [1000, 1024 * 1024])
async def test_a_flood_waits_outside(server: Server, name: str, size: int) -> None:
    before = server.memory_bytes
    async with server.open("stuck", name=name) as client:
        sent = await flood(client, size)
        assert sent * size < MAX_HELD_BYTES
        assert server.memory_bytes - before < 3 * MAX_HELD_BYTES
        await server.ask(f"!{name}")
    # Not one is lost.
    await server.wait_for(name, "code")
    assert (await server.ask(name))["sizes"] == [size] * sent


@on_all
async def test_nothing_is_sent_that_nobody_reads(server: Server, name: str) -> None:
    size, count = 64 * 1024, FLOOD_BYTES // (64 * 1024)
    before = server.memory_bytes
    async with server.open(
        "pours", buffer_bytes=65536, name=name, size=size, count=count, code=4002
    ) as client:
        sent, since = -1, time.monotonic()
        while time.monotonic() - since < STILL_SECS:
            now = (await server.ask(name))["sent_bytes"]
            if now != sent:
                sent, since = now, time.monotonic()
            await asyncio.sleep(0.05)
        assert sent < MAX_HELD_BYTES
        assert server.memory_bytes - before < MAX_HELD_BYTES
        messages = await read(client)
        assert [message[:4] for message in messages] == [n.to_bytes(4, "big") for n in range(count)]
        assert client.close_code == 4002


async def ping_on(client: ClientConnection) -> None:
    """Send pings. Raises ConnectionError when the peer has had enough of them."""
    pings = Frame(Opcode.PING, bytes(125)).serialize(mask=True, extensions=[]) * 1000
    for _ in range(FLOOD_BYTES // len(pings)):
        # Past the library, which would keep count of them.
        client.transport.write(pings)
        await client.drain()
        if client.transport.is_closing():
            raise ConnectionResetError


@on_uncompressed
async def test_a_peer_that_pings_and_reads_nothing(server: Server, name: str) -> None:
    options = {"name": name, "size": 64 * 1024, "count": FLOOD_BYTES // (64 * 1024)}
    before = server.memory_bytes
    async with server.open("pours_and_reads", buffer_bytes=65536, **options) as client:
        with pytest.raises(ConnectionError):
            await ping_on(client)
    assert server.memory_bytes - before < 3 * MAX_HELD_BYTES


@on_all
async def test_a_peer_that_does_not_read_is_let_go(server: Server, name: str) -> None:
    options = {"name": name, "size": 64 * 1024, "count": FLOOD_BYTES // (64 * 1024)}
    async with server.open("breaks_off", buffer_bytes=65536, **options) as client:
        assert await server.wait_for(name, "code") in (1005, 1006)
        await read(client)
        assert client.close_code == 1006


# --- ends -----------------------------------------------------------------------------------------


@on_all
async def test_both_sides_close_at_the_same_moment(server: Server, name: str) -> None:
    async with server.open("closes_late", name=name, code=4321, reason="over") as client:
        await client.send("go on")
        # Its own close is there before the server has written its.
        await asyncio.sleep(0.1)
        await client.close()
        assert client.protocol.close_rcvd is not None
        assert client.protocol.close_rcvd.code == 4321


@on_all
async def test_the_peer_closes(server: Server, name: str) -> None:
    async with server.open("echo", name=name) as client:
        await client.close(4321, "enough")
    assert await server.wait_for(name, "code") == 4321


@on_bounded
async def test_the_peer_closes_while_it_is_not_read(server: Server, name: str) -> None:
    async with server.open("stuck", name=name) as client:
        for _ in range(200):
            await client.send(bytes(1000))
        closing = asyncio.create_task(client.close(4321))
        await asyncio.sleep(0.1)
        await server.ask(f"!{name}")
        await closing
    assert await server.wait_for(name, "code") == 4321
    assert (await server.ask(name))["sizes"] == [1000] * 200


@on_bounded
async def test_the_application_closes(server: Server, name: str) -> None:
    for code in (1000, 1001, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4002):
        one = f"{name}-{code}"
        async with server.open(
            "pours", name=one, size=10, count=1, code=code, reason="so"
        ) as client:
            assert len(await read(client)) == 1
            assert (client.close_code, client.close_reason) == (code, "so")
        assert await server.wait_for(one, "code") == code


@on_bounded
async def test_a_reason_that_is_too_long(server: Server, name: str) -> None:
    reason = "x" + "%C3%BC" * 100
    async with server.open("pours", name=name, size=1, count=0, reason=reason) as client:
        await client.wait_closed()
        assert client.close_reason == "x" + "ü" * ((MAX_REASON_BYTES - 1) // 2)


@on_bounded
async def test_the_application_closes_while_it_does_not_read(server: Server, name: str) -> None:
    async with server.open("closes", name=name, code=4001) as client:
        await flood(client, 1000)
        await server.ask(f"!{name}")
        async with asyncio.timeout(TIMEOUT_SECS):
            await client.wait_closed()
        assert client.close_code == 4001


@on_all
async def test_sending_to_who_has_left(server: Server, name: str) -> None:
    async with server.open("outlives", name=name) as client:
        await client.close(1001)
    assert await server.wait_for(name, "code") == 1001
    assert "Disconnected" not in server.log.read_text()


@on_ours
async def test_sending_to_who_has_left_raises(server: Server, name: str) -> None:
    async with server.open("outlives", name=name):
        pass
    assert await server.wait_for(name, "error") == "ClientDisconnected"


@pytest.mark.parametrize("server", ["pinging"], indirect=True)
async def test_a_socket_that_is_not_asked_stays_alive(server: Server, name: str) -> None:
    async with server.open("stuck", name=name) as client:
        for _ in range(10):
            await client.send(b"early")
        # Longer than a peer may leave a ping of the server's without an answer.
        await asyncio.sleep(1)
        await server.ask(f"!{name}")
        await client.send(b"late")
    assert await server.wait_for(name, "code") in (1000, 1005)
    assert (await server.ask(name))["sizes"] == [5] * 10 + [4]


@pytest.mark.program
@pytest.mark.parametrize("kind", ["uvicorn", "uvloop", "uvloop-tls", "compressing"])
async def test_the_server_ends(
    kind: str, tmp_path: Path, certificate: tuple[Path, Path], name: str
) -> None:
    server = start(kind, tmp_path, certificate)
    try:
        async with (
            server.open("echo", name=name) as client,
            server.open("stuck", name=f"{name}-stuck") as stuck,
        ):
            await client.send(b"there?")
            await client.recv()
            await flood(stuck, 1000)
            server.process.send_signal(signal.SIGTERM)
            await client.wait_closed()
            assert client.close_code == 1012
            stuck.transport.abort()
        assert await asyncio.to_thread(server.process.wait, TIMEOUT_SECS) is not None
    finally:
        stop(server)


def test_channels_sessions_act_on_http_only() -> None:
    # `asgi.complete` goes past them.
    types = (
        *InstanceSessionWrapper.save_message_types,
        *InstanceSessionWrapper.cookie_response_message_types,
    )
    assert set(types) == {"http.response.start"}
