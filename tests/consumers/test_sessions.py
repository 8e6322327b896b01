"""Sessions whose sockets come and go."""

from __future__ import annotations

import asyncio

import pytest

from tests.consumers.client import audio_message, calling, rtvi_message
from tests.consumers.conftest import Program
from tests.consumers.site import Site, parts


async def test_who_comes_back_in_time_goes_on_with_the_same_bot(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        resume_token = (await client.ready())["voicews"]["resume_token"]
        assert (await client.ask())["messages"] == 1
        client.abort()
    async with calling(url, resume_token) as client:
        ready = await client.ready()
        assert ready["voicews"]["session"] == session
        answer = await client.ask()
        assert (answer["starts"], answer["messages"]) == (1, 2)
        # It is past the time that it had to come back.
        await asyncio.sleep(1.2)
        assert (await client.ask())["messages"] == 3
        await client.close(1000)
    await site.wait_for_end(session)
    events = site.events(session)
    assert events.count("on_websocket_ready") == 1
    assert events.count("on_client_connected") == 2
    assert events.count("on_client_disconnected") == 2
    assert events.count("on_end") == 1


async def test_who_does_not_come_back_ends_the_session(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
    row = await site.wait_for_end(session)
    assert row["end_reason"] == "client did not come back"
    assert row["close_code"] in (1005, 1006)
    assert await site.whole_timeline(session) == ["connected", "interrupted", "ended"]
    assert site.events(session).count("session_ended") == 1


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
async def test_a_session_outlives_its_server(start_site: Program, program: str) -> None:
    site = start_site(program)
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        resume_token = (await client.ready())["voicews"]["resume_token"]
        await client.ask()
        started_at = (await site.wait_for_row(session, "active"))["started_at"]
        site.kill()
        assert await client.wait_closed() == 1006
    site.restart()
    async with calling(url, resume_token) as client:
        ready = await client.ready()
        assert ready["voicews"]["session"] == session
        # A new bot: this process knows nothing of the old one.
        assert (await client.ask())["messages"] == 1
        await client.close(1000)
    row = await site.wait_for_end(session)
    assert (row["started_at"], row["close_code"]) == (started_at, 1000)
    site.stop()


async def test_a_newcomer_replaces_the_client_with_its_first_message(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as first, calling(url, token) as second:
        await first.ready()
        await first.ask("ask", "first")
        # Being there is not enough.
        await asyncio.sleep(0.2)
        assert not first.is_closed
        await second.ready()
        assert await first.wait_closed() == 4001
        answer = await second.ask("ask", "second")
        assert (answer["starts"], answer["messages"]) == (1, 2)
        await second.close(1000)
    row = await site.wait_for_end(session)
    assert (row["close_code"], row["end_reason"]) == (1000, "client left")


async def test_nothing_of_the_replaced_client_reaches_the_bot(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as first, calling(url, token) as second:
        await first.ready()
        # The first one goes on talking until its socket is gone, without reading why.
        first.stop_reading()
        late = rtvi_message("client-message", {"t": "ask", "d": "late"})

        async def talk() -> None:
            while True:
                await first.send(audio_message(b"\1\1" * 320))
                await asyncio.sleep(0.005)

        talking = asyncio.create_task(talk())
        await second.ready()
        heard = (await second.ask())["bytes_heard"]
        await first.send(late)
        await asyncio.sleep(0.3)
        assert (await second.ask())["bytes_heard"] == heard
        talking.cancel()
    said = [note["data"] for note in site.journal(session) if note["event"] == "on_message"]
    assert "late" not in said


async def test_a_stray_socket_evicts_nobody(site: Site) -> None:
    url, token, _ = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
        async with (
            calling(url, token) as silent,
            calling(url, token) as babbling,
            calling(url, token) as texting,
        ):
            await babbling.send(b"\xff\xfe\xfd")
            assert await babbling.wait_closed() == 1007
            await texting.send("hello")
            assert await texting.wait_closed() == 1007
            # It is shown out after a while.
            assert await silent.wait_closed() == 1008
        assert not client.is_closed
        assert (await client.ask())["messages"] == 1


async def test_a_stray_socket_leaves_with_the_session(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client, calling(url, token) as stray:
        await client.ready()
        await client.send(rtvi_message("disconnect-bot", {}))
        assert await client.wait_closed() == 1000
        # Too late to take anything over.
        await stray.send(rtvi_message("client-ready", {"version": "2.2.0"}))
        assert await stray.wait_closed() == 1008
    assert (await site.wait_for_end(session))["close_code"] == 1000


async def test_a_socket_that_waited_takes_the_place_of_one_that_left(site: Site) -> None:
    url, token, _ = parts(site.connect("counter"))
    async with calling(url, token) as first, calling(url, token) as second:
        await first.ready()
        await first.ask()
        first.abort()
        await asyncio.sleep(0.2)
        await second.ready()
        assert (await second.ask())["messages"] == 2
