"""The demo page in Chromium, with a file as the microphone, against real servers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from tests.browser.axe import violations
from tests.browser.chromium import MISSING_MICROPHONE, REFUSED_MICROPHONE, microphone
from tests.browser.conftest import SETTINGS, Complaints, OpenPage
from tests.browser.contrast import faint_texts
from tests.browser.pages import DEMO, Calls, DemoPage, count_sessions, session_row
from tests.browser.sound import (
    Recording,
    Samples,
    Stretch,
    sentence,
    silence,
    tone,
    write_microphone,
)
from tests.conftest import Serve, WaitFor
from tests.server_processes import Server, ServerName

# A browser that waits for a core while other tests have it plays with gaps, whatever we send.
HEARS_GAPS = pytest.mark.alone

MILLISECONDS = re.compile(r"^\d+ ms$")

BURSTS_HZ = (440.0, 660.0, 550.0, 770.0)
BURST_SECS, BURST_PAUSE_SECS = 0.6, 0.4

SENTENCE_SECS = 1.5
#: The parrot answers some 0.7 s after a sentence, so the next one comes in the middle of that.
SENTENCE_PAUSE_SECS = 1.6
SENTENCES = 3

#: A talker who breaks in hears the bot stop within this time.
BARGE_IN_SECS = 0.3

#: Longer than a lease and than quick tries; shorter than RECONNECT_GRACE_SECS.
AWAY_SECS = 11

#: A busy machine may starve the browser for a while.
ATTEMPTS = 6
#: After a sudden death the new server has to wait until the old one's lease has run out.
RESUME_TIMEOUT_MS = 60_000

OpenDemo = Callable[..., DemoPage]
#: Browsers write that to the console whenever a server is away.
FAILED_TO_CONNECT = (
    r"WebSocket connection to .* failed|net::ERR_CONNECTION_REFUSED|load a worklet's module"
)


#: A client that counts what its audio costs.
OPUS_CLIENT = """async () => {
  const voicews = await import("/static/voicews/index.js");
  globalThis.bytes = { up: 0, down: 0 };
  let since = null;
  globalThis.seconds = () => (performance.now() - since) / 1000;
  class Counting extends voicews.OpusFrameSerializer {
    serializeAudio(...audio) {
      const data = super.serializeAudio(...audio);
      since ??= performance.now();
      bytes.up += data?.byteLength ?? 0;
      return data;
    }
    deserialize(data) {
      bytes.down += data.byteLength;
      return super.deserialize(data);
    }
  }
  globalThis.opus = new Counting();
  const transport = new voicews.WebSocketTransport({ serializer: opus });
  globalThis.opusClient = new voicews.VoiceClient({ transport });
}"""


#: The loudest frequency (Hz) of what the bot and what its destination "music" are heard as.
PITCHES = """async () => {
  const context = voiceClient.audioContext;
  const nodes = [voiceClient.playbackNode, voiceClient.destinationNode("music")];
  const analysers = nodes.map((node) => {
    const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
    node.connect(analyser);
    return analyser;
  });
  const loudest = (analyser) => {
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const level = Math.max(...levels);
    return level > -60 ? levels.indexOf(level) * context.sampleRate / analyser.fftSize : 0;
  };
  for (let tries = 0; tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (analysers.every((analyser) => loudest(analyser) > 0)) break;
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  return analysers.map(loudest);
}"""


@pytest.fixture(scope="module")
def bursts(sounds: Path) -> tuple[str, ...]:
    """A microphone that hears tones; endless ones would be suppressed as noise."""
    parts = [part for hz in BURSTS_HZ for part in (tone(hz, BURST_SECS), silence(BURST_PAUSE_SECS))]
    return microphone(write_microphone(sounds / "bursts.wav", *parts))


@pytest.fixture(scope="module")
def conversation(sounds: Path) -> tuple[str, ...]:
    """A microphone that hears a few sentences and then nothing more."""
    parts: list[Samples] = [silence(0.5)]
    for number in range(SENTENCES):
        parts += [sentence(SENTENCE_SECS, 250 + 50 * number), silence(SENTENCE_PAUSE_SECS)]
    path = write_microphone(sounds / "conversation.wav", *parts, silence(60))
    return microphone(path, repeat=False)


@pytest.fixture
def open_demo(open_page: OpenPage, bursts: tuple[str, ...]) -> OpenDemo:
    """A function that opens a server's demo page, with bursts as the microphone."""

    def open_demo(server: Server, *flags: str, **options: object) -> DemoPage:
        return DemoPage(open_page(server.http_url + DEMO, *(flags or bursts), **options))

    return open_demo


@pytest.fixture(params=["uvicorn", "daphne"])
def each_site(request: pytest.FixtureRequest) -> Server:
    """The demo project under each server."""
    name = "site" if request.param == "uvicorn" else "daphne_site"
    server: Server = request.getfixturevalue(name)
    return server


def calm_echoes(recording: Recording) -> list[tuple[Stretch, Stretch]]:
    """The bursts of the microphone that were recorded whole, each with its echo.

    Left out are those near a disturbance that the page itself told of: a busy machine may starve
    a browser or a server, and then there is a gap that nobody can fill.
    """
    disturbances = recording.times("underrun") + recording.times("onBotStoppedSpeaking")
    longest = BURST_SECS + BURST_PAUSE_SECS / 2
    found = []
    echoes = recording.played.sounds(pause_secs=BURST_PAUSE_SECS / 2)
    for said in recording.spoken.sounds():
        frequency = recording.spoken.dominant_frequency(said)
        echo = next(
            (
                echo
                for echo in echoes
                if echo.start > said.start
                and recording.played.dominant_frequency(echo) == pytest.approx(frequency, abs=3)
            ),
            None,
        )
        if echo is None or echo.end + BURST_PAUSE_SECS / 2 > recording.seconds:
            break
        # The browser needs a moment to find the right level.
        if said.start < 0.9 or not 0.9 * BURST_SECS < said.seconds < longest:
            continue
        if not any(echo.start - 1 < time < echo.end + 1 for time in disturbances):
            found.append((said, echo))
    return found


# --- sound ---------------------------------------------------------------------------------------


@HEARS_GAPS
def test_the_echo_returns_what_was_said(open_demo: OpenDemo, each_site: Server) -> None:
    page = open_demo(each_site)
    page.call("echo")
    page.calls.record(3)
    for _ in range(ATTEMPTS):
        page.calls.record(3.5)
        recording = page.calls.read()
        echoes = calm_echoes(recording)
        if len(echoes) >= 4:
            break
    assert len(echoes) >= 4
    for said, echo in echoes:
        frequency = recording.played.dominant_frequency(echo)
        assert any(frequency == pytest.approx(hz, abs=3) for hz in BURSTS_HZ)
        loudness = recording.played.loudness(echo) / recording.spoken.loudness(said)
        assert loudness == pytest.approx(1, abs=0.2)
        assert echo.seconds == pytest.approx(BURST_SECS, abs=0.02)
        assert len(recording.played.sounds(within=echo)) == 1, "gaps in what was played"
    expect(page.figure("rtt")).to_have_text(MILLISECONDS)
    expect(page.figure("mouthToEar")).to_have_text(MILLISECONDS)
    page.hang_up()
    underruns = page.stats()["underruns"]
    expect(page.figure("gaps")).to_contain_text(f"{underruns} (")
    assert underruns >= len(recording.times("underrun"))


@HEARS_GAPS
def test_silence_before_the_call_makes_no_echo_late(
    open_demo: OpenDemo, site: Server, sounds: Path
) -> None:
    parts = [part for hz in BURSTS_HZ for part in (tone(hz, BURST_SECS), silence(BURST_PAUSE_SECS))]
    path = write_microphone(sounds / "late.wav", silence(2.5), *parts, *parts)
    page = open_demo(site, *microphone(path, repeat=False))
    # The microphone is on while the server takes its time to answer.
    page.page.route("**/voice/connect/", _after_a_second)
    page.call("echo")
    page.calls.record(5)
    delay = min(echo.start - said.start for said, echo in calm_echoes(page.calls.read()))
    print(f"the echo comes after {1000 * delay:.0f} ms")
    # With half a second that had waited, it would be more than that for the whole call.
    assert delay < 0.4


def _after_a_second(route: Route) -> None:
    time.sleep(1)
    route.continue_()


@HEARS_GAPS
def test_the_parrot_repeats_and_falls_silent_when_talked_over(
    open_demo: OpenDemo, each_site: Server, conversation: tuple[str, ...]
) -> None:
    page = open_demo(each_site, *conversation)
    page.call("parrot")
    # Nobody talks over the last answer, so it is the only one that gets to its end.
    for _ in range(SENTENCES):
        page.calls.record(SENTENCE_SECS + SENTENCE_PAUSE_SECS)
    expect(page.entries("spoke", by_bot=True)).to_have_count(SENTENCES)
    page.calls.record(0.5)
    recording = page.calls.read()
    spoken = recording.spoken.sounds(pause_secs=0.4)
    played = recording.played.sounds(pause_secs=0.4)
    assert len(spoken) == len(played) == SENTENCES

    for sentence_heard, answer in zip(spoken, played, strict=True):
        # After the pause that says that the sentence is over, not before.
        assert 0.55 < answer.start - sentence_heard.end < 1.5
    *interrupted, whole = played
    for answer, talked_over in zip(interrupted, spoken[1:], strict=True):
        assert answer.start < talked_over.start
        assert answer.end - talked_over.start < BARGE_IN_SECS
    assert len(recording.times("onInterruption")) == SENTENCES - 1
    expect(page.entries("interrupted")).to_have_count(SENTENCES - 1)

    assert whole.seconds == pytest.approx(spoken[-1].seconds, abs=0.05)
    returned, said = (
        recording.played.envelope(whole),
        recording.spoken.envelope(spoken[-1]),
    )
    length = min(returned.size, said.size)
    assert np.corrcoef(returned[:length], said[:length])[0, 1] > 0.9


def test_a_destination_is_heard_beside_the_bot(
    open_demo: OpenDemo, site: Server, wait_for: WaitFor
) -> None:
    page = open_demo(site)
    page.call("stage")
    wait_for(lambda: page.page.evaluate('voiceClient.destinationNode("music") !== null'))
    pitches = page.page.evaluate(PITCHES)
    assert pitches == [pytest.approx(440, abs=25), pytest.approx(1000, abs=25)]
    page.hang_up()


def test_an_echo_in_opus(open_demo: OpenDemo, site: Server) -> None:
    page = open_demo(site)
    page.page.locator("h1").click()
    page.page.evaluate(OPUS_CLIENT)
    calls = Calls(page.page, "opusClient")
    page.page.evaluate(
        'opusClient.connect({ endpoint: "/voice/connect/", requestData: { bot: "thin" } })'
    )
    for _ in range(ATTEMPTS):
        calls.record(3)
        echoes = calm_echoes(calls.read())
        if len(echoes) >= 2:
            break
    assert len(echoes) >= 2
    played = calls.read().played
    for _, echo in echoes:
        frequency = played.dominant_frequency(echo)
        assert any(frequency == pytest.approx(hz, abs=3) for hz in BURSTS_HZ)
    assert page.page.evaluate("opus.isAgreed")
    # 256 kbit/s each way would be PCM.
    for way in ("up", "down"):
        bits_per_sec = page.page.evaluate(f"8 * bytes.{way} / seconds()")
        assert 4_000 < bits_per_sec < 48_000, way
    page.page.evaluate("opusClient.disconnect()")


def test_a_muted_microphone_sends_nothing(open_demo: OpenDemo, site: Server) -> None:
    page = open_demo(site)
    page.call("echo")
    page.calls.record(1.5)
    mute = page.page.locator("#mute")
    mute.click()
    expect(mute).to_have_accessible_name("Unmute")
    page.calls.note("muted")
    # What was said before is still to come, then a second of silence.
    page.calls.record(2)
    assert page.page.evaluate("voiceClient.localStream") is None, "the device is still held"
    before = page.stats()["framesOut"]
    page.calls.record(1.5)
    assert page.stats()["framesOut"] - before < 20, "something is sent besides pings"
    mute.click()
    expect(mute).to_have_accessible_name("Mute")
    page.calls.note("unmuted")
    page.calls.record(1.5)
    recording = page.calls.read()
    muted, unmuted = recording.times("muted")[0], recording.times("unmuted")[0]
    sounds = recording.played.sounds()
    assert any(sound.start < muted for sound in sounds)
    assert not any(muted + 1 < sound.start < unmuted for sound in sounds)
    assert any(sound.start > unmuted for sound in sounds)


# --- the life of a call --------------------------------------------------------------------------


def test_hanging_up_ends_the_session(
    open_demo: OpenDemo, each_site: Server, wait_for: WaitFor
) -> None:
    page = open_demo(each_site)
    first = page.call("echo")
    expect(page.state).to_have_text("In a call")
    assert session_row(each_site, first)["state"] == "active"
    page.hang_up()
    expect(page.state).to_have_text("Not in a call")
    expect(page.entries("Call ended")).to_be_visible()
    expect(page.alert).to_be_hidden()
    wait_for(lambda: session_row(each_site, first)["state"] == "ended")
    assert session_row(each_site, first)["end_reason"] == "client left"
    assert page.page.evaluate("voiceClient.audioContext") is None

    second = page.call("parrot")
    assert second != first
    row = session_row(each_site, second)
    assert (row["state"], row["bot"]) == ("active", "parrot")
    page.calls.record(1.5)
    assert page.calls.read().spoken.sounds()
    # Leaving the page is hanging up too.
    page.page.goto("about:blank")
    wait_for(lambda: session_row(each_site, second)["state"] == "ended")


def test_the_bot_hangs_up(open_demo: OpenDemo, site: Server, wait_for: WaitFor) -> None:
    page = open_demo(site)
    session = page.call("keypad")
    page.page.get_by_text("Keypad", exact=True).last.click()
    page.page.get_by_role("button", name="5", exact=True).click()
    expect(page.entries("pressed 5")).to_be_visible()
    expect(page.entries('sent a message: {"button":"5"}')).to_be_visible()
    page.page.get_by_role("button", name="#", exact=True).click()
    page.expect_state("disconnected")
    expect(page.entries("Call ended (pressed #)")).to_be_visible()
    expect(page.page.get_by_role("button", name="5", exact=True)).to_be_disabled()
    wait_for(lambda: session_row(site, session)["state"] == "ended")
    assert session_row(site, session)["close_code"] == 1000


def test_text_is_sent_and_answered(open_demo: OpenDemo, site: Server) -> None:
    page = open_demo(site)
    text = page.page.get_by_label("Text for the bot")
    expect(text).to_be_disabled()
    page.call("parrot")
    text.fill("  hello <b>bot</b> ")
    text.press("Enter")
    expect(page.entries("wrote “hello <b>bot</b>”")).to_be_visible()
    expect(page.entries("“hello <b>bot</b>”", by_bot=True)).to_be_visible()
    expect(text).to_have_value("")


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_call_survives_a_restart_of_the_server(
    open_demo: OpenDemo, serve: Serve, complaints: Complaints, program: ServerName
) -> None:
    complaints.expect(FAILED_TO_CONNECT)
    server = serve(program, environment=SETTINGS, keep_port=True)
    page = open_demo(server)
    session = page.call("echo")
    page.calls.record(1)
    server.restart()
    expect(page.entries("The server is restarting.").first).to_be_visible()
    expect_back(page, server, session)


def test_a_call_survives_the_sudden_death_of_the_server(
    open_demo: OpenDemo, serve: Serve, complaints: Complaints
) -> None:
    complaints.expect(FAILED_TO_CONNECT)
    server = serve(environment=SETTINGS, keep_port=True)
    page = open_demo(server)
    session = page.call("echo")
    page.calls.record(1)
    server.kill()
    page.expect_state("reconnecting")
    expect(page.page.locator("#banner")).to_contain_text("The connection to the server was lost.")
    server.start()
    expect_back(page, server, session)
    expect(page.entries("Trying")).to_have_count(0)


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["deploy", "SIGKILL"])
def test_a_call_survives_a_server_that_is_away_for_a_while(
    open_demo: OpenDemo, serve: Serve, complaints: Complaints, end: Callable[[Server], object]
) -> None:
    complaints.expect(FAILED_TO_CONNECT)
    server = serve(environment=SETTINGS)
    page = open_demo(server)
    session = page.call("echo")
    # Nobody listens on the port meanwhile: each try is refused.
    end(server)
    page.expect_state("reconnecting")
    page.page.wait_for_timeout(1000 * AWAY_SECS)
    expect(page.page.locator("#banner")).to_contain_text("Still trying to reconnect…")
    server.start()
    expect_back(page, server, session)
    attempts = page.page.evaluate("attempts")
    assert attempts == [1, 2]


