"""What a failover and a pool do to calls: a real PostgreSQL, and a proxy that swallows."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.server_processes import ROOT
from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, until
from tests.sessions.conftest import StartCluster
from tests.sessions.postgres import running_postgres
from tests.sessions.swallowing import SwallowingProxy, swallowing_proxy

LEASE_SECS = 6.0


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def proxy(database_url: str) -> Iterator[SwallowingProxy]:
    port = urlsplit(database_url).port
    assert port is not None
    with swallowing_proxy(port) as running:
        yield running


def through(proxy: SwallowingProxy, database_url: str) -> str:
    return urlsplit(database_url)._replace(netloc=f"voicews@127.0.0.1:{proxy.port}").geturl()


def options(**database: Any) -> dict[str, Any]:
    return {"environment": {"TEST_DATABASE": json.dumps(database)}, "LEASE_SECS": LEASE_SECS}


#: As in docs/howto/several-processes.md.
DOCUMENTED = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}


def test_the_documented_options() -> None:
    text = (ROOT / "docs" / "howto" / "several-processes.md").read_text()
    for name, value in DOCUMENTED.items():
        assert f'"{name}": {value},' in text


@pytest.mark.parametrize("driver", [{}, DOCUMENTED], ids=["plain", "documented"])
async def test_old_connections_hang_and_new_ones_work(
    cluster: StartCluster,
    redis: Redis,
    database_url: str,
    proxy: SwallowingProxy,
    driver: dict[str, int],
) -> None:
    """No RST, no FIN: a call goes on, and new ones begin, long before TCP would give up."""
    url = through(proxy, database_url)
    here = cluster(redis=redis, database_url=url, **options(CONN_MAX_AGE=None, OPTIONS=driver))
    node = here.start()
    session, second = Session(node), Session(node)
    async with session.client(node) as client:
        await client.ask("before")
        proxy.swallow()
        swallowed_at = time.monotonic()
        while time.monotonic() < swallowed_at + LEASE_SECS + 1:
            await client.ask("during")
            await asyncio.sleep(0.1)
        async with second.client(node) as newcomer:
            await newcomer.ask("after")
            await newcomer.close()
        await client.close()
    log = node.log.read_text()
    assert "heartbeat failed" in log
    assert "the lease ran out" not in log
    with psycopg.connect(database_url) as connection:
        sql = "SELECT count(*) FROM voicews_voicesession WHERE id = ANY(%s) AND state = 'ended'"

        def ended() -> bool:
            row = connection.execute(sql, [[session.id, second.id]]).fetchone()
            connection.rollback()
            return row == (2,)

        await until(ended)


async def test_a_claim_under_way_gives_up(
    cluster: StartCluster, redis: Redis, database_url: str, proxy: SwallowingProxy
) -> None:
    """A database that has stopped to answer: the newcomer is told, and gets in afterwards."""
    url = through(proxy, database_url)
    here = cluster(redis=redis, database_url=url, **options(CONN_MAX_AGE=None))
    node = here.start()
    with psycopg.connect(database_url) as connection:
        async with Session(node).client(node) as first:
            await first.ask("a")
            session = Session(node)
            connection.execute("SELECT FROM voicews_voicesession FOR UPDATE")
            with pytest.raises(Exception, match="403"):
                async with session.client(node):
                    pass
            await first.ask("meanwhile")
            connection.rollback()
            async with session.client(node) as again:
                await again.ask("b")
    assert "Traceback" not in node.log.read_text()


async def test_the_pool_is_given_back(
    cluster: StartCluster, redis: Redis, database_url: str
) -> None:
    """With a pool of two for all, calls take turns with the project's own pages."""
    pool = {"min_size": 1, "max_size": 2, "timeout": 5}
    here = cluster(
        redis=redis, database_url=database_url, **options(CONN_MAX_AGE=0, OPTIONS={"pool": pool})
    )
    node = here.start()
    sessions = [Session(node) for _ in range(6)]

    async def call(session: Session) -> None:
        async with session.client(node) as client:
            for _ in range(5):
                await client.ask("a")
                await asyncio.sleep(0.1)

    calls = [asyncio.create_task(call(session)) for session in sessions]
    pages = [await asyncio.to_thread(_status, f"{node.http_url}/voice/health/") for _ in range(5)]
    await asyncio.gather(*calls)
    assert set(pages) == {200}
    assert "Traceback" not in node.log.read_text()


def _status(url: str) -> int:
    with urllib.request.urlopen(url) as answer:
        status: int = answer.status
        return status


@pytest.mark.parametrize("max_age", [0, None])
async def test_connections_go_back_after_the_last_call(
    cluster: StartCluster, redis: Redis, database_url: str, max_age: int | None
) -> None:
    here = cluster(redis=redis, database_url=database_url, **options(CONN_MAX_AGE=max_age))
    node = here.start()
    with psycopg.connect(database_url, autocommit=True) as connection:

        def count() -> int:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname"
            row = connection.execute(f"{sql} IS NOT NULL").fetchone()
            assert row is not None
            return int(row[0])

        await asyncio.gather(*(_call(Session(node), node) for _ in range(8)))
        # The heartbeat's, and with CONN_MAX_AGE that of the thread that Django runs views in.
        await until(lambda: count() <= (2 if max_age is None else 1))


async def _call(session: Session, node: Any) -> None:
    async with session.client(node) as client:
        await client.ask("a")
        await client.close()
