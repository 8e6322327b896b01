"""`manage.py voicews_call`: a call from the terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from project.bots import Ivr, tone
from tests.conftest import serving
from tests.server_processes import ROOT, Server, free_port, server_environment
from tests.telephony.simulators.conftest import PUBLIC_URL
from voicews.audio.wav import read_wav, wrap_wav
from voicews.testing import ProviderApi

pytestmark = pytest.mark.program


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
        DJANGO_SETTINGS_MODULE="tests.telephony.simulators.project.settings",
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


API_PORT = free_port()
API_ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "tests.telephony.simulators.project.settings",
    "PROVIDER_API_URL": f"http://127.0.0.1:{API_PORT}",
}


@pytest.fixture(scope="module")
def server_with_own_api(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any
) -> Iterator[Server]:
    """A server that asks an API that is there only while the command runs."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start(environment=API_ENVIRONMENT)


def test_a_call_of_call_control_from_the_terminal(
    server_with_own_api: Server, tmp_path: Path
) -> None:
    done = voicews_call(
        *("telnyx", "--call-control", "--api-port", str(API_PORT)),
        *("--dtmf", "9", "--bot", "ivr", "--url", server_with_own_api.http_url),
        directory=tmp_path,
        **API_ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events = [line.split(" s  ", 1)[1] for line in done.stdout.splitlines() if " s  " in line]
    expected = [
        "webhook  call.initiated",
        "answered by request",
        "connected",
        "bot speaks",
        "caller presses  9",
        "hung up by request",
        "webhook  call.hangup",
    ]
    assert [event for event in expected if event in events] == expected
    order = [events.index(event) for event in expected]
    assert order == sorted(order)


def test_a_call_of_call_control_that_is_rejected(
    server_with_own_api: Server, tmp_path: Path
) -> None:
    done = voicews_call(
        *("telnyx", "--call-control", "--api-port", str(API_PORT)),
        *("--bot", "nobody", "--url", server_with_own_api.http_url),
        directory=tmp_path,
        **API_ENVIRONMENT,
    )
    assert done.returncode == 1
    assert "the call was rejected: USER_BUSY" in done.stderr


def test_the_apis_port_is_taken(provider_api: ProviderApi, tmp_path: Path) -> None:
    port = provider_api.url.rpartition(":")[2]
    done = voicews_call("telnyx", "--api-port", port, directory=tmp_path)
    assert done.returncode == 1
    assert f"--api-port {port}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["telnyx", "--call-control"], "expected --api-port"),
        (["twilio", "--call-control", "--api-port", "0"], "expected telnyx"),
    ],
)
def test_call_control_that_can_not_be(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = voicews_call(*arguments, directory=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_what_to_set_when_a_provider_is_off(phone_server: Server, tmp_path: Path) -> None:
    done = voicews_call("twilio", "--url", phone_server.http_url, directory=tmp_path)
    assert done.returncode == 1
    assert "TWILIO_AUTH_TOKEN=voicews-test-auth-token" in done.stderr
    assert f"VOICEWS_PUBLIC_URL={phone_server.http_url}" in done.stderr
    assert "same secrets and the same PUBLIC_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_happy_call_needs_no_provider_here(phone_server: Server, tmp_path: Path) -> None:
    done = voicews_call(
        *("twilio", "--bot", "ivr", "--dtmf", "9", "--url", phone_server.http_url),
        directory=tmp_path,
        VOICEWS_PUBLIC_URL=PUBLIC_URL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "PROVIDERS" not in done.stdout


def test_nobody_is_there(tmp_path: Path) -> None:
    done = voicews_call("plivo", "--url", "http://127.0.0.1:9", directory=tmp_path)
    assert done.returncode == 1
    assert "no answer at http://127.0.0.1:9" in done.stderr