def expect_back(page: DemoPage, server: Server, session: str) -> None:
    """The page has the same call again, and it talks."""
    expect(page.entries("Reconnected")).to_be_visible(timeout=RESUME_TIMEOUT_MS)
    page.expect_state("ready")
    expect(page.page.locator("#banner")).to_be_hidden()
    expect(page.alert).to_be_hidden()
    assert page.page.evaluate("resumed") == [session]
    assert session_row(server, session)["state"] == "active"
    page.calls.note("resumed")
    page.calls.record(2)
    recording = page.calls.read()
    resumed = recording.times("resumed")[0]
    assert any(sound.start > resumed for sound in recording.played.sounds())


# --- what can go wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (REFUSED_MICROPHONE, "The microphone is blocked."),
        (MISSING_MICROPHONE, "No microphone was found."),
    ],
    ids=["refused", "missing"],
)
def test_there_is_no_call_without_a_microphone(
    open_demo: OpenDemo, site: Server, flags: tuple[str, ...], text: str
) -> None:
    page = open_demo(site, *flags)
    sessions = count_sessions(site)
    page.start("echo")
    page.expect_state("error")
    expect(page.alert).to_contain_text(text)
    expect(page.entries(text)).to_be_visible()
    expect(page.call_button).to_have_text("Start call")
    assert count_sessions(site) == sessions


