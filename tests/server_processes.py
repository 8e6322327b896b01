"""The demo project as a real server process, for tests that need a port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_SECS = 60.0
STOP_TIMEOUT_SECS = 15.0

ServerName = Literal["uvicorn", "daphne", "runserver"]


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_environment(
    database: Path, extra: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """The environment of a server process: ours, without what would change its settings.

    A value of None in ``extra`` removes that variable.
    """
    environment: dict[str, str | None] = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": f"sqlite:///{database}",
        "SECRET_KEY": "a key for the tests only, long enough to raise no warning",
        "DEBUG": "true",
        "ALLOWED_HOSTS": None,
        "REDIS_URL": None,
        "VOICEWS_PUBLIC_URL": None,
        **(extra or {}),
    }
    return {name: value for name, value in environment.items() if value is not None}


def migrate(database: Path) -> None:
    """Make a database with the project's tables."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"],
        cwd=ROOT,
        env=server_environment(database),
        check=True,
    )


class Server:
    """The project under one server program, on a port of its own, with a database of its own.

    ``http_url`` and ``ws_url`` have no slash at the end; ``origin`` is what one of its pages sends.
    With ``keep_port`` the port stays open while the server restarts, as with systemd's sockets:
    whoever connects then waits for the new server instead of being refused.
    """

    def __init__(
        self,
        directory: Path,
        template_database: Path,
        program: ServerName = "uvicorn",
        environment: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = (),
        python: Path = Path(sys.executable),
        *,
        keep_port: bool = False,
    ) -> None:
        self.program = program
        self._port_holder = socket.create_server(("127.0.0.1", 0)) if keep_port else None
        self.port = self._port_holder.getsockname()[1] if self._port_holder else free_port()
        self.http_url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self.origin = self.http_url
        self.database = directory / "db.sqlite3"
        self.log = directory / "server.log"
        shutil.copyfile(template_database, self.database)
        self._environment = server_environment(self.database, environment)
        self._arguments = arguments
        self._python = python
        self.process: subprocess.Popen[bytes] = self._start()

    def _command(self) -> list[str]:
        address = ["127.0.0.1", str(self.port)]
        if self.program == "runserver":
            return ["manage.py", "runserver", "--noreload", ":".join(address)]
        if self._port_holder is not None:
            options = ["--fd", str(self._port_holder.fileno())]
        elif self.program == "daphne":
            options = ["-b", address[0], "-p", address[1]]
        else:
            options = ["--host", address[0], "--port", address[1]]
        if self.program == "uvicorn":
            options += ["--loop", "asyncio", "--ws-per-message-deflate", "false"]
        return ["-m", self.program, "project.asgi:application", *options]

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [self._python, *self._command(), *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that workers end with it.
                start_new_session=True,
                pass_fds=(self._port_holder.fileno(),) if self._port_holder else (),
            )
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{self.program} ended at its start:\n{self.log_tail()}")
            if self._answers():
                return process
            time.sleep(0.05)
        self.kill_group(process)
        raise RuntimeError(f"{self.program} answered nothing:\n{self.log_tail()}")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.http_url}/voice/connect/", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self, *, timeout_secs: float = STOP_TIMEOUT_SECS) -> int:
        """Ask the server to end, insist after the timeout; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_secs)
            except subprocess.TimeoutExpired:
                self.kill_group(self.process)
        return self.process.returncode

    def kill(self) -> None:
        """End the server without a warning."""
        self.kill_group(self.process)

    def start(self) -> None:
        """Start the server anew, after its end, on the same port, with the same database."""
        self.process = self._start()

    def restart(self) -> None:
        """End the server and start it anew."""
        self.stop()
        self.start()

    @staticmethod
    def kill_group(process: subprocess.Popen[bytes]) -> None:
        """End a process and its children without a warning."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log_tail(self, lines: int = 100) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def connect(self, bot: str | None = None) -> dict[str, str]:
        """Ask the connect endpoint for a session: ``ws_url`` and ``token``."""
        body = {} if bot is None else {"bot": bot}
        request = urllib.request.Request(
            f"{self.http_url}/voice/connect/",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
