"""Sockets inside a project's middleware, which hides the server: nothing of it is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.consumers.client import calling, rtvi_message
from tests.consumers.site import Site

MIB = 1024 * 1024

inside = pytest.mark.parametrize("name", ["with-user", "seen", "seen-with-user"])


@inside
async def test_a_client_that_never_reads(site: Site, name: str) -> None:
    before = site.memory_bytes()
    async with calling(site.path(name), receive_buffer_bytes=4096) as client:
        await client.ready()
        client.stop_reading()
        # 4 MB of messages a second, for half a minute, if nobody stops it.
        await client.send(rtvi_message("client-message", {"t": "talk"}))
        async with asyncio.timeout(20):
            while site.holds_connection_of(client):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.1)
    assert site.memory_bytes() - before < 32 * MIB


@inside
async def test_every_close_code(site: Site, name: str) -> None:
    async with calling(site.path(name)) as client:
        await client.ready()
        for _ in range(10):
            await client.send(b"\xff" * 10)
        assert await client.wait_closed() == 1007
        assert client.close_reason == "too many invalid messages"


async def test_the_middleware_sees_every_message(site: Site) -> None:
    async with calling(site.path("seen"), call="seen") as client:
        await client.ready()
        await client.close()
    async with asyncio.timeout(20):
        while not site.journal("call=seen"):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.05)
    (note,) = site.journal("call=seen")
    assert note["seen"] == [
        "websocket.accept",
        "websocket.connect",
        "websocket.disconnect",
        "websocket.receive",
        "websocket.send",
    ]
