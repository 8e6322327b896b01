"""Pipecat pipelines as bots of a Django project."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.interop.environment import PIPECAT_PYTHON, REPOSITORY_DIR, pipecat_environ
from tests.interop.signals import dominant_frequency
from tests.interop.wire_call import SAMPLE_RATE, TIMEOUT_SECS, Call
from tests.server_processes import Server

#: Of tests.interop.pipecat_bots.Speaker.
SPEECH_HZ = 330.0
#: How far ahead of what is heard audio may be, and what a shared machine may add.
LEAD_SECS = 0.2
SLACK_SECS = 0.4


@pytest.fixture
def call(django_pipecat: Server) -> Iterator[Call]:
    """A call of the bot that does as it is told."""
    answer = django_pipecat.connect("speaker")
    with ExitStack() as sockets:
        yield Call(sockets, answer["ws_url"], answer["token"])


def events_of(call: Call, server: Server) -> list[str]:
    """The events that the call's bot has seen, once it has ended."""
    session = call.ready["data"]["voicews"]["session"]
    deadline = time.monotonic() + TIMEOUT_SECS
    while time.monotonic() < deadline:
        for line in server.log.read_text().splitlines():
            if line.startswith(f"events of {session}:"):
                return line.split()[3:]
        time.sleep(0.05)
    pytest.fail("the bot did not end")


def test_bot_ready_is_pipecats_with_our_session(call: Call) -> None:
    data = call.ready["data"]
    assert call.ready["id"] == "1"
    assert data["about"]["library"] == "pipecat-ai"
    assert data["capabilities"]["audio_in"] is True
    assert data["voicews"]["session"] in call.url


def test_a_ping_is_answered(call: Call) -> None:
    call.send(label="voicews", type="ping", id="7", data={})
    assert call.until_type("pong")["id"] == "7"


def test_speech_that_comes_at_once_is_paced_and_reported_to_its_end(call: Call) -> None:
    call.ask("say", 1.5)
    started = call.until_type("bot-started-speaking")
    stopped = call.until_type("bot-stopped-speaking")
    assert stopped["at"] - started["at"] == pytest.approx(1.5, abs=SLACK_SECS)
    assert stopped["heard_secs"] == pytest.approx(1.5, abs=0.1)
    assert dominant_frequency(bytes(call.pcm), SAMPLE_RATE) == pytest.approx(SPEECH_HZ, abs=2)


def test_an_interruption_silences_it(call: Call) -> None:
    call.ask("say", 8.0)
    started = call.until_type("bot-started-speaking")
    call.send(type="client-message", id="now", data={"t": "interrupt", "d": None})
    interruption = call.until_type("(interruption)")
    call.until_type("bot-stopped-speaking")
    elapsed = interruption["at"] - started["at"]
    assert interruption["heard_secs"] < elapsed + LEAD_SECS + SLACK_SECS
    call.ask("say", 0.5)
    again = call.until_type("bot-stopped-speaking")
    assert again["heard_secs"] - interruption["heard_secs"] == pytest.approx(0.5, abs=0.1)


def test_when_the_pipeline_ends_the_rest_is_heard_and_the_call_ends(call: Call) -> None:
    call.ask("say", 1.0)
    call.send(type="client-message", id="end", data={"t": "end", "d": None})
    assert call.until_closed() == 1000
    assert call.heard_secs() == pytest.approx(1.0, abs=0.1)


def test_disconnect_bot_ends_the_call(call: Call, django_pipecat: Server) -> None:
    call.send(type="disconnect-bot", id="d")
    assert call.until_closed() == 1000
    assert "on_client_disconnected" not in events_of(call, django_pipecat)


def test_a_bot_that_fails_ends_the_call_and_says_so(call: Call, django_pipecat: Server) -> None:
    call.send(type="client-message", id="f", data={"t": "fail", "d": None})
    assert call.until_type("error")["data"] == {"error": "the bot failed", "fatal": True}
    assert call.until_closed() == 1011
    assert "this bot was told to fail" in django_pipecat.log_tail()


def test_a_client_that_hangs_up_ends_the_pipeline(call: Call, django_pipecat: Server) -> None:
    assert call.ask("nothing") == ["on_client_connected", "on_client_ready"]
    call.socket.close(1000)
    assert events_of(call, django_pipecat)[-1] == "on_client_disconnected"


def test_a_client_that_comes_back_goes_on_with_the_same_pipeline(
    call: Call, django_pipecat: Server
) -> None:
    call.ask("say", 3.0)
    call.until_type("bot-started-speaking")
    call.lose()
    time.sleep(0.5)
    again = call.resume()
    assert again.ready["data"]["about"]["library"] == "pipecat-ai"
    assert again.ready["data"]["voicews"] == {
        "session": call.ready["data"]["voicews"]["session"],
        "resume_token": again.resume_token,
        "reconnect_grace_secs": 2.0,
    }
    # The bot held its breath meanwhile.
    again.until_type("bot-stopped-speaking")
    heard_secs = call.heard_secs() + again.heard_secs()
    assert heard_secs == pytest.approx(3.0, abs=LEAD_SECS + SLACK_SECS)
    events = ["on_client_connected", "on_client_ready", "on_client_reconnected"]
    assert again.ask("nothing") == events
    again.lose()
    assert events_of(call, django_pipecat) == [*events, "on_client_disconnected"]


def test_a_client_is_replaced_by_another_one(call: Call) -> None:
    other = call.resume()
    assert call.until_closed() == 4001
    assert "on_client_disconnected" not in other.ask("nothing")


def test_the_units_in_pipecats_environment() -> None:
    finished = subprocess.run(
        [str(PIPECAT_PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contrib"],
        cwd=REPOSITORY_DIR,
        env=pipecat_environ(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
