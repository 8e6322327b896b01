"""Fixtures of the interoperability tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import Serve, serving
from tests.interop.chromium import chromium
from tests.interop.environment import PIPECAT_PYTHON
from tests.interop.peers import VoiceServer, pipecat_server
from tests.interop.signals import tone, write_wav
from tests.server_processes import Server

FREQUENCY = 440.0
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.interop.settings"}
CONNECT_PATH = "/voice/connect/"


@pytest.fixture(scope="session")
def pipecat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VoiceServer]:
    """Pipecat's own server."""
    with pipecat_server(tmp_path_factory.mktemp("pipecat") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, migrated_database: Any) -> Iterator[Serve]:
    """As ``serve``, for servers that all tests share: Pipecat's need seconds to start."""
    with serving(tmp_path_factory, migrated_database) as start:
        yield start


@pytest.fixture(scope="session")
def uvicorn(start: Serve) -> Server:
    """The demo project with an echo bot under uvicorn."""
    return start("uvicorn", environment=SETTINGS)


@pytest.fixture(scope="session")
def daphne(start: Serve) -> Server:
    """The same under Daphne."""
    return start("daphne", environment=SETTINGS)


@pytest.fixture(scope="session")
def django_pipecat(start: Serve) -> Server:
    """The demo project with bots that are Pipecat pipelines."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    return start(
        environment={"DJANGO_SETTINGS_MODULE": "tests.interop.pipecat_settings"},
        python=PIPECAT_PYTHON,
    )


def project_before(remote: VoiceServer, start: Serve) -> Server:
    """The demo project with a bridge to a remote server."""
    remote_url = remote.origin.replace("http", "ws", 1) + "/ws"
    return start(environment={**SETTINGS, "REMOTE_BOT_URL": remote_url})


@pytest.fixture(scope="session")
def bridge(pipecat: VoiceServer, start: Serve) -> Server:
    """The demo project with a bridge to Pipecat's own server."""
    return project_before(pipecat, start)


@pytest.fixture(params=["uvicorn", "daphne"])
def voicews(request: pytest.FixtureRequest) -> VoiceServer:
    """The demo project with an echo bot, under each server."""
    server: Server = request.getfixturevalue(request.param)
    return VoiceServer(server.origin, CONNECT_PATH)


@pytest.fixture(params=["uvicorn", "daphne", "pipecat", "django_pipecat", "bridge"])
def voice_server(request: pytest.FixtureRequest) -> VoiceServer:
    """What ``voicews`` is, Pipecat's server, which must pass the same tests, and both together."""
    server: Server | VoiceServer = request.getfixturevalue(request.param)
    return server if isinstance(server, VoiceServer) else VoiceServer(server.origin, CONNECT_PATH)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose microphone hears a tone of ``FREQUENCY``."""
    microphone = tmp_path_factory.mktemp("microphone") / "tone.wav"
    # Bursts, because the browser takes an endless tone for noise and suppresses it.
    burst, pause = tone(FREQUENCY, 0.6, 48000), bytes(48000 * 2 * 4 // 10)
    write_wav(microphone, (burst + pause) * 4, 48000)
    # Not longer than a module: while it runs, no test can have an event loop of its own.
    with chromium(microphone) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own."""
    with browser.new_context() as context:
        yield context.new_page()
