"""What pages of one's own do with the client: a bare page, no call button."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import microphone
from tests.browser.conftest import OpenPage
from tests.browser.pages import Calls
from tests.browser.sound import silence, tone, write_microphone
from tests.server_processes import Server

FREQUENCY = 523.0

_MAKE = """async (options) => {
  const { VoiceClient, WebSocketTransport } = await import("/static/voicews/index.js");
  globalThis.client = new VoiceClient({ transport: new WebSocketTransport(options) });
  globalThis.events = [];
  for (const name of [
    "onError", "onTrackStarted", "onTrackStopped", "onMicUpdated", "onAvailableMicsUpdated",
  ]) client.on(name, (data) => events.push([name, data.code ?? data.label ?? data.length]));
}"""
_CALL = """() => client.connect({
  endpoint: "/voice/connect/", requestData: { bot: "echo" }
}).then(() => null)"""


@pytest.fixture
def page(open_page: OpenPage, site: Server, sounds: Path) -> Page:
    """A page that allows nothing but files and sockets of its own server."""
    path = write_microphone(sounds / "client.wav", tone(FREQUENCY, 0.6), silence(0.4))
    return open_page(f"{site.http_url}/two-buttons/", *microphone(path))


def call(page: Page, **options: Any) -> Calls:
    page.evaluate(_MAKE, options)
    calls = Calls(page, "client")
    page.evaluate(_CALL)
    return calls


def test_push_to_talk(page: Page) -> None:
    calls = call(page, pushToTalk=True)
    page.evaluate(
        """async () => {
          const { pushToTalk } = await import("/static/voicews/index.js");
          const button = document.createElement("button");
          button.textContent = "Hold to talk";
          document.body.prepend(button);
          globalThis.unbind = pushToTalk(client, button);
        }"""
    )
    button = page.get_by_role("button", name="Hold to talk")
    # The microphone is taken, and not sent.
    assert page.evaluate("client.localStream.active && !client.isMicEnabled")
    calls.record(1.5)
    button.focus()
    page.keyboard.down("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    calls.note("pressed")
    calls.record(2)
    page.keyboard.up("Space")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("client.localStream.active"), "the microphone was given back"
    calls.record(2)
    before = page.evaluate("client.stats.framesOut")
    calls.record(1)
    assert page.evaluate("client.stats.framesOut") - before < 15, "something is sent besides pings"
    recording = calls.read()
    pressed = recording.times("pressed")[0]
    heard = recording.played.sounds()
    assert heard, "nothing came back"
    assert heard[0].start > pressed
    button.hover()
    page.mouse.down()
    expect(button).to_have_attribute("aria-pressed", "true")
    page.evaluate("unbind()")
    assert not page.evaluate("client.isMicEnabled")


def test_volume_tracks_and_devices(page: Page) -> None:
    calls = call(page)
    calls.record(4)
    page.evaluate("() => { client.volume = 0.25 }")
    calls.note("quiet")
    calls.record(4)
    recording = calls.read()
    quiet = recording.times("quiet")[0]
    bursts = [sound for sound in recording.played.sounds() if sound.seconds > 0.5]
    assert recording.played.dominant_frequency(bursts[0]) == pytest.approx(FREQUENCY, abs=3)
    # The browser needs a moment to find the level of its microphone.
    loud, soft = (
        median(recording.played.loudness(burst) for burst in some)
        for some in (
            [burst for burst in bursts if burst.start > 1.5 and burst.end < quiet],
            [burst for burst in bursts if burst.start > quiet + 0.1],
        )
    )
    assert soft / loud == pytest.approx(0.25, abs=0.04)
    kinds = page.evaluate(
        "(({ local, bot }) => [local.audio.kind, bot.audio.kind])(client.tracks())"
    )
    assert kinds == ["audio", "audio"]
    mics = page.evaluate("client.getAllMics().then((mics) => mics.map((mic) => mic.deviceId))")
    assert "default" in mics
    assert page.evaluate("client.selectedMic.deviceId") == "default"
    other = next(mic for mic in mics if mic != "default")
    page.evaluate("(id) => client.updateMic(id)", other)
    assert page.evaluate("client.selectedMic.deviceId") == other
    # It is unplugged: the call goes on with the default one.
    page.evaluate("client.localStream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    expect_event(page, "onError", "microphone-lost")
    assert page.evaluate("client.selectedMic.deviceId") == "default"
    # The browser puts the sound to sleep: it wakes up by itself.
    page.evaluate("client.audioContext.suspend()")
    calls.record(2)
    assert page.evaluate("client.audioContext.state") == "running"
    assert page.evaluate("client.state") == "ready"
    assert page.evaluate("client.disconnect().then(() => client.tracks())") == {"local": {}}


def expect_event(page: Page, name: str, value: str) -> None:
    for _ in range(100):
        if [name, value] in page.evaluate("events"):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"no {name} {value} in {page.evaluate('events')}")
