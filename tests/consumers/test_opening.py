"""Who may open a socket, and what those who may not are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from django.test import override_settings
from websockets.exceptions import InvalidStatus

from tests.consumers.client import Client, calling
from tests.consumers.site import Site, parts
from tests.server_processes import server_environment
from voicews.security.tokens import issue_connect_token, issue_resume_token


async def refusal(url: str, token: str | None, **options: Any) -> int:
    """The HTTP status with which a plain client is refused."""
    with pytest.raises(InvalidStatus) as refused:
        await Client.connect(url, token, **options)
    status: int = refused.value.response.status_code
    return status


async def told(site: Site, url: str, token: str | None, **options: Any) -> str | None:
    """The reason that a client of ours gets with its 1008."""
    async with calling(url, token, client="voicews", **options) as client:
        assert await client.wait_closed() == 1008
        return client.close_reason


def expired(issue: str, session: str) -> str:
    """A token that was good two days ago."""
    issuers = {"connect": issue_connect_token, "resume": issue_resume_token}
    with (
        override_settings(SECRET_KEY=server_environment(Path("unused"))["SECRET_KEY"]),
        mock.patch("django.core.signing.time.time", return_value=1_700_000_000),
    ):
        return issuers[issue](UUID(session))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "token missing"),
        ("empty", "token missing"),
        ("garbage", "token not valid"),
        ("long", "token not valid"),
        ("other", "token is for another session"),
        ("expired connect", "token expired"),
        ("expired resume", "token expired"),
    ],
)
async def test_a_token_that_opens_nothing(site: Site, kind: str, reason: str) -> None:
    url, _, session = parts(site.connect("counter"))
    tokens = {
        "missing": None,
        "empty": "",
        "garbage": "\u00fc%00&token=\n",
        "long": "x" * 4000,
        "other": site.connect("counter")["token"],
        "expired connect": expired("connect", session),
        "expired resume": expired("resume", session),
    }
    assert await refusal(url, tokens[kind]) == 403
    assert await told(site, url, tokens[kind]) == reason
    assert site.row(session)["state"] == "created"


async def test_a_token_opens_the_session_more_than_once_while_it_lasts(site: Site) -> None:
    url, token, _ = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
    async with calling(url, token) as client:
        await client.ready()


async def test_no_such_session_and_no_such_socket(site: Site) -> None:
    url, token, _ = parts(site.connect("counter"))
    assert await refusal(url.replace("/ws/voice/", "/ws/other/"), token) == 403
    assert await refusal(f"{site.ws_url}/ws/voice/{UUID(int=1)}/", token) == 403


async def test_pages_of_foreign_sites_are_refused(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
        assert await refusal(url, token, origin=origin) == 403
    reason = await told(site, url, token, origin="https://evil.example")
    assert reason == "pages of https://evil.example may not connect: not in ALLOWED_HOSTS"
    # Nobody has been let in: the session waits for its first client as before.
    assert site.row(session)["state"] == "created"
    assert site.events(session) == site.timeline(session) == []
    async with calling(url, token, origin=site.origin) as client:
        await client.ready()


async def test_a_bot_may_name_the_sites_itself(site: Site) -> None:
    url, token, session = parts(site.connect("strict"))
    assert await refusal(url, token, origin=site.origin) == 403
    assert site.row(session)["state"] == "created"
    async with calling(url, token, origin="https://voice.example") as client:
        await client.ready()
        # It holds for those who come later, too.
        assert await refusal(url, token, origin=site.origin) == 403


async def test_a_session_that_has_ended(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        resume_token = (await client.ready())["voicews"]["resume_token"]
        await client.close(1000)
    await site.wait_for_end(session)
    for one in (token, resume_token):
        assert await refusal(url, one) == 403
        assert await told(site, url, one) == "the session has ended"


async def test_a_consumer_that_refuses(site: Site) -> None:
    url = site.path("members")
    assert await refusal(url, None) == 403
    assert await refusal(url, None, origin="https://evil.example", member="yes") == 403
    assert await told(site, url, None) == "members only"
    async with calling(url, member="yes") as client:
        await client.ready()


async def test_a_consumer_that_cannot_start(site: Site) -> None:
    assert await refusal(site.path("nothing"), None) in (403, 500)
