"""The call button's tag on the demo project's home page, and twice on a page of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import REFUSED_MICROPHONE, microphone
from tests.browser.conftest import OpenPage
from tests.browser.contrast import faint_texts
from tests.browser.pages import Calls, count_sessions
from tests.browser.sound import sentence, silence, tone, write_microphone
from tests.conftest import WaitFor
from tests.server_processes import Server

FREQUENCY = 523.0


@pytest.fixture(scope="module")
def words(sounds: Path) -> tuple[str, ...]:
    """A microphone that hears a short sentence again and again."""
    path = sounds / "words.wav"
    return microphone(write_microphone(path, silence(0.3), sentence(1), silence(2.7)))


@pytest.fixture(scope="module")
def bursts(sounds: Path) -> tuple[str, ...]:
    """A microphone that hears a tone again and again."""
    path = sounds / "bursts.wav"
    return microphone(write_microphone(path, tone(FREQUENCY, 0.6), silence(0.4)))


def live_calls(server: Server) -> int:
    return count_sessions(server, "active")


def expect_state(button: Locator, state: str) -> None:
    expect(button).to_have_attribute("data-state", state)


def test_it_calls_the_default_bot_and_hangs_up(
    open_page: OpenPage, site: Server, words: tuple[str, ...], wait_for: WaitFor
) -> None:
    page = open_page(f"{site.http_url}/", *words)
    calls = Calls(page, "document.querySelector('voicews-call').client")
    element = page.locator("voicews-call")
    button, status = element.get_by_role("button"), element.get_by_role("status")
    expect(button).to_have_text("Call")
    button.click()
    expect_state(element, "ready")
    expect(button).to_have_text("Hang up")
    expect(status).to_have_text("You are connected")
    calls.record(3.5)
    recording = calls.read()
    said, answered = recording.spoken.sounds(pause_secs=0.3), recording.played.sounds()
    assert answered, "the bot said nothing"
    assert answered[0].start > said[0].end
    wait_for(lambda: live_calls(site) == 1)
    button.click()
    expect_state(element, "disconnected")
    expect(button).to_have_text("Call")
    expect(status).to_have_text("Call ended")
    wait_for(lambda: live_calls(site) == 0)


def test_of_two_buttons_one_talks_at_a_time(
    open_page: OpenPage, site: Server, bursts: tuple[str, ...], wait_for: WaitFor
) -> None:
    page = open_page(f"{site.http_url}/two-buttons/", *bursts)
    echo, parrot = page.locator("voicews-call").all()
    calls = Calls(page, "document.querySelector('voicews-call').client")
    parrot.get_by_role("button", name="Call the parrot").click()
    expect_state(parrot, "ready")
    echo.get_by_role("button", name="Call the echo").click()
    expect_state(echo, "ready")
    expect_state(parrot, "disconnected")
    expect(parrot.get_by_role("button")).to_have_text("Call the parrot")
    wait_for(lambda: live_calls(site) == 1)
    calls.record(2)
    heard = calls.read().played
    loudest = max(heard.sounds(), key=lambda sound: sound.seconds)
    assert heard.dominant_frequency(loudest) == pytest.approx(FREQUENCY, abs=3)
    # An element that leaves the page takes its call with it.
    echo.evaluate("(element) => element.remove()")
    wait_for(lambda: live_calls(site) == 0)


def test_it_says_what_is_wrong(open_page: OpenPage, site: Server) -> None:
    page = open_page(f"{site.http_url}/", *REFUSED_MICROPHONE)
    element = page.locator("voicews-call")
    element.get_by_role("button").click()
    expect_state(element, "error")
    expect(element.get_by_role("alert")).to_contain_text("The microphone is blocked.")
    expect(element.get_by_role("button")).to_have_text("Call")


def test_it_needs_no_mouse(open_page: OpenPage, site: Server, words: tuple[str, ...]) -> None:
    page = open_page(f"{site.http_url}/", *words)
    element = page.locator("voicews-call")
    expect(element.get_by_role("button")).to_be_enabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_state(element, "ready")
    page.keyboard.press("Space")
    expect_state(element, "disconnected")


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
def test_it_can_be_read_on_a_small_screen(
    open_page: OpenPage, site: Server, words: tuple[str, ...], colour_scheme: str
) -> None:
    page = open_page(
        f"{site.http_url}/",
        *words,
        color_scheme=colour_scheme,
        viewport={"width": 360, "height": 640},
    )
    element = page.locator("voicews-call")
    expect_readable(page)
    element.get_by_role("button").click()
    expect_state(element, "ready")
    page.evaluate("document.querySelector('[role=alert]').textContent = 'Something is wrong.'")
    expect_readable(page)


def expect_readable(page: Page) -> None:
    assert faint_texts(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
