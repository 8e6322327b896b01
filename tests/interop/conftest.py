"""Fixtures of the interoperability tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Page

from tests.conftest import Serve
from tests.interop.chromium import chromium_page
from tests.interop.environment import PIPECAT_PYTHON
from tests.interop.peers import VoiceServer, pipecat_server
from tests.interop.signals import tone, write_wav
from tests.servers import Server, ServerName

FREQUENCY = 440.0


@pytest.fixture(scope="session")
def pipecat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VoiceServer]:
    """Pipecat's own server."""
    with pipecat_server(tmp_path_factory.mktemp("pipecat") / "server.log") as server:
        yield server


def _voicews(serve: Serve, program: str) -> VoiceServer:
    server = serve(
        next(name for name in get_args(ServerName) if name == program),
        environment={"DJANGO_SETTINGS_MODULE": "tests.interop.settings"},
    )
    return VoiceServer(server.origin, "/voice/connect/")


@pytest.fixture(params=["uvicorn", "daphne"])
def voicews(request: pytest.FixtureRequest, serve: Serve) -> VoiceServer:
    """The demo project with an echo bot, under each server."""
    return _voicews(serve, request.param)


@pytest.fixture
def django_pipecat(serve: Serve) -> Server:
    """The demo project with bots that are Pipecat pipelines."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    return serve(
        environment={"DJANGO_SETTINGS_MODULE": "tests.interop.pipecat_settings"},
        python=PIPECAT_PYTHON,
    )


def project_before(remote: VoiceServer, serve: Serve) -> Server:
    """The demo project with a bridge to a remote server."""
    return serve(
        environment={
            "DJANGO_SETTINGS_MODULE": "tests.interop.settings",
            "REMOTE_BOT_URL": remote.origin.replace("http", "ws", 1) + "/ws",
        }
    )


@pytest.fixture
def bridge(pipecat: VoiceServer, serve: Serve) -> Server:
    """The demo project with a bridge to Pipecat's own server."""
    return project_before(pipecat, serve)


@pytest.fixture(params=["uvicorn", "daphne", "pipecat", "pipecat in voicews", "bridge to pipecat"])
def voice_server(request: pytest.FixtureRequest, serve: Serve) -> VoiceServer:
    """What ``voicews`` is, Pipecat's server, which must pass the same tests, and both together."""
    both = {"pipecat in voicews": "django_pipecat", "bridge to pipecat": "bridge"}
    if request.param in both:
        server: Server = request.getfixturevalue(both[request.param])
        return VoiceServer(server.origin, "/voice/connect/")
    if request.param == "pipecat":
        pipecat: VoiceServer = request.getfixturevalue("pipecat")
        return pipecat
    return _voicews(serve, request.param)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page in Chromium whose microphone hears a tone of ``FREQUENCY``."""
    microphone = tmp_path / "microphone.wav"
    # Bursts, because the browser takes an endless tone for noise and suppresses it.
    burst, pause = tone(FREQUENCY, 0.6, 48000), bytes(48000 * 2 * 4 // 10)
    write_wav(microphone, (burst + pause) * 4, 48000)
    with chromium_page(microphone) as page:
        yield page
