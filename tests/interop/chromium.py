"""Chromium with a microphone that plays a file, driven by Playwright."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.interop.environment import BUILD_DIR, BUNDLE, PAGE_DIR

TEST_PAGE = "/interop/"


@contextmanager
def chromium(microphone: Path) -> Iterator[Browser]:
    """A browser whose microphone repeats a WAV file."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium was not found; run: make setup-test")
    with sync_playwright() as playwright:
        # Playwright makes a new, empty profile for each launch.
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                # A page that a test fulfils has no address, so the server looks like a foreign one.
                "--disable-features=LocalNetworkAccessChecks",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


def _open_page(page: Page, origin: str, files: Mapping[str, Path]) -> None:
    """Open a page as if the server at ``origin`` had it."""

    def fulfill(route: Route) -> None:
        route.fulfill(path=files[route.request.url.rpartition("/")[2]])

    page.route(f"{origin}{TEST_PAGE}**", fulfill)
    page.goto(origin + TEST_PAGE)


def open_pipecat_page(page: Page, origin: str) -> None:
    """Open a page with Pipecat's browser client: ``window.Call``."""
    if not BUNDLE.exists():
        pytest.fail(f"{BUNDLE} was not found; run: make setup-test")
    _open_page(page, origin, {"": PAGE_DIR / "pipecat.html", "pipecat.js": BUNDLE})


def open_basic_setup(page: Page, origin: str, options: Mapping[str, object]) -> None:
    """Open a page with Pipecat's client and hooks on our transport: ``window.call``."""
    if not (BUILD_DIR / "basic-setup.js").exists():
        pytest.fail("the bundles were not found; run: make setup-test")
    _open_page(page, origin, {"": PAGE_DIR / "basic-setup.html"})
    page.evaluate("options => window.start(options)", options)


def open_voicews_page(page: Page, origin: str) -> None:
    """Open a page with our browser client, which the server must have: ``window.call``."""
    files = {"": PAGE_DIR / "voicews.html", "voicews.js": PAGE_DIR / "voicews.js"}
    _open_page(page, origin, files)
