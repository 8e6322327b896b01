"""Several server processes with one database, one Redis and one log."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server_processes import Server, ServerName, free_port

START_TIMEOUT_SECS = 30.0


class Redis:
    """A real `redis-server` on a port of its own, which keeps nothing."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["--port", str(self.port), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", *options],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while True:
            try:
                assert self.command("PING") == b"+PONG"
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return process

    def command(self, *words: str) -> bytes:
        """Send one command; the first line of the answer, or the rest of it for a bulk string."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            reader = connection.makefile("rb")
            answer = reader.readline().strip()
            if answer.startswith(b"$"):
                return reader.read(int(answer[1:]))
            return answer

    def operations(self) -> int:
        """Commands that it has processed so far, this one too."""
        for line in self.command("INFO", "stats").decode().splitlines():
            if line.startswith("total_commands_processed:"):
                return int(line.partition(":")[2])
        raise AssertionError("no figure")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = self._start()


class Node(Server):
    """One server process of a cluster."""

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)


@dataclass
class Entry:
    """One line of the bots' log."""

    at: float
    pid: int
    session: str
    event: str
    detail: str


class Cluster:
    """Starts nodes; stops what it has started."""

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str,
        template_database: Path,
        redis: Redis | None,
        layer: str = "pubsub",
        environment: Mapping[str, str] | None = None,
        **voicews: Any,
    ) -> None:
        self.redis = redis
        self.nodes: list[Node] = []
        self.log = directory / "bots.jsonl"
        self.log.touch()
        self._directory = directory
        self._template = template_database
        self._environment: dict[str, str | None] = {
            "DJANGO_SETTINGS_MODULE": "tests.sessions.project.settings",
            "DATABASE_URL": database_url,
            "DEBUG": "false",
            "TEST_LOG": str(self.log),
            "TEST_VOICEWS": json.dumps(voicews),
            **(environment or {}),
        }
        if redis is not None:
            self._environment |= {"REDIS_URL": redis.url, "TEST_LAYER": layer}

    def start(self, program: ServerName = "uvicorn") -> Node:
        directory = self._directory / f"node{len(self.nodes)}"
        directory.mkdir()
        arguments = ("--no-access-log",) if program == "uvicorn" else ()
        node = Node(directory, self._template, program, self._environment, arguments)
        self.nodes.append(node)
        return node

    def manage(self, *arguments: str) -> str:
        """What a management command prints."""
        import sys

        from tests.server_processes import ROOT, server_environment

        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=server_environment(self._directory / "unused", self._environment),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def entries(self, session: str = "") -> list[Entry]:
        """What the bots wrote down, in order of time."""
        lines = self.log.read_text().splitlines()
        entries = sorted((Entry(**json.loads(line)) for line in lines), key=lambda one: one.at)
        return [one for one in entries if not session or one.session == session]


async def until(condition: Callable[[], object], timeout_secs: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_secs
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_secs} s in vain"
        await asyncio.sleep(0.02)


def assert_never_two(entries: list[Entry]) -> int:
    """Fail if two clients of a session could reach its bot at the same time; how many did."""
    attached: dict[str, Entry] = {}
    count = 0
    for entry in entries:
        holder = attached.get(entry.session)
        if entry.event == "attach":
            assert holder is None, f"{entry} while {holder} was there"
            attached[entry.session] = entry
            count += 1
        elif entry.event == "detach" and holder is not None:
            # Without a holder: one that was let in and had not said anything yet.
            assert holder.pid == entry.pid, f"{entry} while {holder} was there"
            del attached[entry.session]
        elif entry.event == "message":
            assert holder is not None
            assert holder.pid == entry.pid, f"{entry} reached a bot that {holder} had"
    return count


@contextmanager
def running_redis(directory: Path) -> Iterator[Redis]:
    redis = Redis(directory)
    try:
        yield redis
    finally:
        redis.kill()


def copy_database(template: Path, directory: Path) -> str:
    """A fresh SQLite database's URL."""
    path = directory / "shared.sqlite3"
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"
