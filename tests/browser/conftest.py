"""Fixtures of the browser tests: servers, browsers, and pages that must not complain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, expect, sync_playwright

from tests.browser.chromium import launch
from tests.conftest import Serve, serving
from tests.server_processes import Server

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.browser.settings"}
#: Whatever a page waits for, it may take so long on a busy machine (milliseconds).
TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, migrated_database: Any) -> Iterator[Serve]:
    """As ``serve``, for servers that all tests of a module share."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start


@pytest.fixture(scope="module")
def site(start: Serve) -> Server:
    """The demo project with the recorder under uvicorn, for tests that don't stop it."""
    return start("uvicorn", environment=SETTINGS)


@pytest.fixture(scope="module")
def daphne_site(start: Serve) -> Server:
    """The same under Daphne."""
    return start("daphne", environment=SETTINGS)


# Not longer than a module: while it runs, no test can have an event loop of its own.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright's driver."""
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        yield playwright


class Browsers(Protocol):
    """Starts a browser with some flags, or returns the one that has them."""

    def __call__(self, *flags: str) -> Browser: ...


@pytest.fixture(scope="module")
def browsers(playwright: Playwright) -> Iterator[Browsers]:
    """One browser for each set of flags; see ``tests.browser.chromium``."""
    started: dict[tuple[str, ...], Browser] = {}

    def get(*flags: str) -> Browser:
        if flags not in started:
            # One at a time: a second one would take the processor that the first one needs.
            for other in started.values():
                other.close()
            started.clear()
            started[flags] = launch(playwright, *flags)
        return started[flags]

    yield get
    for browser in started.values():
        browser.close()


class OpenPage(Protocol):
    """Opens a page in a profile of its own; ``options`` are those of Playwright's contexts."""

    def __call__(self, url: str, *flags: str, **options: Any) -> Page: ...


class Complaints:
    """What the pages of a test wrote to the console as errors; there must be nothing unexpected."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._expected: list[str] = []

    def expect(self, pattern: str) -> None:
        """The browser itself will complain of what the test does, in words that match."""
        self._expected.append(pattern)

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("console", self._on_console)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.found.append(f"{message.text} ({message.location['url']})")

    @property
    def unexpected(self) -> list[str]:
        return [
            text
            for text in self.found
            if not any(re.search(pattern, text) for pattern in self._expected)
        ]


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """Errors on the console, violations of a page's security policy among them, fail a test."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected == []


@pytest.fixture
def open_page(browsers: Browsers, complaints: Complaints) -> Iterator[OpenPage]:
    """A function that opens a page; it is closed at the end of the test."""
    closers: list[Callable[[], None]] = []

    def open_page(url: str, *flags: str, **options: Any) -> Page:
        context = browsers(*flags).new_context(**options)
        closers.append(context.close)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        complaints.watch(page)
        page.goto(url)
        return page

    yield open_page
    for close in closers:
        close()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for what microphones say."""
    return tmp_path_factory.mktemp("sounds")
