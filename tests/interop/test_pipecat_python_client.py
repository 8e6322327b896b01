"""Pipecat's Python client transport, unchanged, calls voicews; and Pipecat, as a comparison."""

import json
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.interop.conftest import FREQUENCY
from tests.interop.environment import PIPECAT_PYTHON, REPOSITORY_DIR, pipecat_environ
from tests.interop.peers import VoiceServer

SECONDS = 3.0
CALL_TIMEOUT_SECS = 60


def socket_url(server: VoiceServer) -> str:
    """A new call's address, asked for as the browser does."""
    request = urllib.request.Request(
        server.connect_url, data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
    url: str = answer["ws_url"]
    return f"{url}?token={answer['token']}" if "token" in answer else url


def call(server: VoiceServer, *arguments: str) -> dict[str, Any]:
    """Play a tone to the server; see ``tests.interop.pipecat_client.Report``."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    command = [
        *(str(PIPECAT_PYTHON), "-m", "tests.interop.pipecat_client", socket_url(server)),
        *(f"--seconds={SECONDS}", f"--frequency={FREQUENCY}", *arguments),
    ]
    finished = subprocess.run(
        command,
        cwd=REPOSITORY_DIR,
        env=pipecat_environ(),
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_SECS,
    )
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def assert_it_heard_the_tone(report: dict[str, Any]) -> None:
    assert report["connected"]
    assert not report["disconnected"]
    assert report["sample_rates"] == [24_000]
    assert report["received_bytes"] / 2 / 24_000 == pytest.approx(SECONDS, abs=0.1)
    assert report["dominant_frequency"] == pytest.approx(FREQUENCY, abs=2)


def test_the_tone_comes_back(voice_server: VoiceServer) -> None:
    assert_it_heard_the_tone(call(voice_server, "--no-wav-header"))


def test_its_wav_headers_are_not_heard(voicews: VoiceServer) -> None:
    # By itself this client begins every chunk with a WAV header, which Pipecat's server plays.
    assert_it_heard_the_tone(call(voicews))


def test_its_rtvi_processor_and_ours_do_not_answer_each_other_for_ever(
    voicews: VoiceServer,
) -> None:
    # To every type that it doesn't know, error-response included, it answers with error-response.
    report = call(voicews, "--rtvi", "--no-wav-header")
    assert len(report["messages"]) < 20
    assert "error-response" not in {message["type"] for message in report["messages"]}
