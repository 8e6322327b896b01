"""Pipecat's programs as processes, for tests that run on an event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.interop.environment import PIPECAT_PYTHON, REPOSITORY_DIR, pipecat_environ

START_TIMEOUT_SECS = 60


@asynccontextmanager
async def pipecat_process(
    log: Path, module: str, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A module of ``tests.interop`` under ``.venv-pipecat``, killed in the end."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(str(PIPECAT_PYTHON), "-m", f"tests.interop.{module}", *arguments),
            cwd=REPOSITORY_DIR,
            env=pipecat_environ(),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_ready(process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait for the line ``ready``."""
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_SECS):
        line = await process.stdout.readline()
    if line != b"ready\n":
        fail_with(log)


def fail_with(log: Path) -> None:
    """Fail, and show what was logged."""
    pytest.fail(f"it did not start:\n{log.read_text()}")
