"""Servers with all providers switched on, and what stands in for their APIs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import pytest

from tests.conftest import serving
from tests.server_processes import Server, ServerName
from voicews.telephony import create_provider
from voicews.testing import ProviderApi, SimulatedCall, account_options, place_call

PUBLIC_URL = "https://voice.example.com"

#: For what a server program can do otherwise than another: handshakes, closes, resets, stalls.
BOTH_SERVERS = pytest.mark.parametrize("program", ["uvicorn", "daphne"])

PlaceCall = Callable[..., SimulatedCall[Any]]


@pytest.fixture(scope="session")
def provider_api() -> Iterator[ProviderApi]:
    """The APIs of all providers."""
    with ProviderApi() as api:
        yield api


@contextmanager
def phone_serving(
    tmp_path_factory: pytest.TempPathFactory,
    database: Any,
    provider_api: ProviderApi,
    program: ServerName = "uvicorn",
) -> Iterator[Server]:
    """The demo project with test accounts; its log has no traceback in the end."""
    with serving(tmp_path_factory, database) as start:
        server = start(
            program,
            environment={
                "DJANGO_SETTINGS_MODULE": "tests.telephony.simulators.project.settings",
                "PROVIDER_API_URL": provider_api.url,
            },
            arguments=("--ws", "websockets-sansio") if program == "uvicorn" else (),
        )
        yield server
        log = server.log.read_text(errors="replace")
        assert "Traceback" not in log
        assert " 500 " not in log


@pytest.fixture(scope="session")
def phone_servers(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Any, provider_api: ProviderApi
) -> Iterator[Callable[[ServerName], Server]]:
    """A function that gives the server that runs under a program, started when first asked for."""
    with ExitStack() as running:

        @cache
        def start(program: ServerName) -> Server:
            return running.enter_context(
                phone_serving(tmp_path_factory, migrated_database, provider_api, program)
            )

        yield start


@pytest.fixture
def program() -> ServerName:
    """What serves; a test that is parametrized with `program` runs under others too."""
    return "uvicorn"


@pytest.fixture
def phone_server(phone_servers: Callable[[ServerName], Server], program: ServerName) -> Server:
    """The demo project with test accounts, under `program`."""
    return phone_servers(program)


@pytest.fixture
def place(phone_server: Server, provider_api: ProviderApi) -> PlaceCall:
    """A function that gives a call from a provider's test account."""

    def place(name: str, bot: str = "", **options: Any) -> SimulatedCall[Any]:
        account = account_options(name, provider_api.url)
        if name == "vonage":
            account["sample_rate"] = 8000
        provider = create_provider(name, PUBLIC_URL, account)
        return place_call(provider, phone_server.http_url, bot=bot, api=provider_api, **options)

    return place


@pytest.fixture
def session_row(phone_server: Server) -> Callable[[str], dict[str, Any]]:
    """A function that reads the session of a call id from the server's database."""

    def read(call_id: str) -> dict[str, Any]:
        with sqlite3.connect(phone_server.database) as connection:
            connection.row_factory = sqlite3.Row
            query = "SELECT * FROM voicews_voicesession WHERE call_id = ?"
            (row,) = connection.execute(query, [call_id]).fetchall()
            return dict(row)

    return read


@pytest.fixture
def transcript(phone_server: Server) -> Callable[[str], list[str]]:
    """A function that reads what was said in the session of a call id."""

    def read(call_id: str) -> list[str]:
        with sqlite3.connect(phone_server.database) as connection:
            query = (
                "SELECT text FROM voicews_transcriptentry JOIN voicews_voicesession "
                "ON session_id = voicews_voicesession.id WHERE call_id = ? "
                "ORDER BY voicews_transcriptentry.id"
            )
            return [text for (text,) in connection.execute(query, [call_id])]

    return read
