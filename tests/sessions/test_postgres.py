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


async def test_a_character_that_it_does_not_take(
    cluster: StartCluster, redis: Redis, database_url: str
) -> None:
    """U+0000 in what a user says stops neither the transcript nor a change of hands."""
    here = cluster(
        redis=redis,
        database_url=database_url,
        BOTS={"counter": "tests.sessions.project.bots.Scribe"},
        DEFAULT_BOT="counter",
    )
    one, two = here.start(), here.start()
    session = Session(one)

    def query(sql: str) -> list[Any]:
        with psycopg.connect(database_url) as connection:
            return [value for (value,) in connection.execute(sql, [session.id])]

    async with session.client(one) as client:
        await client.ask("a\0b")
        assert client.websocket is not None
        for text in ("a\0b", "and so on"):
            await client.websocket.send(rtvi_message("send-text", {"content": text}))
        saved = "SELECT bot_state ->> 'said' FROM voicews_voicesession WHERE id = %s"
        await until(lambda: query(saved) == ["a\ufffdb"])
        typed = "SELECT text FROM voicews_transcriptentry WHERE session_id = %s ORDER BY id"
        await until(lambda: query(typed) == ["a\ufffdb", "and so on"])
        await client.ask("c\0d")
        async with session.client(two) as second:
            assert await client.wait_closed() == 4001
            assert await second.ask("e") == "c\ufffdd"


async def test_a_row_that_it_does_not_take_holds_up_no_other(
    cluster: StartCluster, database_url: str
) -> None:
    """Whoever wrote it: it is left out, and what came with it is stored."""
    here = cluster(database_url=database_url)
    session = uuid4()
    rows = [
        f"TranscriptEntry(session_id='{session}', at=now, role='user', text={text!r})"
        for text in ("before", "a\0b", "after")
    ]
    here.manage(
        "shell",
        "-c",
        "from datetime import UTC, datetime\n"
        "from voicews.models import TranscriptEntry, VoiceSession\n"
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