def test_an_expired_token_is_explained(open_demo: OpenDemo, serve: Serve) -> None:
    page = open_demo(serve(environment={**SETTINGS, "TOKEN_MAX_AGE_SECS": "0.001"}))
    page.start("echo")
    page.expect_state("error")
    expect(page.alert).to_contain_text("its ticket has expired. Please start a new call.")
    expect(page.alert).to_contain_text("(token expired)")


def test_a_server_that_is_down_is_explained(
    open_demo: OpenDemo, serve: Serve, complaints: Complaints
) -> None:
    complaints.expect(FAILED_TO_CONNECT)
    complaints.expect("Failed to load worklet module script: .*/voicews-tests/")
    server = serve(environment=SETTINGS)
    page = open_demo(server)
    server.stop()
    page.start("echo")
    page.expect_state("error")
    expect(page.alert).to_contain_text("The server can't be reached. Check your")
    server.start()
    page.call("echo")
    expect(page.alert).to_be_hidden()
    page.hang_up()
    # The page has all that it needs now, and finds only nobody to ask for a call.
    server.stop()
    page.start("echo")
    page.expect_state("error")
    expect(page.alert).to_contain_text("The server can't be reached. Check your")


def test_an_unknown_bot_is_explained(
    open_demo: OpenDemo, site: Server, complaints: Complaints
) -> None:
    complaints.expect("404")
    page = open_demo(site)
    page.page.evaluate("document.querySelector('[name=bot]').value = 'nobody'")
    page.start("nobody")
    page.expect_state("error")
    expect(page.alert).to_have_text("there is no such bot")


