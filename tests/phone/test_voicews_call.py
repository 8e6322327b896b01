"""`manage.py voicews_call`: a call from the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from project.bots import Ivr, tone
from tests.servers import ROOT, Server, server_environment
from voicews.audio.wav import read_wav, wrap_wav
from voicews.testing import ProviderApi


def voicews_call(
    *arguments: str, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "voicews_call", *arguments],
        cwd=ROOT,
        env=server_environment(directory / "unused.sqlite3", environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["twilio", "genesys"])
def test_a_call_from_the_terminal(
    phone_server: Server, provider_api: ProviderApi, tmp_path: Path, name: str
) -> None:
    hello, answer = tmp_path / "hello.wav", tmp_path / "answer.wav"
    hello.write_bytes(wrap_wav(tone(800, 300), 8000))
    done = voicews_call(
        name,
        *("--wav", str(hello), "--out", str(answer), "--dtmf", "1,9", "--bot", "ivr"),
        *("--url", phone_server.http_url),
        directory=tmp_path,
        DJANGO_SETTINGS_MODULE="tests.phone.project.settings",
        PROVIDER_API_URL=provider_api.url,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for event in (
        "ringing",
        "connected",
        "bot speaks",
        "mark",
        "caller presses  9",
        "closed  1000",
    ):
        assert event in done.stdout
    heard = read_wav(answer)
    assert heard.sample_rate == 8000
    assert len(heard.audio) >= len(Ivr.greeting) + len(Ivr.goodbye)


def test_it_says_what_to_set_when_a_provider_is_off(phone_server: Server, tmp_path: Path) -> None:
    done = voicews_call("twilio", "--url", phone_server.http_url, directory=tmp_path)
    assert done.returncode == 1
    assert "TWILIO_AUTH_TOKEN=voicews-test-auth-token" in done.stderr
    assert f"VOICEWS_PUBLIC_URL={phone_server.http_url}" in done.stderr
    assert "same secrets and the same PUBLIC_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_is_there(tmp_path: Path) -> None:
    done = voicews_call("plivo", "--url", "http://127.0.0.1:9", directory=tmp_path)
    assert done.returncode == 1
    assert "no answer at http://127.0.0.1:9" in done.stderr
