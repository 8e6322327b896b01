"""Servers of which something is gone that voicews looks for: calls go on, one warning says it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import uvicorn
from channels.sessions import InstanceSessionWrapper
from websockets.asyncio.client import connect

from tests.server_processes import ROOT, START_TIMEOUT_SECS, free_port
from voicews.close_codes import CloseCode
from voicews.exceptions import ConfigurationError
from voicews.servers import fast_path, log_redaction, probe, readiness
from voicews.servers.embedded import Listener

APPLICATION = "tests.servers.incomplete_application:application"
COMMANDS = {
    "uvicorn": f"uvicorn {APPLICATION} --host 127.0.0.1 --port {{port}} --loop asyncio"
    " --ws websockets-sansio --ws-per-message-deflate false",
    "daphne": f"daphne -b 127.0.0.1 -p {{port}} {APPLICATION}",
}
CODES = [code.value for code in CloseCode if code not in (CloseCode.NO_STATUS, CloseCode.ABNORMAL)]
#: What Daphne's own close makes of them.
DAPHNE_CODES = {code: 1000 if code in (1000, 1008) else code + 2000 for code in CODES}
DAPHNE_CODES.update({code: code for code in CODES if code >= 4000})

PER_SOCKET = {
    "uvicorn": (
        probe.UVICORN_SEND,
        probe.UVICORN_SOCKET,
        probe.UVICORN_FRAMES,
        probe.ASYNCIO_TRANSPORT,
    ),
    "daphne": (
        probe.DAPHNE_SEND,
        probe.DAPHNE_CLOSE,
        probe.DAPHNE_SOCKET,
        probe.TWISTED_TRANSPORT,
    ),
}
AT_START = (
    probe.UVICORN_SERVER,
    probe.DAPHNE_ACCESS,
    probe.TWISTED_REACTOR,
    probe.CHANNELS_SESSIONS,
)


def names_of(part: probe.Part) -> list[str]:
    return [*part.names, *part.of_instances] or [part.where.partition(":")[2]]


GONE = [
    pytest.param(server, part, name, id=f"{server}-{name}")
    for server, parts in PER_SOCKET.items()
    for part in parts
    for name in names_of(part)
]


class Server:
    """The application of `incomplete_application.py` under one server program."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.log = directory / "server.log"
        self.port = free_port()
        command = COMMANDS[kind].format(port=self.port)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command.split()], cwd=ROOT, stdout=log, stderr=log
            )

    def open(self, query: str = "") -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/?{query}", proxy=None, compression=None)

    async def started(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while True:
            try:
                async with self.open():
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Those that run, by their kind."""
    running: dict[str, Server] = {}
    for kind in COMMANDS:
        running[kind] = Server(kind, tmp_path_factory.mktemp(kind))
    yield running
    for server in running.values():
        server.process.kill()
        server.process.wait()


def test_every_part_is_tried() -> None:
    tried = {part for parts in PER_SOCKET.values() for part in parts} | set(AT_START)
    assert tried == set(probe.PARTS)


@pytest.mark.program
@pytest.mark.parametrize("kind", COMMANDS)
async def test_nothing_is_gone(servers: dict[str, Server], kind: str) -> None:
    server = servers[kind]
    await server.started()
    async with server.open() as client:
        await client.send("path")
        assert await client.recv() == f"{kind.title()}Connection"
    assert "this version" not in server.log.read_text()


@pytest.mark.program
@pytest.mark.parametrize(("kind", "part", "name"), GONE)
async def test_a_name_is_gone(
    servers: dict[str, Server], kind: str, part: probe.Part, name: str
) -> None:
    server = servers[kind]
    await server.started()
    begin = server.log.stat().st_size
    without = f"without={probe.PARTS.index(part)}.{name}"
    mapped = part in (probe.DAPHNE_SEND, probe.DAPHNE_CLOSE)
    for number, code in enumerate(CODES):
        async with server.open(without + "&fresh=1" * (number == 0)) as client:
            for message in ("text", b"bytes" * 30_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send("path")
            expected = "UvicornConnection" if part is probe.UVICORN_FRAMES else "NoneType"
            assert await client.recv() == expected
            await client.send(f"close {code}")
            await client.wait_closed()
            assert client.close_code == (DAPHNE_CODES[code] if mapped else code)
            if not mapped:
                assert client.close_reason == "as told"
    log = server.log.read_text()[begin:]
    assert log.count("this version of ") == 1
    assert f"has no {name}: {part.without}" in log
    assert "Traceback" not in log


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is warned of, in a process that has warned of nothing."""
    monkeypatch.setattr(probe, "_warned", set())
    caplog.set_level(logging.WARNING, logger=probe.__name__)
    return caplog


@pytest.mark.parametrize("name", probe.UVICORN_SERVER.names)
async def test_a_listener_without(
    warnings: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(uvicorn.Server, name)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="a uvicorn that is known here"):
            await Listener(None, "127.0.0.1", 0).start()
    assert warnings.text.count(f"has no {name}: ") == 1


async def test_a_listener_without_the_http_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.h11_impl", None)
    with pytest.raises(ConfigurationError, match="a uvicorn that is known here"):
        await Listener(None, "127.0.0.1", 0).start()


def test_an_access_log_without_lines(warnings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("daphne.access")
    module.AccessLogGenerator = type("AccessLogGenerator", (), {})
    monkeypatch.setitem(sys.modules, "daphne.access", module)
    for _ in range(2):
        log_redaction.install()
        probe.look_at_servers()
    assert warnings.text.count("has no write_entry: ") == 1


@pytest.mark.parametrize("name", probe.TWISTED_REACTOR.names)
def test_a_reactor_without(warnings: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    importlib.import_module("daphne.server")  # which installs the reactor
    names = {one: lambda *arguments: None for one in probe.TWISTED_REACTOR.names}
    del names[name]
    monkeypatch.setattr("twisted.internet.reactor", SimpleNamespace(**names))
    for _ in range(2):
        readiness.watch_daphne()
    assert warnings.text.count(f"has no {name}: ") == 1


def test_a_session_middleware_without_the_send_below(warnings: Any) -> None:
    wrapper = InstanceSessionWrapper.__new__(InstanceSessionWrapper)
    for _ in range(2):
        assert fast_path.wrap_send(wrapper.send) == wrapper.send
    assert warnings.text.count("has no real_send: ") == 1


@pytest.mark.parametrize(
    "part", [one for one in probe.PARTS if one.where], ids=lambda one: one.where
)
def test_a_class_is_gone(warnings: Any, monkeypatch: pytest.MonkeyPatch, part: probe.Part) -> None:
    module, _colon, name = part.where.partition(":")
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    for _ in range(2):
        probe.look_at_servers()
    assert f"has no {name}: {part.without}" in warnings.text
    assert part.the_class() is None


def test_nothing_is_said_of_servers_that_are_not_here(
    warnings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in probe.PARTS:
        monkeypatch.delitem(sys.modules, part.where.partition(":")[0], raising=False)
    probe.look_at_servers()
    assert warnings.text == ""


#: Runs where the packages in its arguments can't be imported.
ALONE = """
import importlib, pkgutil, sys
import importlib.metadata as metadata

blocked = sys.argv[1].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
real_version = metadata.version
def version(name):
    if name.replace("-", "_") in blocked:
        raise metadata.PackageNotFoundError(name)
    return real_version(name)
metadata.version = version

import asyncio, django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="x" * 60, DEBUG=True, USE_TZ=True, ROOT_URLCONF="voicews.urls",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels", "voicews"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    VOICEWS={"MAY_CONNECT": "voicews.permissions.anybody"},
)
django.setup()
call_command("check")

import voicews
for module in pkgutil.walk_packages(voicews.__path__, "voicews."):
    if not module.name.startswith(("voicews.contrib", "voicews.migrations", "voicews.admin")):
        importlib.import_module(module.name)

from django.urls import path
from voicews.bots import Bot
from voicews.consumers import VoiceConsumer
from voicews.routing import voice_application

class Greeter(Bot):
    pass

class Call(VoiceConsumer):
    bot = Greeter

async def call():
    received, sent = asyncio.Queue(), asyncio.Queue()
    application = voice_application(None, [path("call/", Call.as_asgi())])
    scope = {"type": "websocket", "path": "/call/", "headers": [], "query_string": b""}
    running = asyncio.ensure_future(application(scope, received.get, sent.put))
    await received.put({"type": "websocket.connect"})
    assert (await asyncio.wait_for(sent.get(), 10))["type"] == "websocket.accept"
    await received.put({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(running, 10)

asyncio.run(call())
print("served")
"""


@pytest.mark.program
@pytest.mark.parametrize("blocked", ["daphne,twisted,autobahn", "uvicorn,channels_redis,redis"])
def test_servers_are_optional(tmp_path: Path, blocked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, blocked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("served\n")
    assert "Traceback" not in done.stderr
