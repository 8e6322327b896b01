"""The tests' project under the servers that differ."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from tests.consumers.site import Site
from tests.server_processes import ServerName

Program = Callable[..., Site]
_sites: list[Site] = []


@pytest.fixture(scope="session")
def start_site(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any
) -> Iterator[Program]:
    """A function that starts the tests' project; it is stopped at the very end."""

    def start(program: ServerName, *arguments: str) -> Site:
        site = Site(tmp_path_factory.mktemp(program), migrated_database, program, arguments)
        _sites.append(site)
        return site

    yield start
    while _sites:
        _sites.pop().kill()


@pytest.fixture(scope="session")
def uvicorn_site(start_site: Program) -> Site:
    """The tests' project under uvicorn, for every test that does not stop it."""
    return start_site("uvicorn", "--ws", "websockets-sansio")


@pytest.fixture(scope="session")
def daphne_site(start_site: Program) -> Site:
    """The tests' project under Daphne, for every test that does not stop it."""
    return start_site("daphne")


@pytest.fixture(params=["uvicorn", "daphne"])
def site(request: pytest.FixtureRequest) -> Site:
    """The tests' project, under one server after the other."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the servers have logged."""
    report = yield
    if report.failed:
        report.sections.extend((f"log of {site.program}", site.log_tail()) for site in _sites)
    return report
