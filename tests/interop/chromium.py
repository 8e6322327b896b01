"""Chromium with a microphone that plays a file, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, sync_playwright

from tests.interop.environment import BUNDLE, PAGE_DIR

PIPECAT_PAGE = "/pipecat-page/"
_PIPECAT_PAGE_FILES = {"": PAGE_DIR / "index.html", "main.js": BUNDLE}


@contextmanager
def chromium_page(microphone: Path) -> Iterator[Page]:
    """A blank page in a browser of its own, whose microphone repeats a WAV file."""
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
            yield browser.new_page()
        finally:
            browser.close()


def open_pipecat_page(page: Page, origin: str) -> None:
    """Open the page with Pipecat's browser client as if the server at ``origin`` had it."""

    def fulfill(route: Route) -> None:
        route.fulfill(path=_PIPECAT_PAGE_FILES[route.request.url.rpartition("/")[2]])

    if not BUNDLE.exists():
        pytest.fail(f"{BUNDLE} was not found; run: make setup-test")
    page.route(f"{origin}{PIPECAT_PAGE}**", fulfill)
    page.goto(f"{origin}{PIPECAT_PAGE}")
    page.wait_for_function("() => window.Call !== undefined")
