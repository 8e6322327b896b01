"""A server under measurement: a process of its own on a core of its own."""

import contextlib
import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.interop.environment import REPOSITORY_DIR
from tests.server_processes import free_port

# The same server, loop and WebSocket implementation for everyone. Compression would cost every one
# of them more than everything else that they do with a message.
UVICORN_FLAGS = (
    "--loop=asyncio",
    "--http=h11",
    "--ws=websockets-sansio",
    "--ws-per-message-deflate=false",
    "--log-level=warning",
    "--no-access-log",
)
START_TIMEOUT_SECS = 60
STOP_TIMEOUT_SECS = 15
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/<pid>/stat, counted from the state, the first field behind the name in parentheses.
_PPID, _UTIME, _STIME = 1, 11, 12


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def process_tree(pid: int) -> list[int]:
    """``pid`` and all its descendants that are alive."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(_stat(int(entry.name))[_PPID])
    tree = [pid]
    for parent in tree:
        tree += [child for child, its_parent in parents.items() if its_parent == parent]
    return tree


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, to a clock tick (usually 10 ms)."""
    fields = _stat(pid)
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_SECOND


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    port: int
    log: Path

    def cpu_seconds(self) -> float:
        """CPU time of the process and its descendants so far."""
        return sum(cpu_seconds(pid) for pid in process_tree(self.pid))

    def resident_bytes(self) -> int:
        """Resident memory of the process and its descendants, after a garbage collection."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.5)
        page_size = os.sysconf("SC_PAGE_SIZE")
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page_size
            for pid in process_tree(self.pid)
        )


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"the server did not start; it wrote:\n{log.read_text()[-4000:]}")


@contextlib.contextmanager
def serve(
    python: Path, application: str, environ: Mapping[str, str], core: int
) -> Iterator[Server]:
    """Run an ASGI application on uvicorn, on one core, until the block ends."""
    port = free_port()
    command: Sequence[str | Path] = (
        *(python, "-m", "tests.benchmarks.serve"),
        *(application, "--host=127.0.0.1", f"--port={port}", *UVICORN_FLAGS),
    )
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "server.log"
        with log.open("wb") as output:
            # A child inherits the core, and every thread that it starts does too.
            own_cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {core})
            try:
                process = subprocess.Popen(
                    command,
                    cwd=REPOSITORY_DIR,
                    env={**os.environ, "PYTHONPATH": str(REPOSITORY_DIR), **environ},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            finally:
                os.sched_setaffinity(0, own_cores)
        try:
            _wait_until_it_answers(process, port, log)
            yield Server(process.pid, port, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
