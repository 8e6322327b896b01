"""A server process is asked to end."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.server_processes import Server, ServerName
from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, until
from tests.sessions.conftest import StartCluster

PROGRAMS: list[ServerName] = ["uvicorn", "daphne"]


def get(node: Server, name: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{node.http_url}/voice/{name}/", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_running_calls_finish_and_new_ones_are_refused(
    cluster: StartCluster, redis: Redis, program: ServerName
) -> None:
    here = cluster(redis=redis)
    node = here.start(program)
    session, other = Session(node), Session(node)
    assert get(node, "ready")[0] == 200
    async with session.client(node) as client:
        node.send(signal.SIGTERM)
        await until(lambda: get(node, "ready")[0] == 503)
        async with connect(other.url(node) + "&client=voicews") as newcomer:
            await newcomer.wait_closed()
            assert newcomer.close_code == 1012
        with pytest.raises(urllib.error.HTTPError) as refused:
            node.connect("counter")
        assert json.load(refused.value) == {"info": "the server restarts"}
        await asyncio.sleep(1.0)
        assert await client.ask("still here") == {"pid": node.process.pid, "count": 1}
        await client.close()
    assert await asyncio.to_thread(node.process.wait, 30) == 0


@pytest.mark.parametrize("program", PROGRAMS)
async def test_what_runs_too_long_moves_to_another_process(
    cluster: StartCluster, redis: Redis, program: ServerName
) -> None:
    here = cluster(redis=redis, DRAIN_TIMEOUT_SECS=0.5)
    one, two = here.start(program), here.start("uvicorn")
    session = Session(one)
    async with session.client(one) as client:
        await client.ask("a")
        one.send(signal.SIGTERM)
        assert await client.wait_closed() == 1012
        async with session.client(two) as again:
            assert await again.ask("b") == {"pid": two.process.pid, "count": 2}
    assert await asyncio.to_thread(one.process.wait, 30) == 0
    assert not [entry for entry in here.entries() if entry.event == "end"]


async def test_from_a_shell(cluster: StartCluster, redis: Redis) -> None:
    here = cluster(redis=redis)
    node = here.start()
    ended, lasting = Session(node), Session(node)
    async with ended.client(node) as first, lasting.client(node) as second:
        listed = await asyncio.to_thread(here.manage, "voicews_sessions", "list")
        assert ended.id in listed
        assert lasting.id in listed
        await asyncio.to_thread(
            here.manage, "voicews_sessions", "end", ended.id, "--reason", "enough"
        )
        assert await first.wait_closed() == 4002
        assert first.reason == "enough"
        process = next(line.split()[0] for line in listed.splitlines() if "serves" in line)
        await asyncio.to_thread(here.manage, "voicews_sessions", "drain", process)
        await until(lambda: get(node, "ready")[0] == 503)
        await second.ask("still here")


async def test_health(cluster: StartCluster, redis: Redis) -> None:
    here = cluster(redis=redis)
    node = here.start()
    status, report = get(node, "health")
    assert (status, report["status"], report["state"]) == (200, "ok", "running")
    assert report["database"]["ok"]
    assert report["channel_layer"]["ok"]
    redis.kill()
    await asyncio.sleep(1.1)
    status, report = get(node, "health")
    assert (status, report["status"], report["channel_layer"]) == (200, "degraded", {"ok": False})
