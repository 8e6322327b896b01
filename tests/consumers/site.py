"""The tests' project as a server process, with its journal and its database to look into."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from tests.consumers.client import TIMEOUT_SECS, Client, calling
from tests.consumers.project.journal import VARIABLE
from tests.server_processes import Server, ServerName

APPLICATION = "tests.consumers.project.asgi:application"


class Site(Server):
    """The tests' project on a port of its own."""

    def __init__(
        self,
        directory: Path,
        template_database: Path,
        program: ServerName,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self._journal = directory / "journal.jsonl"
        self._journal.touch()
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.consumers.project.settings",
            "DEBUG": "false",
            "ALLOWED_HOSTS": "127.0.0.1",
            VARIABLE: str(self._journal),
        }
        super().__init__(directory, template_database, program, environment, arguments)

    def _command(self) -> list[str]:
        command = super()._command()
        return [APPLICATION if part == "project.asgi:application" else part for part in command]

    def call(self, bot: str, **options: Any) -> AbstractAsyncContextManager[Client]:
        """A client of a new session with this bot."""
        session = self.connect(bot)
        return calling(session["ws_url"], session["token"], **options)

    def path(self, name: str) -> str:
        """The URL of one of the project's own sockets."""
        return f"{self.ws_url}/ws/{name}/"

    def row(self, session: str) -> dict[str, Any]:
        """The session's row."""
        with closing(sqlite3.connect(self.database)) as database:
            database.row_factory = sqlite3.Row
            found = database.execute(
                "SELECT * FROM voicews_voicesession WHERE id = ?", [UUID(session).hex]
            ).fetchone()
            return dict(found)

    async def whole_timeline(self, session: str) -> list[str]:
        """The kinds of the session's events, in order, once its end is among them."""
        async with asyncio.timeout(TIMEOUT_SECS):
            while True:
                timeline = self.timeline(session)
                if "ended" in timeline:
                    return timeline
                await asyncio.sleep(0.05)

    def timeline(self, session: str) -> list[str]:
        """The kinds of the session's events so far, in order."""
        with closing(sqlite3.connect(self.database)) as database:
            found = database.execute(
                "SELECT kind FROM voicews_sessionevent WHERE session_id = ? ORDER BY at, id",
                [UUID(session).hex],
            )
            return [kind for (kind,) in found]

    async def wait_for_row(
        self, session: str, state: str, timeout_secs: float = TIMEOUT_SECS
    ) -> dict[str, Any]:
        """The session's row, once it is in that state."""
        deadline = time.monotonic() + timeout_secs
        while True:
            row = self.row(session)
            if row["state"] == state:
                return row
            if time.monotonic() > deadline:
                raise TimeoutError(f"still {row['state']} after {timeout_secs} s")
            await asyncio.sleep(0.05)

    async def wait_for_end(
        self, session: str, timeout_secs: float = TIMEOUT_SECS
    ) -> dict[str, Any]:
        """The session's row, once that has ended."""
        return await self.wait_for_row(session, "ended", timeout_secs)

    def journal(self, call: str) -> list[dict[str, Any]]:
        """What the server noted about a call."""
        notes: list[dict[str, Any]] = [
            json.loads(line) for line in self._journal.read_text().splitlines()
        ]
        return [note for note in notes if note["call"] == call]

    def events(self, call: str) -> list[str]:
        """The names of what the server noted about a call."""
        return [note["event"] for note in self.journal(call)]

    def holds_connection_of(self, client: Client) -> bool:
        """Whether the server still has this client's TCP connection open."""
        address = client.websocket.local_address[:2]
        return any(
            connection.raddr == address and connection.status == psutil.CONN_ESTABLISHED
            for connection in psutil.Process(self.process.pid).net_connections("tcp")
        )

    def memory_bytes(self) -> int:
        """Resident memory of the server process."""
        resident: int = psutil.Process(self.process.pid).memory_info().rss
        return resident


def session_of(ws_url: str) -> str:
    """The id in a session's URL."""
    return ws_url.rstrip("/").rsplit("/", 1)[-1]


def parts(session: Mapping[str, str]) -> tuple[str, str, str]:
    """Of the connect endpoint's answer: URL, token, and the session's id."""
    return session["ws_url"], session["token"], session_of(session["ws_url"])
