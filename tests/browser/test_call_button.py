"""The call button's tag on the demo project's home page, and twice on a page of its own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.axe import violations
from tests.browser.chromium import REFUSED_MICROPHONE, microphone
from tests.browser.conftest import Complaints, OpenPage
from tests.browser.contrast import faint_texts
from tests.browser.pages import Calls, count_sessions
from tests.browser.sound import sentence, silence, tone, write_microphone
from tests.conftest import WaitFor
from tests.operators import Operator, make_operators
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


#: How pages move an element, or keep it while they exchange what is around it.
MOVES = {
    "append": "element => second.append(element)",
    "moveBefore": "element => second.moveBefore(element, null)",
    "placeholder": """async (element) => {
      const placeholder = document.createElement("div");
      element.replaceWith(placeholder);
      document.body.replaceWith(document.body.cloneNode(true));
      await new Promise(requestAnimationFrame);
      document.querySelector("#first > div").replaceWith(element);
    }""",
    "morph": """(element) => {
      const { outerHTML } = document.documentElement;
      const fresh = new DOMParser().parseFromString(outerHTML, "text/html");
      const button = fresh.querySelector("voicews-call button");
      button.disabled = true;
      button.textContent = "Call";
      element.removeAttribute("data-state");
      element.querySelector("button").replaceWith(document.adoptNode(button));
    }""",
}


@pytest.mark.parametrize("move", MOVES)
def test_a_call_goes_on_while_the_page_moves_its_button(
    open_page: OpenPage, site: Server, words: tuple[str, ...], wait_for: WaitFor, move: str
) -> None:
    page = open_page(f"{site.http_url}/call-me/", *words)
    element = page.locator("voicews-call")
    element.get_by_role("button").click()
    expect_state(element, "ready")
    moved = element.element_handle()
    assert moved is not None
    moved.evaluate(MOVES[move])
    page.wait_for_timeout(2000)
    expect_state(element, "ready")
    assert live_calls(site) == 1
    expect(element.get_by_role("button")).to_have_text("Hang up")
    # A copy that stays behind, as caches of pages make them, has nothing of the call.
    page.evaluate("document.body.append(document.querySelector('voicews-call').cloneNode(true))")
    copy = page.locator("voicews-call").nth(1)
    expect(copy.get_by_role("button")).to_have_text("Call")
    expect(copy.get_by_role("status")).to_be_empty()
    copy.evaluate("element => element.remove()")
    element.get_by_role("button").click()
    expect_state(element, "disconnected")
    wait_for(lambda: live_calls(site) == 0)


def test_it_shows_what_operators_write_and_why_the_call_ended(
    open_page: OpenPage, site: Server, words: tuple[str, ...], wait_for: WaitFor
) -> None:
    make_operators(site.database, "tests.browser.settings")
    operator = Operator(site, "operator")
    page = open_page(f"{site.http_url}/call-me/", *words)
    element = page.locator("voicews-call")
    page.evaluate(
        """() => {
          const { client } = document.querySelector("voicews-call");
          client.on("onBotReady", ({ voicews }) => { globalThis.session = voicews.session; });
        }"""
    )
    element.get_by_role("button").click()
    expect_state(element, "ready")
    path = f"/admin/voicews/voicesession/{page.evaluate('session')}"
    operator.post(f"{path}/message/", text="Please hold the line.")
    expect(element).to_contain_text("Operator: Please hold the line.")
    operator.post(f"{path}/end/", reason="closing time")
    expect(element.get_by_role("alert")).to_have_text(
        "The call was ended by an operator. (closing time)"
    )
    element.get_by_role("button").click()
    expect_state(element, "ready")
    expect(element.get_by_role("alert")).to_be_empty()
    expect(element).not_to_contain_text("hold the line")
    page.evaluate("document.querySelector('voicews-call').client.sendDtmf('#')")
    expect(element.get_by_role("status")).to_have_text("Call ended (pressed #)")
    wait_for(lambda: live_calls(site) == 0)


@pytest.mark.parametrize(
    ("headers", "text", "complaint"),
    [
        ({"Permissions-Policy": "microphone=()"}, "with its Permissions-Policy header", None),
        (
            {"Content-Security-Policy": "default-src 'self'; connect-src http:"},
            "Content-Security-Policy forbids what calls need: connect-src must allow ws://",
            "violates|Refused to connect",
        ),
        (
            {"Content-Security-Policy": "default-src 'self'; connect-src 'none'"},
            "Content-Security-Policy forbids what calls need: connect-src must allow http://",
            "violates|Refused to connect",
        ),
    ],
    ids=["microphone", "socket", "endpoint"],
)
def test_it_says_what_the_site_forbids(
    open_page: OpenPage,
    site: Server,
    words: tuple[str, ...],
    complaints: Complaints,
    headers: dict[str, str],
    text: str,
    complaint: str | None,
) -> None:
    if complaint:
        complaints.expect(complaint)
    complaints.expect("Permissions policy violation|microphone is not allowed")
    page = open_page(f"{site.http_url}/call-me/?{urlencode(headers)}", *words)
    element = page.locator("voicews-call")
    element.get_by_role("button").click()
    expect(element.get_by_role("alert")).to_contain_text(text)
    expect_state(element, "error")


def test_it_says_what_the_embedding_page_forbids(
    open_page: OpenPage, site: Server, words: tuple[str, ...], complaints: Complaints
) -> None:
    complaints.expect("Permissions policy violation|microphone is not allowed")
    inner = f"http://localhost:{site.port}/call-me/"
    page = open_page(f"{site.http_url}/framed/?{urlencode({'url': inner})}", *words)
    element = page.frame_locator("iframe").locator("voicews-call")
    element.get_by_role("button").click()
    expect(element.get_by_role("alert")).to_contain_text('its <iframe> needs allow="microphone"')


def test_an_insecure_address_for_a_secure_page_is_explained(
    open_page: OpenPage, site: Server
) -> None:
    def behind_https(route: Route) -> None:
        address = route.request.url.replace("https://shop.test", site.http_url)
        route.fulfill(response=route.fetch(url=address))

    page = open_page("about:blank")
    page.route("https://shop.test/**", behind_https)
    page.goto("https://shop.test/call-me/")
    error = page.evaluate(
        """async () => {
          const { socketUrl } = await import("/static/voicews/connect-endpoint.js");
          try {
            return socketUrl({ ws_url: "ws://shop.test/ws/voice/1/" });
          } catch ({ code, message, reason }) {
            return { code, message, reason };
          }
        }"""
    )
    assert error["code"] == "insecure-socket"
    assert "does not know that it is behind HTTPS" in error["message"]
    assert "SECURE_PROXY_SSL_HEADER" in error["reason"]


@pytest.mark.parametrize("theme", ["light", "dark", "none"])
@pytest.mark.parametrize("system", ["light", "dark"])
def test_its_texts_can_be_read_whatever_the_page_and_the_system_are(
    open_page: OpenPage, site: Server, words: tuple[str, ...], theme: str, system: str
) -> None:
    page = open_page(f"{site.http_url}/call-me/", *words, color_scheme=system)
    if theme == "none":  # a dark page that tells the browser nothing of it
        page.evaluate("document.body.style = 'background: #101418; color: #eceff1'")
    else:
        page.evaluate("theme => { document.documentElement.style.colorScheme = theme }", theme)
    element = page.locator("voicews-call")
    assert violations(page) == []
    element.get_by_role("button").click()
    expect_state(element, "ready")
    page.evaluate(
        """() => {
          const { client } = document.querySelector("voicews-call");
          document.querySelector("[role=alert]").textContent = "Something is wrong.";
        }"""
    )
    assert violations(page) == []


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
    expect_readable(page)
    page.get_by_role("button", name="Mute").click()
    expect(page.get_by_role("button", name="Unmute")).to_be_visible()
    expect_readable(page)


def expect_readable(page: Page) -> None:
    assert faint_texts(page) == []
    assert violations(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
