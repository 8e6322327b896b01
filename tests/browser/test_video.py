"""Pictures in Chromium: a camera whose colours are known, a bot that shows them, a canvas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import camera
from tests.browser.conftest import OpenPage
from tests.browser.pages import DEMO, DemoPage
from tests.conftest import WaitFor
from tests.server_processes import Server

#: The camera's left and right half, and how far a colour may be off after two JPEGs.
LEFT, RIGHT = (200, 40, 40), (40, 60, 200)
TOLERANCE = 30

#: The colours in the middle of both halves of the canvas.
COLOURS = """canvas => {
  const context = canvas.getContext("2d");
  const at = (share) => [...context.getImageData(
    Math.floor(canvas.width * share), Math.floor(canvas.height / 3), 1, 1,
  ).data].slice(0, 3);
  return canvas.width ? [at(0.25), at(0.75)] : [];
}"""

OpenVideo = Callable[[Server], DemoPage]


@pytest.fixture(scope="module")
def seen(sounds: Path) -> tuple[str, ...]:
    """A camera that sees two colours."""
    return camera(sounds / "camera.y4m", LEFT, RIGHT)


@pytest.fixture
def open_video(open_page: OpenPage, seen: tuple[str, ...]) -> OpenVideo:
    def open_video(server: Server) -> DemoPage:
        return DemoPage(open_page(server.http_url + DEMO, *seen))

    return open_video


def is_near(found: list[int], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= TOLERANCE for a, b in zip(found, wanted, strict=True))


def test_the_camera_comes_back_from_the_bot(
    site: Server, open_video: OpenVideo, wait_for: WaitFor
) -> None:
    demo = open_video(site)
    demo.start("mirror")
    page = demo.page
    page.get_by_role("button", name="Camera on").click()
    canvas = page.locator("#picture")
    expect(canvas).to_be_visible()

    def shows_the_camera() -> bool:
        # A camera's first picture may be black.
        colours: list[Any] = canvas.evaluate(COLOURS)
        return len(colours) == 2 and is_near(colours[0], LEFT) and is_near(colours[1], RIGHT)

    wait_for(shows_the_camera)
    assert page.evaluate("document.querySelector('#picture').width") == 640

    page.get_by_role("button", name="Camera off").click()
    expect(page.get_by_role("button", name="Camera on")).to_have_attribute("aria-pressed", "false")
    demo.hang_up()
    expect(canvas).to_be_hidden()


def test_a_bot_that_wants_no_pictures_gets_no_buttons(site: Server, open_video: OpenVideo) -> None:
    demo = open_video(site)
    demo.start("parrot")
    expect(demo.page.get_by_role("button", name="Camera on")).to_be_hidden()
    demo.hang_up()


def test_the_screen_is_shared(site: Server, open_video: OpenVideo) -> None:
    demo = open_video(site)
    demo.start("mirror")
    page = demo.page
    page.get_by_role("button", name="Share screen").click()
    expect(page.locator("#picture")).to_be_visible()
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("button", name="Share screen")).to_have_attribute(
        "aria-pressed", "false"
    )
    demo.hang_up()
