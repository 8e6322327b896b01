"""Many clients race for one session."""

from __future__ import annotations

import pytest

from tests.sessions.cluster import Cluster, Redis, assert_never_two
from tests.sessions.conftest import StartCluster
from tests.sessions.postgres import running_postgres
from tests.sessions.storm import race

CLIENTS, ROUNDS = 200, 6
#: The first client says nothing until the last one is there, which takes a busy machine a while.
STORM = {"CALL_START_TIMEOUT_SECS": 60}


async def storm(here: Cluster, rounds: int) -> None:
    nodes = [here.start(), here.start()]
    reached = 0
    for number in range(rounds):
        made = nodes[number % 2].connect("watched")
        path = made["ws_url"].partition("/ws/")[2]
        urls = [f"{node.ws_url}/ws/{path}?token={made['token']}" for node in nodes]
        _winner, losers = await race(urls, CLIENTS)
        assert {(loser.code, loser.reason) for loser in losers} == {
            (4001, "replaced by another connection")
        }
        reached += assert_never_two(here.entries(path.split("/")[1]))
    print(f"\n{rounds} races of {CLIENTS} clients: {reached} reached the bot, one after the other")


async def test_two_hundred_clients_race_for_a_session(cluster: StartCluster, redis: Redis) -> None:
    await storm(cluster(redis=redis, **STORM), ROUNDS)


@pytest.mark.parametrize("layer", ["core", ""])
async def test_with_another_channel_layer_or_none(
    cluster: StartCluster, redis: Redis, layer: str
) -> None:
    await storm(cluster(redis=redis if layer else None, layer=layer, **STORM), 1)


async def test_on_postgresql(cluster: StartCluster, redis: Redis) -> None:
    with running_postgres() as url:
        here = cluster(redis=redis, database_url=url, **STORM)
        await storm(here, 3)
        here.stop()
