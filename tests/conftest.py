"""Fixtures for all tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.server_processes import Server, ServerName, migrate

_running: list[Server] = []

#: Fixtures that start a program: a test that uses one is marked `program`.
PROGRAM_FIXTURES = frozenset(
    {
        "cluster", "daphne_server", "daphne_site", "database_url", "mysite", "phone_server",
        "phone_servers", "redis", "run_voice", "serve", "server", "servers", "site", "start_site",
        "uvicorn_site", "wheel",
    }
)  # fmt: skip
_running_test: pytest.Item | None = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a program."""
    for item in items:
        in_directory = item.path.parent.name in {"browser", "interop"}
        if in_directory or PROGRAM_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("program")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Know which test runs, for `_check_program`."""
    global _running_test  # noqa: PLW0603 - an audit hook can't be removed, so it asks this
    _running_test = item
    try:
        return (yield)
    finally:
        _running_test = None


def _check_program(event: str, arguments: tuple[object, ...]) -> None:
    if event != "subprocess.Popen" or _running_test is None:
        return
    if _running_test.get_closest_marker("program") is None:
        raise RuntimeError(
            f"{_running_test.nodeid} starts {arguments[0]}: mark it with pytest.mark.program"
        )


sys.addaudithook(_check_program)

# No timed assertions: how long an example takes says something about the machine. The first text
# on a new one costs seconds, because Hypothesis makes its table of characters then.
hypothesis_settings.register_profile(
    "voicews", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("voicews")


class Serve(Protocol):
    """Starts the demo project as a process; it is killed at the end of the test."""

    def __call__(
        self,
        program: ServerName = "uvicorn",
        *,
        environment: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = (),
        python: Path = Path(sys.executable),
        keep_port: bool = False,
    ) -> Server: ...


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SQLite file with the project's tables, to copy."""
    path = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    migrate(path)
    return path


@contextmanager
def serving(tmp_path_factory: pytest.TempPathFactory, database: Any) -> Iterator[Serve]:
    """A function that starts the demo project as often as it is called, for fixtures."""
    mine: list[Server] = []

    def serve(
        program: ServerName = "uvicorn",
        *,
        environment: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = (),
        python: Path = Path(sys.executable),
        keep_port: bool = False,
    ) -> Server:
        directory = tmp_path_factory.mktemp(program)
        server = Server(
            directory, database, program, environment, arguments, python, keep_port=keep_port
        )
        mine.append(server)
        _running.append(server)
        return server

    try:
        yield serve
    finally:
        for server in mine:
            # Not asked to end: it would first wait for the calls that a test has left behind.
            server.kill()
            _running.remove(server)


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory, migrated_database: Any) -> Iterator[Serve]:
    """A function that starts the demo project; see ``tests.server_processes.Server``."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_database: Any) -> Iterator[Server]:
    """The demo project under uvicorn, for every test that does not stop it."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start("uvicorn")


@pytest.fixture(scope="session")
def daphne_server(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any
) -> Iterator[Server]:
    """The demo project under Daphne, for every test that does not stop it."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start("daphne")


class WaitFor(Protocol):
    """Waits until a condition holds, or fails; ``message`` gives what to show then."""

    def __call__(
        self,
        condition: Callable[[], object],
        *,
        timeout_secs: float = 60.0,
        message: Callable[[], str] | None = None,
    ) -> None: ...


@pytest.fixture
def wait_for() -> WaitFor:
    """A function for tests that wait for another process; see ``WaitFor``."""

    def wait(
        condition: Callable[[], object],
        *,
        timeout_secs: float = 60.0,
        message: Callable[[], str] | None = None,
    ) -> None:
        deadline = time.monotonic() + timeout_secs
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_secs} s in vain" + (message() if message else ""))
            time.sleep(0.02)

    return wait


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the servers that ran during it have logged."""
    report = yield
    if report.failed:
        report.sections.extend(
            (f"log of {server.program} on port {server.port}", server.log_tail())
            for server in _running
        )
    return report
