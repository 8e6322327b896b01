"""A phone call to a bot that is a Pipecat pipeline."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
import pytest

from tests.conftest import Serve
from tests.interop.environment import PIPECAT_PYTHON
from tests.interop.signals import dominant_frequency, tone
from tests.polling import until
from tests.server_processes import Server
from voicews.testing import ProviderApi, place_call

PUBLIC_URL = "https://voice.example.com"
PHONE_RATE = 8000
SPOKEN_HZ = 440.0
SPOKEN_SECS = 2.0
#: RMS of 20 ms that counts as sound, of 32767; the tone has about 7000.
LOUD = 1000


@pytest.fixture
def provider_api() -> Iterator[ProviderApi]:
    """The API of Twilio."""
    with ProviderApi() as api:
        yield api


@pytest.fixture
def phone_server(serve: Serve, provider_api: ProviderApi) -> Server:
    """The demo project with bots that are Pipecat pipelines, and a phone number."""
    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    return serve(
        environment={
            "DJANGO_SETTINGS_MODULE": "tests.interop.pipecat_phone_settings",
            "PROVIDER_API_URL": provider_api.url,
        },
        python=PIPECAT_PYTHON,
    )


def loud_secs(pcm: bytes) -> float:
    """How much of it is no silence, in steps of 20 ms."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    size = PHONE_RATE // 50
    steps = samples[: len(samples) // size * size].reshape(-1, size)
    return float(np.count_nonzero(np.sqrt((steps**2).mean(axis=1)) > LOUD)) / 50


def session_row(server: Server, call_id: str) -> tuple[str, str, str]:
    """The state, the provider and the bot of a call's only session."""
    with sqlite3.connect(server.database) as connection:
        query = "SELECT state, provider, bot FROM voicews_voicesession WHERE call_id = ?"
        (row,) = connection.execute(query, [call_id]).fetchall()
    state, provider, bot = row
    return state, provider, bot


async def test_a_caller_hears_what_they_say_through_the_pipeline(
    phone_server: Server, provider_api: ProviderApi
) -> None:
    async with place_call(
        "twilio", phone_server.http_url, public_url=PUBLIC_URL, bot="echo", api=provider_api
    ) as call:
        # The first audio is the echo of a quiet line: the pipeline runs.
        await call.wait_until(lambda: call.heard.pcm)
        await call.say(tone(SPOKEN_HZ, SPOKEN_SECS, PHONE_RATE), PHONE_RATE)
        await call.wait_until(lambda: loud_secs(call.heard.pcm) > 0.9 * SPOKEN_SECS)
        await call.wait_quiet()
        assert session_row(phone_server, call.call_id) == ("active", "twilio", "echo")
    heard = call.heard.pcm
    assert dominant_frequency(heard, PHONE_RATE) == pytest.approx(SPOKEN_HZ, abs=3)
    assert loud_secs(heard) == pytest.approx(SPOKEN_SECS, abs=0.1)

    await until(lambda: session_row(phone_server, call.call_id)[0] == "ended")
    # The caller has hung up: there is nothing left to hang up.
    assert provider_api.hang_ups(call.call_id) == []
    assert call.violations == []
    assert "Traceback" not in phone_server.log.read_text(errors="replace")
