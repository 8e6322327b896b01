"""Many clients race for one session."""

from __future__ import annotations

import pytest

from tests.sessions.cluster import Redis, assert_never_two
from tests.sessions.conftest import StartCluster
from tests.sessions.storm import race

CLIENTS, ROUNDS = 200, 20


@pytest.mark.parametrize("layer", ["pubsub"])
async def test_two_hundred_clients_race_for_a_session(
    cluster: StartCluster, redis: Redis, layer: str
) -> None:
    here = cluster(redis=redis, layer=layer)
    nodes = [here.start(), here.start()]
    for number in range(ROUNDS):
        made = nodes[number % 2].connect("watched")
        path = made["ws_url"].partition("/ws/")[2]
        urls = [f"{node.ws_url}/ws/{path}?token={made['token']}" for node in nodes]
        _winner, losers = await race(urls, CLIENTS)
        assert {(loser.code, loser.reason) for loser in losers} == {
            (4001, "replaced by another connection")
        }
        assert_never_two(here.entries(path.split("/")[1]))
