"""Pipecat's own client, and its React hooks, on our transport: the reference's "Basic Setup"."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Serve
from tests.interop.chromium import open_basic_setup
from tests.interop.conftest import CONNECT_PATH, FREQUENCY, SETTINGS
from tests.interop.peers import VoiceServer
from tests.server_processes import Server

LISTEN_MS = 2_500
TIMEOUT_SECS = 60.0

#: Every change of what is on the page of the bot's text, as plain text.
WATCH_SPOKEN = """() => {
  const squeezed = (text) => text.replace(/\\s+/g, " ");
  const list = document.querySelector("#messages");
  globalThis.spoken = [];
  const look = () => {
    const parts = [...list.querySelectorAll("li[data-role=assistant] span")];
    const spoken = squeezed(parts.map((part) => part.textContent).join(" ").trim());
    const unspoken = squeezed(parts.map((part) => part.dataset.unspoken).join(" ").trim());
    if (spoken || unspoken) globalThis.spoken.push({ spoken, unspoken, ms: performance.now() });
  };
  new MutationObserver(look).observe(list, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
}"""

Connect = Callable[..., Any]


@pytest.fixture
def one(uvicorn: Server) -> VoiceServer:
    """One server, for what is the same with all of them."""
    return VoiceServer(uvicorn.origin, CONNECT_PATH)


@pytest.fixture
def connect(page: Page) -> Connect:
    """A function that opens a server's page and calls it; the data of bot-ready."""

    def connect(server: VoiceServer, **options: Any) -> Any:
        open_basic_setup(page, server.origin, options)
        return page.evaluate("url => call.connect(url)", server.connect_url)

    return connect


def events(page: Page, name: str) -> list[Any]:
    found: list[Any] = page.evaluate("name => call.named(name)", name)
    return found


def until(page: Page, expression: str) -> None:
    """Playwright's own way to wait needs what the page's security policy forbids."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"waited in vain for {expression}"
        page.wait_for_timeout(100)


def expect_echo(page: Page) -> None:
    """What the microphone hears comes back, at its pitch."""
    page.evaluate("call.forget()")
    until(page, "call.loudest.decibels > -50")
    page.wait_for_timeout(LISTEN_MS)
    assert page.evaluate("call.loudest.hz") == pytest.approx(FREQUENCY, abs=3)
    levels = page.evaluate("call.levels")
    assert levels["local"] > 0.02
    assert levels["remote"] > 0.02


def test_a_call(page: Page, voicews: VoiceServer, connect: Connect) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    ready = connect(voicews)
    assert ready["about"]["library"] == "voicews"
    expect_echo(page)
    states = events(page, "onTransportStateChanged")
    assert states == [
        *("initializing", "initialized", "authenticating", "authenticated"),
        *("connecting", "connected", "ready"),
    ]
    assert page.evaluate("call.client.connected")
    assert events(page, "onBotConnected") == [{"id": "bot", "name": "bot", "local": False}]
    assert page.evaluate("call.client.mediaState.mic.state") == "granted"
    assert page.evaluate("call.client.tracks().local.audio.kind") == "audio"
    assert page.evaluate("call.client.sendClientRequest('echo', {hello: ['wörld', 1]})") == {
        "hello": ["wörld", 1]
    }
    refused = "call.client.sendClientRequest('unknown', {}).catch(error => error.type)"
    assert page.evaluate(refused) == "error-response"
    page.evaluate("call.client.disconnect()")
    assert events(page, "onTransportStateChanged")[-2:] == ["disconnecting", "disconnected"]
    assert len(events(page, "onDisconnected")) == 1
    # The bot's own error of the request that it did not know.
    assert [error["data"]["error"] for error in events(page, "onError")] == ["Echo failed"]
    assert page.evaluate("call.transport.media.audio") is None
    # And once more, with the same objects.
    again = page.evaluate("url => call.connect(url)", voicews.connect_url)
    assert again["voicews"]["session"] != ready["voicews"]["session"]
    expect_echo(page)
    assert complaints == []


def test_audio_of_the_page(page: Page, one: VoiceServer, connect: Connect) -> None:
    """``client.transport.handleUserAudioStream``, through the proxy that the client gives out."""
    connect(one, enableMic=False)
    page.evaluate("call.forget()")
    page.evaluate(
        """() => {
          const samples = Int16Array.from({ length: 1600 }, (_, i) =>
            8000 * Math.sin(2 * Math.PI * 700 * i / 8000));
          setInterval(() => call.client.transport.handleUserAudioStream(samples.buffer), 200);
        }"""
    )
    page.wait_for_timeout(LISTEN_MS)
    assert page.evaluate("call.loudest.hz") == pytest.approx(700, abs=5)
    assert page.evaluate("call.client.transport.state") == "ready"
    assert page.evaluate("call.client.transport.stats.framesOut") > 5


def test_a_restarted_server_has_its_call_back(page: Page, serve: Serve, connect: Connect) -> None:
    server: Server = serve(environment=SETTINGS)
    ready = connect(VoiceServer(server.origin, CONNECT_PATH))
    expect_echo(page)
    server.kill()
    until(page, "call.client.state === 'connecting'")
    page.wait_for_timeout(3000)
    server.start()
    until(page, "call.client.state === 'ready'")
    expect_echo(page)
    assert page.evaluate("call.client.sendClientRequest('echo', 1)") == 1
    # Nothing has begun or ended for the application.
    for name in ("onBotReady", "onBotConnected"):
        assert len(events(page, name)) == 1
    assert events(page, "onDisconnected") == events(page, "onBotDisconnected") == []
    errors = [error["data"] for error in events(page, "onError")]
    assert errors
    assert not any(error["fatal"] for error in errors)
    assert ready["voicews"]["session"]
    server.stop()
    until(page, "call.client.state === 'disconnected'")
    assert events(page, "onError")[-1]["data"]["fatal"] is True
    assert len(events(page, "onDisconnected")) == 1


def test_react(page: Page, one: VoiceServer, connect: Connect) -> None:
    connect(one)
    expect(page.locator("#state")).to_have_text("ready")
    expect(page.locator("#mic")).to_have_text("on")
    expect(page.locator("#mics")).to_have_text(re.compile(r"^\d default$"))
    page.click("#mic")
    expect(page.locator("#mic")).to_have_text("off")
    page.wait_for_timeout(1500)
    page.evaluate("call.forget()")
    page.wait_for_timeout(1000)
    assert page.evaluate("call.levels.remote") < 0.001
    page.click("#mic")
    expect_echo(page)
    assert events(page, "onTrackStarted") == ["audio", "audio"]
    assert events(page, "onTrackStopped") == ["audio"]


def test_react_shows_what_the_bot_says_as_spoken(
    page: Page, one: VoiceServer, connect: Connect
) -> None:
    """The spoken part of a text grows while it is heard, until nothing is unspoken."""
    connect(one, enableMic=False)
    text = "One two three four five six seven. Eight nine ten eleven twelve."
    seconds = 5.0
    page.evaluate(WATCH_SPOKEN)
    page.evaluate(
        "data => call.client.sendClientRequest('say', data)", {"text": text, "seconds": seconds}
    )
    until(page, f"spoken.at(-1)?.spoken === {json.dumps(text)}")
    expect(page.locator("#messages li")).to_have_attribute("data-role", "assistant")
    seen = page.evaluate("spoken")
    lengths = [len(one["spoken"]) for one in seen]
    for one_look in seen:
        # Sentences are shown one after the other.
        shown = one_look["spoken"] + one_look["unspoken"]
        assert text.replace(" ", "").startswith(shown.replace(" ", ""))
    assert lengths == sorted(lengths), "what was spoken became unspoken"
    assert len({length for length in lengths if 0 < length < len(text)}) >= 2, lengths
    # Not before it could be heard.
    assert seen[-1]["ms"] - seen[0]["ms"] > 1000 * seconds / 2


def test_the_camera_is_open(page: Page, one: VoiceServer, connect: Connect) -> None:
    connect(one, enableCam=True)
    page.wait_for_function("call.client.isCamEnabled")
    assert "video" in events(page, "onTrackStarted")
    assert page.evaluate("Boolean(call.client.tracks().local.video)")
    assert page.evaluate("call.client.selectedCam.kind") in {"videoinput", None}


def test_a_call_without_a_microphone(page: Page, one: VoiceServer, connect: Connect) -> None:
    page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () => {
          throw new DOMException("none", "NotFoundError");
        };"""
    )
    connect(one)
    error = events(page, "onDeviceError")[0]
    assert (error["devices"], error["type"]) == (["mic"], "not-found")
    assert page.evaluate("call.client.mediaState.mic.state") == "error"
    assert page.evaluate("call.client.mediaState.mic.reason") == "not-found"
    assert page.evaluate("call.client.state") == "ready"
    assert page.evaluate("call.client.sendClientRequest('echo', 1)") == 1
