"""Calls that the server places: `voicews_dial`, the provider's API, somebody who answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.server_processes import ROOT, Server, server_environment
from tests.telephony.simulators.conftest import PlaceCall
from voicews.testing import ProviderApi


@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "exotel", "vonage"])
async def test_a_call_that_we_place(
    place: PlaceCall, phone_server: Server, provider_api: ProviderApi, name: str
) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.telephony.simulators.project.settings",
        "PROVIDER_API_URL": provider_api.url,
    }
    command = ["voicews_dial", name, "+15550100009", "--from", "+15550100008", "--bot", "ivr"]
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=server_environment(phone_server.database, environment),
        check=True,
        timeout=60,
    )
    request = provider_api.requests[-1]
    assert (request.provider, request.action) == (name, "dial")
    async with place(name, placed=request) as call:
        await call.wait_heard(0.1)
        await call.press("9")
        assert await call.wait_over() == 1000
    assert call.violations == []
