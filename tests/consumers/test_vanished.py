"""Clients that stop reading, or vanish. Another call runs meanwhile, and doesn't notice."""

from __future__ import annotations

import asyncio

import pytest

from tests.consumers.client import calling, rtvi_message
from tests.consumers.conftest import Program
from tests.consumers.healthy import healthy_call
from tests.consumers.site import Site, parts

MIB = 1024 * 1024


async def test_a_client_that_never_reads(site: Site) -> None:
    url, token, session = parts(site.connect("talkative"))
    before = site.memory_bytes()
    highest = 0
    async with healthy_call(site), calling(url, token, receive_buffer_bytes=4096) as client:
        await client.ready()
        client.stop_reading()
        # 4 MB of messages a second, for half a minute, if nobody stops it.
        await client.send(rtvi_message("client-message", {"t": "talk"}))
        ending = asyncio.create_task(site.wait_for_end(session))
        while not ending.done():
            highest = max(highest, site.memory_bytes())
            await asyncio.sleep(0.05)
        row = await ending
        # The server doesn't hold on to the connection either.
        async with asyncio.timeout(10):
            while site.holds_connection_of(client):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.1)
    assert row["end_reason"] == "client did not come back"
    assert row["close_code"] == 1006
    assert highest - before < 32 * MIB


async def test_a_client_that_breaks_off(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with healthy_call(site), calling(url, token) as client:
        await client.ready()
        client.abort()
        row = await site.wait_for_end(session)
    assert row["end_reason"] == "client did not come back"
    assert site.events(session).count("on_client_disconnected") == 1
    assert site.events(session).count("on_end") == 1


async def test_a_client_that_breaks_off_while_the_bot_talks(site: Site) -> None:
    url, token, session = parts(site.connect("talkative"))
    async with healthy_call(site), calling(url, token) as client:
        await client.ready()
        await client.send(rtvi_message("client-message", {"t": "talk"}))
        await client.wait_until(lambda: len(client.audio) > 5)
        client.abort()
        row = await site.wait_for_end(session)
    assert row["end_reason"] == "client did not come back"
    assert site.events(session).count("on_end") == 1


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("uvicorn", ["--ws-ping-interval", "1", "--ws-ping-timeout", "1"]),
        ("daphne", ["--ping-interval", "1", "--ping-timeout", "1"]),
    ],
)
async def test_a_client_that_is_there_but_answers_nothing(
    start_site: Program, program: str, arguments: list[str]
) -> None:
    site = start_site(program, *arguments)
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
        client.stop_reading()
        row = await site.wait_for_end(session)
    assert row["end_reason"] == "client did not come back"
    site.stop()
