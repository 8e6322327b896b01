"""Calls and the admin in a project with ATOMIC_REQUESTS, LoginRequiredMiddleware, no USE_TZ."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import serving
from tests.consumers.client import calling
from tests.operators import Operator, make_operators
from tests.server_processes import Server
from tests.telephony.phones import ask
from voicews.testing import ProviderApi, place_call

SETTINGS = "tests.projects.settings_strict"
ASKING = ("twilio", "telnyx", "plivo", "vonage", "exotel")


@pytest.fixture(scope="module")
def api() -> Iterator[ProviderApi]:
    with ProviderApi() as found:
        yield found


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any, api: ProviderApi
) -> Iterator[Server]:
    environment = {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "SIMULATED_PROVIDERS": api.url,
        "VOICEWS_PUBLIC_URL": "https://example.com",
    }
    with serving(tmp_path_factory, migrated_database) as start:
        server = start("uvicorn", environment=environment)
        make_operators(server.database, SETTINGS)
        yield server


def connect(site: Server) -> tuple[str, str]:
    """URL and token of a new session, past the proxy that there would be at PUBLIC_URL."""
    session = site.connect("parrot")
    return session["ws_url"].replace("wss://example.com", site.ws_url), session["token"]


async def test_a_browser_call(site: Server) -> None:
    async with calling(*connect(site)) as client:
        await client.ready()


@pytest.mark.parametrize("provider", [*ASKING, "genesys"])
async def test_a_phone_call(site: Server, provider: str) -> None:
    call = place_call(provider, site.http_url, public_url="https://example.com", bot="ivr")
    async with call:
        await call.wait_heard(0.5)
    assert call.violations == []


def test_unsigned_webhooks_and_probes(site: Server) -> None:
    for name in ASKING:
        for what in ("answer", "status", "transfer"):
            assert ask(site, f"/voice/{name}/{what}/")[0] == 403
    for what in ("health", "ready"):
        assert ask(site, f"/voice/{what}/", method="GET")[0] == 200


def test_every_page_of_the_admin(site: Server) -> None:
    operator = Operator(site, "operator")
    list_page = operator.get("/admin/voicews/voicesession/?state=all")
    ids = re.findall(r"/admin/voicews/voicesession/([0-9a-f-]{36})/change/", list_page)
    assert ids
    for path in (
        "/admin/voicews/voicesession/?q=anna",
        "/admin/voicews/voicesession/?created_at__year=2020",
        "/admin/voicews/dashboard/",
        *(f"/admin/voicews/voicesession/{one}/change/" for one in ids[:5]),
    ):
        assert "</html>" in operator.get(path)
    csv = operator.post(
        "/admin/voicews/voicesession/?state=all", action="export_csv", _selected_action=ids[0]
    )
    assert csv.startswith("id,state,bot,")


async def test_an_operator_ends_a_call(site: Server) -> None:
    url, token = connect(site)
    async with calling(url, token) as client:
        await client.ready()
        session_id = url.rstrip("/").rpartition("/")[2]
        operator = Operator(site, "operator")
        path = f"/admin/voicews/voicesession/{session_id}/end/"
        page = await asyncio.to_thread(operator.post, path, reason="enough")
        assert "is being ended" in page
        assert await client.wait_closed() == 4002
        assert client.close_reason == "enough"
