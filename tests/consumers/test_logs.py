"""No token of a call is in a server's log, whichever server it is and however much it logs."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.test import override_settings
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve
from tests.consumers.client import Client, calling
from tests.server_processes import Server, ServerName, server_environment
from voicews.servers.log_redaction import MASK
from voicews.telephony.tokens import Purpose, issue_phone_token
from voicews.testing import place_call

PUBLIC_URL = "https://voice.example.com"
#: The session's id, with which a token begins, may be logged.
SECRET_FROM = 33
LOUD = ("--log-level", "trace")


async def browser_tokens(server: Server) -> set[str]:
    """Those of a call from a browser, which comes back, and is then refused."""
    session, other = server.connect("ivr"), server.connect("ivr")
    url, token = f"{server.ws_url}{urlsplit(session['ws_url']).path}", session["token"]
    async with calling(url, token, origin=server.origin) as client:
        resume_token = (await client.ready())["voicews"]["resume_token"]
    async with calling(url, resume_token, origin=server.origin) as client:
        await client.ready()
        await client.close(1000)
    with pytest.raises(InvalidStatus):
        await Client.connect(url, other["token"], origin=server.origin)
    async with calling(url, token + "x", origin=server.origin, client="voicews") as client:
        assert await client.wait_closed() == 1008
    return {token, resume_token, other["token"]}


async def phone_tokens(server: Server) -> set[str]:
    """Those of a call from a phone, of one that is refused, and of a webhook."""
    tokens = set()
    for name in ("twilio", "plivo"):
        async with place_call(name, server.http_url, public_url=PUBLIC_URL) as call:
            await call.wait_quiet()
        token = call.stream_url.rstrip("/").rpartition("/")[2]
        tokens.add(token)
        with pytest.raises(InvalidStatus):
            await Client.connect(f"{server.ws_url}/ws/voice/{name}/{token}")
    with override_settings(SECRET_KEY=server_environment(Path("unused"))["SECRET_KEY"]):
        webhook = issue_phone_token(Purpose.CALL, "twilio", uuid4(), 60)
    for path in (f"voice/twilio/status/?call={webhook}", f"nowhere/{webhook}/"):
        await asyncio.to_thread(fetch, f"{server.http_url}/{path}")
    return tokens | {webhook}


def fetch(url: str) -> None:
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(url)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("uvicorn", ()),
        ("uvicorn", ("--no-access-log",)),
        ("uvicorn", LOUD),
        ("uvicorn", ("--ws", "websockets", *LOUD)),
        ("daphne", ()),
        ("daphne", ("-v", "3")),
        ("runserver", ()),
        ("runserver", ("-v", "3")),
    ],
)
async def test_no_token_is_logged(
    serve: Serve, program: ServerName, arguments: tuple[str, ...]
) -> None:
    server = serve(
        program,
        environment={
            "DJANGO_SETTINGS_MODULE": "tests.telephony.simulators.project.settings",
            "PROVIDER_API_URL": "http://127.0.0.1:9",
        },
        arguments=arguments,
    )
    tokens = await browser_tokens(server) | await phone_tokens(server)
    assert len(tokens) == 6
    server.stop()
    log = server.log.read_text()
    assert MASK in log
    for token in tokens:
        assert len(token) > 2 * SECRET_FROM
        assert token[SECRET_FROM:] not in log
