"""Pipecat's browser client, unchanged, calls voicews; and Pipecat, as a comparison."""

import base64
import time
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.benchmarks.load import read_audio
from tests.interop.chromium import open_pipecat_page
from tests.interop.conftest import FREQUENCY
from tests.interop.peers import VoiceServer
from tests.interop.signals import dominant_frequency, samples_of

# The client plays everything at this rate, whatever a frame says.
PLAYER_SAMPLE_RATE = 24_000
LISTEN_MS = 2_500
TIMEOUT_SECS = 30.0
CONNECT = "async ([url, options]) => { window.call = new Call(options); return call.connect(url) }"


def connect(page: Page, server: VoiceServer, *, microphone: bool = True) -> Any:
    """Call the server from its own page; the data of bot-ready."""
    open_pipecat_page(page, server.origin)
    return page.evaluate(CONNECT, [server.connect_url, {"enableMic": microphone}])


def received_audio(page: Page) -> list[tuple[bytes, int]]:
    """PCM and sample rate (Hz) of each audio frame so far."""
    received = page.evaluate("call.received.map(message => message.payload)")
    frames = (read_audio(base64.b64decode(payload)) for payload in received)
    return [frame for frame in frames if frame is not None]


def listen(page: Page, secs: float) -> list[tuple[bytes, int]]:
    """As ``received_audio``, once there is so much of it."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while True:
        audio = received_audio(page)
        if sum(len(pcm) for pcm, _ in audio) / 2 / PLAYER_SAMPLE_RATE >= secs:
            return audio
        assert time.monotonic() < deadline, f"waited {TIMEOUT_SECS} s in vain"
        page.wait_for_timeout(100)


def events(page: Page, name: str) -> list[Any]:
    """The data of the client's events of one kind so far."""
    found: list[Any] = page.evaluate(
        "name => call.events.filter(event => event.name === name).map(event => event.data)", name
    )
    return found


def test_it_hears_its_own_voice_at_the_right_pitch(page: Page, voice_server: VoiceServer) -> None:
    connect(page, voice_server)
    audio = listen(page, LISTEN_MS / 1000)
    assert {sample_rate for _, sample_rate in audio} == {PLAYER_SAMPLE_RATE}
    # An odd number of bytes would make the client throw the frame away.
    assert all(len(pcm) % 2 == 0 for pcm, _ in audio)
    pcm = b"".join(pcm for pcm, _ in audio)
    assert max(samples_of(pcm)) > 1000
    assert dominant_frequency(pcm, PLAYER_SAMPLE_RATE) == pytest.approx(FREQUENCY, abs=2)


def test_bot_ready_says_what_the_server_can(page: Page, voice_server: VoiceServer) -> None:
    ready = connect(page, voice_server, microphone=False)
    assert ready["version"].startswith("2.")
    assert ready["about"]["library"]
    assert ready["capabilities"]["audio_in"] is True
    assert ready["capabilities"]["audio_out"] is True
    assert page.evaluate("call.state") == "ready"


def test_a_request_is_answered(page: Page, voice_server: VoiceServer) -> None:
    connect(page, voice_server, microphone=False)
    assert page.evaluate("call.request('echo', {hello: ['wörld', 1]})") == {"hello": ["wörld", 1]}


def test_a_request_that_fails_is_rejected(page: Page, voice_server: VoiceServer) -> None:
    connect(page, voice_server, microphone=False)
    answer = page.evaluate("call.request('unknown', {}).catch(error => error)")
    assert answer["type"] == "error-response"
    assert answer["data"]["error"]
    assert page.evaluate("call.state") == "ready"


def test_it_hangs_up_and_calls_again(page: Page, voice_server: VoiceServer) -> None:
    connect(page, voice_server)
    page.evaluate("call.disconnect()")
    assert events(page, "state")[-2:] == ["disconnecting", "disconnected"]
    assert events(page, "error") == []
    assert page.evaluate(CONNECT, [voice_server.connect_url, {}])["version"].startswith("2.")


def test_nothing_that_the_server_says_is_an_error_to_it(
    page: Page, voice_server: VoiceServer
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    connect(page, voice_server)
    page.wait_for_timeout(LISTEN_MS)
    assert complaints == []
    page.evaluate("call.sendText('hello')")
    page.wait_for_timeout(500)
    # The text interrupts the bot, and this client doesn't know the interruption frame.
    assert all("Unknown frame kind" in complaint for complaint in complaints)
    assert events(page, "error") == []
    assert events(page, "message-error") == []
    assert page.evaluate("call.state") == "ready"
