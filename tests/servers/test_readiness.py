from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server_processes import ROOT, Server, server_environment
from voicews.servers import readiness
from voicews.servers.readiness import Readiness


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Readiness:
    """The state of a process whose server isn't ready."""
    one = Readiness()
    monkeypatch.setattr(readiness, "_server", one)
    monkeypatch.setattr(readiness, "LIFESPAN_SETTLE_SECS", 0.0)
    return one


def test_callbacks_wait_for_the_moment(fresh: Readiness) -> None:
    called: list[str] = []
    readiness.when_ready(lambda: called.append("a"))
    readiness.when_ready(lambda: called.append("b"))
    assert called == []
    readiness.server_ready()
    assert called == ["a", "b"]
    readiness.server_ready()
    assert called == ["a", "b"]
    readiness.when_ready(lambda: called.append("late"))
    assert called == ["a", "b", "late"]


def test_a_failing_callback_harms_no_other(
    fresh: Readiness, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def fail() -> None:
        raise RuntimeError("no")

    readiness.when_ready(fail)
    readiness.when_ready(lambda: called.append("b"))
    readiness.server_ready()
    assert called == ["b"]
    assert "a callback that waited for the server failed" in caplog.text


def test_a_callback_may_wait_for_more(fresh: Readiness) -> None:
    called: list[str] = []
    readiness.when_ready(lambda: readiness.when_ready(lambda: called.append("inner")))
    readiness.server_ready()
    assert called == ["inner"]


async def test_lifespan(fresh: Readiness) -> None:
    called: list[asyncio.AbstractEventLoop] = []
    readiness.when_ready(lambda: called.append(asyncio.get_running_loop()))
    to_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    application = asyncio.create_task(
        readiness.lifespan({"type": "lifespan"}, to_application.get, from_application.put)
    )
    await asyncio.sleep(0)
    assert called == []
    await to_application.put({"type": "lifespan.startup"})
    assert await from_application.get() == {"type": "lifespan.startup.complete"}
    await asyncio.sleep(0.01)
    assert called == [asyncio.get_running_loop()]
    await to_application.put({"type": "lifespan.shutdown"})
    assert await from_application.get() == {"type": "lifespan.shutdown.complete"}
    await application


async def test_the_first_connection_is_a_proof(fresh: Readiness) -> None:
    from voicews.routing import voice_application

    called: list[str] = []
    readiness.when_ready(lambda: called.append("ready"))
    served: list[str] = []

    async def http(scope: Any, receive: Any, send: Any) -> None:
        served.append(*called)

    async def nothing(*args: Any) -> dict[str, Any]:
        return {}

    application = voice_application(http)
    await application({"type": "http"}, nothing, nothing)
    await application({"type": "http"}, nothing, nothing)
    assert (called, served) == (["ready"], ["ready", "ready"])


async def test_a_socket_without_a_route_is_refused(fresh: Readiness) -> None:
    from channels.testing import WebsocketCommunicator

    from voicews.routing import voice_application

    application = voice_application(lambda *args: None)
    for path in ("/", "/ws/voice/", "/ws/voice/no-uuid/", "/ws/other/"):
        communicator = WebsocketCommunicator(application, path)
        connected, _ = await communicator.connect()
        assert not connected
        await communicator.wait()


# Writes down, when it is ready and on its event loop, whether its own port takes connections.
REPORTING_APPLICATION = """
import asyncio, json, os
from project.asgi import application
from voicews.servers.readiness import when_ready

async def report():
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["OWN_PORT"]))
        writer.close()
        reached = True
    except OSError:
        reached = False
    with open(os.environ["REPORT"], "a") as file:
        file.write(json.dumps({"reached": reached}) + "\\n")

tasks = []
when_ready(lambda: tasks.append(asyncio.get_running_loop().create_task(report())))
"""


def own_command(program: str, port: int) -> list[str]:
    return {
        "uvicorn": [
            *("-m", "uvicorn", "reporting:application"),
            *("--host", "localhost", "--port", str(port)),
        ],
        "daphne": ["-m", "daphne", "-p", str(port), "reporting:application"],
        "runserver": ["-m", "django", "runserver", "--noreload", str(port)],
        "runserver with reloader": ["-m", "django", "runserver", str(port)],
    }[program]


@pytest.mark.program
@pytest.mark.parametrize("program", ["uvicorn", "daphne", "runserver", "runserver with reloader"])
def test_a_real_server_is_ready_without_a_connection(
    program: str, tmp_path: Path, migrated_database: Path, wait_for: Callable[..., Any]
) -> None:
    from tests.server_processes import free_port

    (tmp_path / "reporting.py").write_text(textwrap.dedent(REPORTING_APPLICATION))
    (tmp_path / "reporting_settings.py").write_text(
        'from project.settings import *\nASGI_APPLICATION = "reporting.application"\n'
    )
    report = tmp_path / "report"
    port = free_port()
    environment = server_environment(
        migrated_database,
        {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
            "DJANGO_SETTINGS_MODULE": "reporting_settings",
            "OWN_PORT": str(port),
            "REPORT": str(report),
        },
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *own_command(program, port)],
            env=environment,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(report.exists, message=log.read_text)
        wait_for(lambda: report.read_text().endswith("\n"))
    finally:
        Server.kill_group(process)
    assert [json.loads(line) for line in report.read_text().splitlines()] == [{"reached": True}]


@pytest.mark.program
def test_other_commands_never_are(migrated_database: Path) -> None:
    program = (
        "import django; django.setup();"
        "from voicews.servers.readiness import when_ready;"
        "when_ready(lambda: print('ready'));"
        "from django.core.management import call_command; call_command('check')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=server_environment(migrated_database),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ready" not in result.stdout