# --- for everybody -------------------------------------------------------------------------------


def test_a_call_needs_no_mouse(open_demo: OpenDemo, site: Server) -> None:
    page = open_demo(site)
    keyboard = page.page.keyboard
    focused = "document.activeElement.id || document.activeElement.value"
    keyboard.press("Tab")
    # The radio buttons, of which the default one has the focus.
    assert page.page.evaluate(focused) == "parrot"
    keyboard.press("ArrowUp")
    assert page.page.evaluate(focused) == "echo"
    keyboard.press("Tab")
    assert page.page.evaluate(focused) == "call"
    keyboard.press("Enter")
    page.expect_state("ready")
    expect(page.entries("Calling Echo")).to_be_visible()
    assert page.page.evaluate(focused) == "call"
    keyboard.press("Tab")
    assert page.page.evaluate(focused) == "mute"
    keyboard.press("Space")
    expect(page.page.locator("#mute")).to_have_accessible_name("Unmute")
    keyboard.press("Shift+Tab")
    keyboard.press("Space")
    page.expect_state("disconnected")
    assert page.page.evaluate(focused) == "call"


def test_it_fits_a_small_screen(open_demo: OpenDemo, site: Server) -> None:
    page = open_demo(site, viewport={"width": 360, "height": 640})
    too_wide = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
    for details in page.page.locator("summary").all():
        details.click()
    assert page.page.evaluate(too_wide) == 0
    page.call("parrot")
    text = page.page.get_by_label("Text for the bot")
    text.fill("long" * 60)
    text.press("Enter")
    expect(page.entries("longlong", by_bot=True)).to_be_visible()
    page.page.evaluate("document.getElementById('banner').hidden = false")
    page.page.evaluate("document.getElementById('banner').textContent = 'long'.repeat(60)")
    assert page.page.evaluate(too_wide) == 0


@pytest.mark.parametrize("colour_scheme", ["light", "dark"])
def test_its_texts_can_be_read(open_demo: OpenDemo, site: Server, colour_scheme: str) -> None:
    page = open_demo(site, color_scheme=colour_scheme)
    assert faint_texts(page.page) == []
    assert violations(page.page) == []
    page.call("parrot")
    page.page.locator("#mute").click()
    text = page.page.get_by_label("Text for the bot")
    text.fill("hello")
    text.press("Enter")
    expect(page.entries("hello", by_bot=True)).to_be_visible()
    # As they look when something is wrong.
    page.page.evaluate(
        """() => {
          for (const id of ["alert", "banner"]) {
            const element = document.getElementById(id);
            element.hidden = false;
            element.textContent = "The connection to the server was lost.";
          }
          document.querySelector(".entry-bot").classList.add("entry-problem");
        }"""
    )
    assert faint_texts(page.page) == []
    for details in page.page.locator("summary").all():
        details.click()
    assert violations(page.page) == []
