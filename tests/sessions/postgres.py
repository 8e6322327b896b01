"""A real PostgreSQL server on a port of its own, with a database that is gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server_processes import ROOT, free_port, server_environment

START_TIMEOUT_SECS = 30.0
#: Who runs it where the tests are root's, which PostgreSQL refuses to be.
ACCOUNTS = ("postgres", "nobody")


def _program(name: str) -> str:
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    assert found, f"the tests need PostgreSQL's {name}: make setup-test installs it"
    return found


def _account() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ACCOUNTS if name in names)


def _wait_until_it_answers(port: int) -> None:
    ask = [_program("pg_isready"), "--quiet", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + START_TIMEOUT_SECS
    while subprocess.run(ask).returncode:
        assert time.monotonic() < deadline, "PostgreSQL does not start"
        time.sleep(0.05)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start it; the URL of an empty database with the project's tables."""
    account = _account()
    directory = Path(tempfile.mkdtemp(prefix="voicews-postgres-"))
    options: dict[str, Any] = {"cwd": directory}
    if account is not None:
        shutil.chown(directory, account)
        options |= {"user": account, "extra_groups": []}
    data = directory / "data"
    port = free_port()
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [_program("initdb"), "--username=voicews", "--auth=trust", "--no-sync", str(data)],
            check=True,
            stdout=subprocess.DEVNULL,
            **options,
        )
        settings = ["-p", str(port), "-k", str(directory), "-c", "listen_addresses=127.0.0.1"]
        settings += ["-c", "fsync=off", "-c", "max_connections=100"]
        server = subprocess.Popen(
            [_program("postgres"), "-D", str(data), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **options,
        )
        _wait_until_it_answers(port)
        url = f"postgresql://voicews@127.0.0.1:{port}/postgres"
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"],
            cwd=ROOT,
            env=server_environment(directory / "unused", {"DATABASE_URL": url}),
            check=True,
        )
        yield url
    finally:
        if server is not None:
            # Its fast shutdown: it does not wait for clients that hang.
            server.send_signal(signal.SIGINT)
            server.wait()
        shutil.rmtree(directory, ignore_errors=True)
