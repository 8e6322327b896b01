"""The two voice servers that a client can talk to in these tests."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.environment import PIPECAT_PYTHON, REPOSITORY_DIR, pipecat_environ
from tests.server_processes import free_port

START_TIMEOUT_SECS = 60


@dataclass(frozen=True)
class VoiceServer:
    """Where a server's pages and its connect endpoint are."""

    origin: str
    connect_path: str

    @property
    def connect_url(self) -> str:
        return self.origin + self.connect_path


@contextmanager
def pipecat_server(log: Path) -> Iterator[VoiceServer]:
    """Pipecat's FastAPI transport with an echo bot, 16 kHz in and 24 kHz out."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    port = free_port()
    command = (
        *(PIPECAT_PYTHON, "-m", "uvicorn", "tests.interop.pipecat_server:app"),
        *("--host=127.0.0.1", f"--port={port}"),
        *("--ws-per-message-deflate=false", "--log-level=warning"),
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY_DIR,
            env=pipecat_environ(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = VoiceServer(f"http://127.0.0.1:{port}", "/connect")
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while not _answers(server.origin):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Pipecat's server did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(origin: str) -> bool:
    try:
        urllib.request.urlopen(origin, timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
