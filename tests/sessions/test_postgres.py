"""What PostgreSQL minds and SQLite does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.consumers.client import rtvi_message
from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, until
from tests.sessions.conftest import StartCluster
from tests.sessions.postgres import running_postgres


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


def query(database_url: str, sql: str, session: str) -> list[Any]:
    with psycopg.connect(database_url) as connection:
        return [value for (value,) in connection.execute(sql, [session])]


STATE = "SELECT state FROM voicews_voicesession WHERE id = %s"
REASON = "SELECT end_reason FROM voicews_voicesession WHERE id = %s"
SAID = "SELECT text FROM voicews_transcriptentry WHERE session_id = %s ORDER BY id"


@pytest.mark.parametrize(("bad", "stored"), [("a\0b", "a\ufffdb"), ("half \ud83d", "half \ufffd")])
async def test_a_character_that_it_does_not_take(
    cluster: StartCluster, redis: Redis, database_url: str, bad: str, stored: str
) -> None:
    """What a user says stops neither the transcript, nor a change of hands, nor others' calls."""
    here = cluster(
        redis=redis,
        database_url=database_url,
        BOTS={
            "counter": "tests.sessions.project.bots.Scribe",
            "leaver": "tests.sessions.project.bots.Leaver",
        },
        DEFAULT_BOT="counter",
    )
    one, two = here.start(), here.start()
    session, other, third = Session(one), Session(one), Session(one, "leaver")
    async with session.client(one) as client, other.client(one) as neighbour:
        await client.ask(bad)
        assert client.websocket is not None
        assert neighbour.websocket is not None
        for text in (bad, "and so on"):
            await client.websocket.send(rtvi_message("send-text", {"content": text}))
        await neighbour.websocket.send(rtvi_message("send-text", {"content": "next to it"}))
        saved = "SELECT bot_state ->> 'said' FROM voicews_voicesession WHERE id = %s"
        await until(lambda: query(database_url, saved, session.id) == [stored])
        await until(lambda: query(database_url, SAID, session.id) == [stored, "and so on"])
        await until(lambda: query(database_url, SAID, other.id) == ["next to it"])
        await client.ask(bad)
        async with session.client(two) as second:
            assert await client.wait_closed() == 4001
            assert await second.ask("e") == stored
    async with third.client(one) as leaver:
        await leaver.say(bad)
        assert await leaver.wait_closed() == 1000
        await until(lambda: query(database_url, STATE, third.id) == ["ended"])
        assert query(database_url, REASON, third.id) == [stored]


async def test_an_operator_may_use_any_character(
    cluster: StartCluster, redis: Redis, database_url: str
) -> None:
    here = cluster(redis=redis, database_url=database_url)
    one = here.start()
    session = Session(one)
    async with session.client(one) as client:
        here.manage(
            "shell",
            "-c",
            "from voicews.sessions.operators import end_session, send_message\n"
            f"send_message('{session.id}', {{'text': 'a\\0b \\ud83d'}})\n"
            f"end_session('{session.id}', 'a\\0b \\ud83d')\n",
        )
        assert await client.wait_closed() == 4002
    await until(lambda: query(database_url, STATE, session.id) == ["ended"])
    assert query(database_url, REASON, session.id) == ["a\ufffdb \ufffd"]


async def test_a_row_that_it_does_not_take_holds_up_no_other(
    cluster: StartCluster, database_url: str
) -> None:
    """Whoever wrote it: it is left out, and what came with it is stored."""
    here = cluster(database_url=database_url)
    session = uuid4()
    rows = [
        f"Entry(session_id='{session}', at=now, role='user', text={text!r}, heard_ms={heard})"
        for text, heard in (("before", 1), ("too long", 2**40), ("after", 2))
    ]
    here.manage(
        "shell",
        "-c",
        "from datetime import UTC, datetime\n"
        "from voicews.models import TranscriptEntry as Entry, VoiceSession\n"
        "from voicews.sessions.timeline import write_rows\n"
        f"VoiceSession.objects.create(pk='{session}')\n"
        f"now = datetime.fromisoformat('{datetime.now(UTC).isoformat()}')\n"
        f"write_rows([{', '.join(rows)}])\n",
    )
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT text FROM voicews_transcriptentry WHERE session_id = %s ORDER BY id", [session]
        )
        assert found.fetchall() == [("before",), ("after",)]
