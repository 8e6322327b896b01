"""What a bot has saved outlives its process."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.sessions.calls import Session
from tests.sessions.cluster import Cluster, copy_database, until
from tests.sessions.conftest import StartCluster
from voicews.bots import Bot
from voicews.models import VoiceSession
from voicews.sessions.bot_state import BotState

SHORT_LEASE = {"LEASE_SECS": 3}


class Writes:
    """Every write of a bot's state to a database, as that itself keeps count of them."""

    def __init__(self, template: Path, directory: Path) -> None:
        self.url = copy_database(template, directory)
        self._path = self.url.removeprefix("sqlite:///")
        self._ask("CREATE TABLE writes (state TEXT)")
        self._ask(
            "CREATE TRIGGER count_writes AFTER UPDATE OF bot_state ON voicews_voicesession "
            "BEGIN INSERT INTO writes VALUES (NEW.bot_state); END"
        )

    def states(self) -> list[str]:
        return [state for (state,) in self._ask("SELECT state FROM writes ORDER BY rowid")]

    def _ask(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def writes(migrated_database: Path, tmp_path: Path) -> Writes:
    return Writes(migrated_database, tmp_path)


def with_bot(cluster: StartCluster, name: str, **options: Any) -> Cluster:
    bots = {"counter": f"tests.sessions.project.bots.{name}"}
    return cluster(BOTS=bots, DEFAULT_BOT="counter", **options)


async def test_a_killed_process_takes_no_state_with_it(
    cluster: StartCluster, writes: Writes
) -> None:
    here = with_bot(cluster, "Diligent", database_url=writes.url, **SHORT_LEASE)
    one, two = here.start(), here.start()
    session = Session(one)
    async with session.client(one) as first:
        for _ in range(3):
            await first.ask("a")
        await until(lambda: '{"count": 3}' in writes.states())
        one.kill()
        assert await first.wait_closed() == 1006
        async with session.client(two) as second:
            assert await second.ask("b") == {"pid": two.process.pid, "count": 4}
            await until(lambda: writes.states()[-1] == '{"count": 4}')
    assert [entry.event for entry in here.entries()].count("start") == 1


async def test_a_change_is_written_once_and_nothing_else_is(
    cluster: StartCluster, writes: Writes
) -> None:
    here = with_bot(cluster, "Diligent", database_url=writes.url)
    node = here.start()
    session = Session(node)
    async with session.client(node) as first:
        # The state of a bot that has heard nothing is a change, too: from none.
        await until(writes.states)
        await asyncio.sleep(1)
        await first.ask("a")
        await until(lambda: len(writes.states()) == 2)
        await asyncio.sleep(1)
        assert writes.states() == ['{"count": 0}', '{"count": 1}']
        # Another socket of the session: the claim is a new one.
        async with session.client(node) as second:
            await second.ask("b")
            await until(lambda: len(writes.states()) == 3)
            await asyncio.sleep(0.5)
            assert writes.states()[2:] == ['{"count": 2}']


async def test_a_change_that_is_taken_back_while_the_client_is_away(
    cluster: StartCluster, writes: Writes
) -> None:
    here = with_bot(cluster, "Forgetful", database_url=writes.url)
    node = here.start()
    session = Session(node)
    async with session.client(node) as client:
        await until(writes.states)
        await client.ask("a")
        # What is stored when the client is gone is what it has counted, and then forgets again.
        assert client.websocket is not None
        client.websocket.transport.abort()
        await until(lambda: '{"count": 1}' in writes.states())
        await until(lambda: writes.states()[-1] == '{"count": 0}')


async def test_a_bot_that_saves_nothing_is_not_asked(cluster: StartCluster, writes: Writes) -> None:
    here = with_bot(cluster, "Watched", database_url=writes.url)
    node = here.start()
    async with Session(node).client(node) as client:
        await client.ask("a")
        await asyncio.sleep(0.5)
        assert writes.states() == []


async def test_what_is_newest_moves(cluster: StartCluster, redis: Any) -> None:
    """A save that is under way when the session is claimed does not come after the move's."""
    here = with_bot(cluster, "Ponderous", redis=redis)
    nodes = [here.start(), here.start()]
    session = Session(nodes[0])
    count = 0
    for number in range(6):
        node = nodes[number % 2]
        async with session.client(node) as client:
            for _ in range(number + 1):
                count += 1
                assert await client.ask("x") == {"pid": node.process.pid, "count": count}
                await asyncio.sleep(0.07)


class Saving(Bot):
    def __init__(self, state: Any) -> None:
        super().__init__()
        self.state = state

    def save_state(self) -> Any:
        return self.state


async def test_what_is_taken_is_the_database_s(caplog: pytest.LogCaptureFixture) -> None:
    bot = Saving({"list": []})
    kept = BotState(VoiceSession(), bot)
    taken = await kept.take()
    bot.state["list"].append((1, "a\0b\\u0000"))
    assert taken == {"list": []}
    # Lists are what tuples become, and a character that PostgreSQL does not take is replaced.
    assert await kept.take() == {"list": [[1, "a\ufffdb\\u0000"]]}
    assert caplog.messages == []


@pytest.mark.parametrize("state", [None, [1], {"a": object()}, {"a": math.nan}, {"a": b"\xff"}])
async def test_what_no_database_takes(state: Any, caplog: pytest.LogCaptureFixture) -> None:
    row = VoiceSession()
    bot = Saving(state)
    kept = BotState(row, bot)
    assert await kept.take() is None
    assert await kept.take() is None
    # Once, until it has saved again.
    assert caplog.messages == [f"call {row.pk}: the bot could not save its state"]
    bot.state = {"a": 1}
    assert await kept.take() == {"a": 1}
    bot.state = state
    assert await kept.take() is None
    assert len(caplog.messages) == 2


def test_how_often() -> None:
    class Never(Saving):
        save_state_interval_secs = None

    assert Saving({}).saves_state_every_secs == 10
    assert Never({}).saves_state_every_secs is None
    assert Bot().saves_state_every_secs is None


async def test_where_there_is_no_bot() -> None:
    assert await BotState(VoiceSession(), None).take() is None
