"""A Django project in front of a bot on Pipecat's own server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.interop.conftest import project_before
from tests.interop.peers import pipecat_server
from tests.interop.signals import dominant_frequency, tone
from tests.interop.wire_call import SAMPLE_RATE, Call
from tests.server_processes import Server

FREQUENCY = 523.0


@contextmanager
def a_call(server: Server, *, greets: bool = True) -> Iterator[Call]:
    answer = server.connect()
    with ExitStack() as sockets:
        yield Call(sockets, answer["ws_url"], answer["token"], greets=greets)


def test_audio_and_messages_go_both_ways(bridge: Server) -> None:
    with a_call(bridge) as call:
        assert call.ready["data"]["about"]["library"] == "pipecat-ai"
        assert call.ready["data"]["voicews"]["session"] in call.url
        assert call.ask("echo", {"a": 1}) == {"a": 1}
        call.say(tone(FREQUENCY, 1.5, 16000))
        call.until_heard(1.2)
        assert dominant_frequency(bytes(call.pcm), SAMPLE_RATE) == pytest.approx(FREQUENCY, abs=2)


def test_an_interruption_of_the_remote_bot_silences_the_call(bridge: Server) -> None:
    with a_call(bridge) as call:
        call.say(tone(FREQUENCY, 6.0, 16000))
        call.until_heard(0.5)
        call.send(type="send-text", id="t", data={"content": "stop"})
        interruption = call.until_type("(interruption)")
        # What the echo had yet to say is not heard any more.
        assert call.ask("echo", "still there?") == "still there?"
        assert interruption["heard_secs"] < 3.0


def test_a_client_that_comes_back_finds_the_same_remote_bot(bridge: Server) -> None:
    with a_call(bridge) as call:
        call.lose()
        again = call.resume()
        assert again.ready["data"]["about"]["library"] == "pipecat-ai"
        assert again.ask("echo", 2) == 2


def test_when_the_remote_server_goes_down_the_call_says_so_and_ends(
    tmp_path: Path, serve: Serve
) -> None:
    with ExitStack() as calls:
        with pipecat_server(tmp_path / "log") as remote:
            server = project_before(remote, serve)
            call = calls.enter_context(a_call(server))
        assert call.until_type("error")["data"] == {
            "error": "the connection to the remote bot was lost",
            "fatal": True,
        }
        assert call.until_closed() == 1011
        with a_call(server, greets=False) as refused:
            error = refused.until_type("error")
            assert error["data"]["error"] == "the remote bot can't be reached"
            assert refused.until_closed() == 1011
