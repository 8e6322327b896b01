"""A server with all providers switched on, and their APIs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import WaitFor, serving
from tests.server_processes import Server
from tests.telephony.phones import PHONES, Phone, environment
from tests.telephony.provider_api import ProviderApi


@pytest.fixture(scope="session")
def provider_api() -> Iterator[ProviderApi]:
    api = ProviderApi()
    yield api
    api.stop()


@pytest.fixture(scope="session")
def phone_server(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any, provider_api: ProviderApi
) -> Iterator[Server]:
    with serving(tmp_path_factory, migrated_database) as start:
        yield start("uvicorn", environment=environment(provider_api.url))


@pytest.fixture
def phone(phone_server: Server) -> Callable[[str], Phone]:
    """A function that gives one call of a provider."""
    return lambda name: PHONES[name](phone_server)


class Rows:
    """What the server's database says of a call."""

    def __init__(self, server: Server, wait_for: WaitFor) -> None:
        self._path = server.database
        self._wait_for = wait_for

    def ask(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with sqlite3.connect(self._path) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def session(self, call_id: str) -> dict[str, Any]:
        rows = self.ask("SELECT * FROM voicews_voicesession WHERE call_id = ?", call_id)
        assert len(rows) == 1, rows
        return rows[0]

    def ended(self, call_id: str) -> dict[str, Any]:
        self._wait_for(lambda: self.session(call_id)["state"] == "ended", timeout_secs=10)
        return self.session(call_id)

    def hung_up(self, call_id: str) -> dict[str, Any]:
        self._wait_for(
            lambda: self.session(call_id)["hang_up"] not in ("", "requested"), timeout_secs=10
        )
        return self.session(call_id)

    def events(self, call_id: str, kind: str) -> list[str]:
        rows = self.ask(
            "SELECT detail FROM voicews_sessionevent WHERE session_id = ? AND kind = ? ORDER BY id",
            self.session(call_id)["id"],
            kind,
        )
        return [row["detail"] for row in rows]


@pytest.fixture
def rows(phone_server: Server, wait_for: WaitFor) -> Rows:
    return Rows(phone_server, wait_for)
