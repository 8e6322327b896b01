"""A session changes hands between processes."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, assert_never_two, until
from tests.sessions.conftest import StartCluster

TAKEOVERS = 60
SHORT_LEASE = {"LEASE_SECS": 3}


async def test_the_newcomer_goes_on_where_the_other_was(
    cluster: StartCluster, redis: Redis
) -> None:
    here = cluster(redis=redis)
    one, two = here.start(), here.start()
    session = Session(one)
    async with session.client(one) as first:
        assert await first.ask("a") == {"pid": one.process.pid, "count": 1}
        async with session.client(two) as second:
            assert await second.ask("b") == {"pid": two.process.pid, "count": 2}
            assert await first.wait_closed() == 4001
            assert first.reason == "replaced by another connection"
            await second.close()
    await until(lambda: any(entry.event == "end" for entry in here.entries()))
    assert_never_two(here.entries())
    events = [entry.event for entry in here.entries() if entry.event in {"start", "end"}]
    assert events == ["start", "end"], "a call starts and ends once, wherever it is"


@pytest.mark.alone
async def test_how_long_a_takeover_takes(cluster: StartCluster, redis: Redis) -> None:
    here = cluster(redis=redis)
    nodes = [here.start(), here.start()]
    session = Session(nodes[0])
    secs: list[float] = []
    async with AsyncExitStack() as clients:
        previous = await clients.enter_async_context(session.client(nodes[0]))
        for number in range(1, TAKEOVERS + 1):
            newcomer = await clients.enter_async_context(session.client(nodes[number % 2]))
            assert newcomer.ready_at is not None
            secs.append(newcomer.ready_at - newcomer.greeted_at)
            assert await previous.wait_closed() == 4001
            previous = newcomer
        await previous.close()
    first, *others = [1000 * one for one in secs]
    others.sort()
    p50, worst = others[len(others) // 2], others[-1]
    print(
        f"\ntakeover between processes: p50 {p50:.1f} ms, the worst of {len(others)} "
        f"{worst:.1f} ms; the first in processes that had just started {first:.1f} ms"
    )
    assert_never_two(here.entries())
    # The budget is 50 ms; a machine that is busy with other things gets more.
    assert p50 < 250


async def test_a_stray_socket_evicts_nobody(cluster: StartCluster, redis: Redis) -> None:
    here = cluster(redis=redis)
    one, two = here.start(), here.start()
    session = Session(one)
    from websockets.asyncio.client import connect

    async with session.client(one) as holder:
        async with connect(session.url(two)):
            await asyncio.sleep(0.3)
            await holder.ask("still here")
        async with connect(session.url(two)) as stray:
            await stray.send(b"\xff\xff nonsense")
            await stray.wait_closed()
            assert stray.close_code == 1007
        await holder.ask("still here")


async def test_without_a_channel_layer_the_database_tells(cluster: StartCluster) -> None:
    here = cluster(**SHORT_LEASE)
    one, two = here.start(), here.start()
    session = Session(one)
    async with session.client(one) as first:
        began = time.monotonic()
        async with session.client(two) as second:
            took = time.monotonic() - began
            assert await second.ask("b") == {"pid": two.process.pid, "count": 1}
            assert await first.wait_closed() == 4001
    print(f"\ntakeover without a channel layer: {took:.2f} s")
    assert took < 10
    assert_never_two(here.entries())


async def test_a_killed_process_loses_its_sessions_after_the_lease(
    cluster: StartCluster, redis: Redis
) -> None:
    here = cluster(redis=redis, **SHORT_LEASE)
    one, two = here.start(), here.start()
    session = Session(one)
    async with session.client(one) as first:
        killed_at = time.monotonic()
        one.kill()
        assert await first.wait_closed() == 1006
        async with session.client(two) as second:
            took = time.monotonic() - killed_at
            assert await second.ask("b") == {"pid": two.process.pid, "count": 1}
    assert 3 * 0.5 < took < 3 * 3, took


async def test_a_killed_process_that_comes_back_resumes(
    cluster: StartCluster, redis: Redis
) -> None:
    here = cluster(redis=redis, **SHORT_LEASE)
    one = here.start()
    session = Session(one)
    async with session.client(one) as first:
        one.kill()
        await first.wait_closed()
    one.process = one._start()
    async with session.client(one) as second:
        await second.ask("b")


async def test_in_one_process_the_pipeline_goes_on(cluster: StartCluster) -> None:
    here = cluster()
    one = here.start()
    session = Session(one)
    async with session.client(one) as first:
        await first.ask("a")
        async with session.client(one) as second:
            assert await second.ask("b") == {"pid": one.process.pid, "count": 2}
            assert await first.wait_closed() == 4001
    async with session.client(one) as third:
        assert await third.ask("c") == {"pid": one.process.pid, "count": 3}
        await third.close()
    assert_never_two(here.entries())


@pytest.mark.parametrize("nodes", [1, 2])
async def test_policy_reject(cluster: StartCluster, redis: Redis, nodes: int) -> None:
    here = cluster(redis=redis, TAKEOVER="reject")
    one = here.start()
    two = here.start() if nodes == 2 else one
    session = Session(one)
    async with session.client(one) as holder:
        await holder.ask("a")
        async with session.client(two, ready=False) as newcomer:
            assert await newcomer.wait_closed() == 1013
            assert newcomer.reason == "the session is in use"
        # A holder that says nothing any more is a ghost: it gives way after the challenge.
        await asyncio.sleep(2.1)
        async with session.client(two) as newcomer:
            assert await holder.wait_closed() == 4001
            await newcomer.ask("b")
    assert_never_two(here.entries())
