"""A project under /app/: every URL that it makes has that once, and its socket opens."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.conftest import serving
from tests.consumers.client import calling
from tests.operators import Operator, make_operators
from tests.projects.proxy import ReverseProxy
from tests.server_processes import Server, ServerName
from voicews.testing import ProviderApi, place_call

SETTINGS = "tests.projects.settings_subpath"
# Those whose signatures cover the URL.
PROVIDERS = ("twilio", "plivo", "genesys")


@dataclass(frozen=True)
class SetUp:
    """How a project comes to be under /app/."""

    program: ServerName = "uvicorn"
    strips: bool = True
    root_path: bool = False
    script_name: str = ""
    #: The path of PUBLIC_URL.
    public_path: str = "/app"
    urlconf: str = "project.urls"
    has_admin: bool = True


SET_UPS = {
    "uvicorn-root_path-strips": SetUp(root_path=True),
    "daphne-root_path-strips": SetUp("daphne", root_path=True),
    "daphne-root_path-keeps": SetUp("daphne", root_path=True, strips=False),
    "uvicorn-script_name-strips": SetUp(script_name="/app"),
    "uvicorn-script_name-keeps": SetUp(script_name="/app", strips=False, public_path=""),
    "daphne-script_name-keeps": SetUp("daphne", script_name="/app", strips=False),
    "uvicorn-script_name-strips-bare-public_url": SetUp(script_name="/app", public_path=""),
    # Django is told nothing: its own links are wrong, ours are right.
    "uvicorn-public_url-strips": SetUp(has_admin=False),
    "uvicorn-urls-keep": SetUp(strips=False, urlconf="tests.projects.urls_below_app"),
}


@dataclass(frozen=True)
class Site:
    server: Server
    proxy: ReverseProxy
    api: ProviderApi
    set_up: SetUp


@pytest.fixture(scope="module", params=list(SET_UPS.values()), ids=list(SET_UPS))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, migrated_database: Any
) -> Iterator[Site]:
    set_up: SetUp = request.param
    with (
        ReverseProxy("/app", strips=set_up.strips) as proxy,
        ProviderApi() as api,
        serving(tmp_path_factory, migrated_database) as start,
    ):
        public_url = f"http://127.0.0.1:{proxy.port}{set_up.public_path}"
        environment = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TEST_FORCE_SCRIPT_NAME": set_up.script_name,
            "TEST_URLCONF": set_up.urlconf,
            "SIMULATED_PROVIDERS": api.url,
            "VOICEWS_PUBLIC_URL": public_url,
        }
        arguments = ("--root-path", "/app") if set_up.root_path else ()
        server = start(set_up.program, environment=environment, arguments=arguments)
        proxy.target = server.port
        make_operators(server.database, SETTINGS)
        yield Site(server, proxy, api, set_up)


def connect_to(site: Site) -> tuple[str, str]:
    request = urllib.request.Request(
        f"{site.proxy.http_url}/voice/connect/",
        b"{}",
        {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{site.proxy.port}"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer = json.load(response)
    return answer["ws_url"], answer["token"]


async def test_a_browser_call(site: Site) -> None:
    url, token = await asyncio.to_thread(connect_to, site)
    assert url.startswith(f"ws://127.0.0.1:{site.proxy.port}/app/ws/voice/")
    async with calling(url, token, origin=f"http://127.0.0.1:{site.proxy.port}") as client:
        await client.ready()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_phone_call(site: Site, provider: str) -> None:
    base = site.proxy.http_url
    async with place_call(provider, base, public_url=base, bot="ivr") as call:
        await call.wait_heard(0.3)
    assert call.violations == []


async def test_the_sockets_of_the_admin(site: Site) -> None:
    if not site.set_up.has_admin:
        return
    operator = await asyncio.to_thread(Operator, site.proxy, "operator")
    page = await asyncio.to_thread(operator.get, "/admin/voicews/voicesession/")
    path = page.partition('data-socket="')[2].partition('"')[0]
    assert path.startswith("/app/ws/voicews-admin/")
    async with connect(
        f"ws://127.0.0.1:{site.proxy.port}{path}",
        additional_headers={
            "Cookie": operator.cookies,
            "Origin": f"http://127.0.0.1:{site.proxy.port}",
        },
    ) as websocket:
        assert json.loads(await websocket.recv())["type"] == "version"
