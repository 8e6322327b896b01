"""The demo project: its settings come from the environment, its one command is enough."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.calls import hear_echo
from tests.server_processes import ROOT, Server, free_port, server_environment
from voicews.telephony import PROVIDERS

pytestmark = pytest.mark.program


def settings_with(**environment: str) -> dict[str, Any]:
    """What the demo project's settings are in that environment."""
    program = (
        "import json; from project import settings as s;"
        "print(json.dumps({name: getattr(s, name) for name in dir(s) if name.isupper()},"
        " default=str))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_without_an_environment() -> None:
    found = settings_with()
    assert found["DEBUG"] is True
    assert found["DATABASES"]["default"]["ENGINE"] == "django.db.backends.sqlite3"
    assert found["DATABASES"]["default"]["NAME"] == str(ROOT / "db.sqlite3")
    assert found["DATABASES"]["default"]["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert found["CHANNEL_LAYERS"]["default"]["BACKEND"].endswith("InMemoryChannelLayer")
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert found["VOICEWS"]["PUBLIC_URL"] is None


def test_a_deployment() -> None:
    found = settings_with(
        DEBUG="false",
        SECRET_KEY="long and random",
        ALLOWED_HOSTS="voice.example.com, example.com",
        DATABASE_URL="postgres://me:word@db.example.com:5433/voice",
        REDIS_URL="redis://redis.example.com:6379/1",
        VOICEWS_PUBLIC_URL="https://voice.example.com",
    )
    assert found["DEBUG"] is False
    assert found["SECRET_KEY"] == "long and random"
    assert found["ALLOWED_HOSTS"] == ["voice.example.com", "example.com"]
    database = found["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["PORT"], database["NAME"]) == (
        "db.example.com",
        5433,
        "voice",
    )
    assert database["CONN_HEALTH_CHECKS"] is True
    layer = found["CHANNEL_LAYERS"]["default"]
    assert layer["BACKEND"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert layer["CONFIG"] == {"hosts": ["redis://redis.example.com:6379/1"]}
    assert found["VOICEWS"]["PUBLIC_URL"] == "https://voice.example.com"


def test_the_environment_switches_providers_on() -> None:
    twilio = {"account_sid": "AC1", "auth_token": "hush"}
    vonage = {"signature_secret": "hush", "sample_rate": "8000"}
    found = settings_with(
        TWILIO_ACCOUNT_SID="AC1",
        TWILIO_AUTH_TOKEN="hush",
        TWILIO_API_URL="",
        VONAGE_SIGNATURE_SECRET="hush",
        VONAGE_SAMPLE_RATE="8000",
    )
    assert found["VOICEWS"]["PROVIDERS"] == {"twilio": twilio, "vonage": vonage}


def test_simulated_providers_are_for_a_demo_only() -> None:
    environment = {"SIMULATED_PROVIDERS": "http://127.0.0.1:9", "TWILIO_ACCOUNT_SID": "AC1"}
    found = settings_with(**environment)["VOICEWS"]["PROVIDERS"]
    assert set(found) == set(PROVIDERS)
    assert found["twilio"] == {"account_sid": "AC1"}
    assert found["telnyx"]["api_url"] == "http://127.0.0.1:9"
    found = settings_with(DEBUG="0", **environment)["VOICEWS"]["PROVIDERS"]
    assert set(found) == {"twilio"}


def test_nothing_is_open_without_debug() -> None:
    assert settings_with(DEBUG="0")["ALLOWED_HOSTS"] == []


def test_a_flag_is_yes_or_no() -> None:
    with pytest.raises(AssertionError, match="DEBUG: expected true or false, found 'maybe'"):
        settings_with(DEBUG="maybe")


def test_sqlite_is_ready_for_several_writers(migrated_database: Path) -> None:
    program = (
        "import django; django.setup();"
        "from django.db import connection as c;"
        "cursor = c.cursor();"
        "print(*[cursor.execute(f'PRAGMA {name}').fetchone()[0] for name in"
        " ('journal_mode', 'synchronous', 'busy_timeout')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=server_environment(migrated_database),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["wal", "1", "10000"]


def run_demo(database: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "manage.py", "demo"],
            cwd=ROOT,
            env=server_environment(database, {"PORT": str(port)}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_the_demo_command(tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    port, log, database = free_port(), tmp_path / "log", tmp_path / "db.sqlite3"
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"{url}/voice/demo/", timeout=5).close()
        except OSError:
            return False
        return True

    process = run_demo(database, port, log)
    try:
        wait_for(answers, message=log.read_text)
        text = log.read_text()
        assert f"http://localhost:{port}/\n" in text
        password = re.search(r"user admin, password (\S{12})\n", text)
        assert password
        answer = json.load(
            urllib.request.urlopen(
                urllib.request.Request(f"{url}/voice/connect/", b'{"bot": "echo"}'), timeout=10
            )
        )
        assert hear_echo(answer["ws_url"], answer["token"], bytes(640))
        urllib.request.urlopen(f"{url}/?just=once", timeout=10).close()
        wait_for(lambda: "just=once" in log.read_text())
        urllib.request.urlopen(f"{url}/?and=another", timeout=10).close()
        wait_for(lambda: "and=another" in log.read_text())
        assert log.read_text().count("just=once") == 1
    finally:
        Server.kill_group(process)

    process = run_demo(database, port, log)
    try:
        wait_for(answers, message=log.read_text)
        assert "password as printed when it was made" in log.read_text()
    finally:
        Server.kill_group(process)


@pytest.mark.parametrize("port", ["no", "0", "70000", "-1"])
def test_a_port_that_is_none(port: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", "demo"],
        cwd=ROOT,
        env=server_environment(tmp_path / "db.sqlite3", {"PORT": port}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert f"PORT: expected a port number, found {port!r}" in result.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "manage.py", "demo"],
            cwd=ROOT,
            env=server_environment(tmp_path / "db.sqlite3", {"PORT": str(port)}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert f"Address already in use: {port}. Try: make demo PORT=8001" in result.stderr


@pytest.mark.parametrize("which", ["server", "daphne_server"])
def test_a_server_serves_pages_files_and_calls(which: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(which)
    for path, kind in (
        ("/", "text/html"),
        ("/voice/demo/", "text/html"),
        ("/static/home.css", "text/css"),
        ("/static/voicews/admin/admin.css", "text/css"),
        ("/admin/login/", "text/html"),
    ):
        with urllib.request.urlopen(server.http_url + path, timeout=10) as response:
            assert response.headers["Content-Type"].startswith(kind), path
    answer = server.connect("echo")
    assert answer["ws_url"].startswith(f"{server.ws_url}/ws/voice/")
    assert hear_echo(**answer, pcm=bytes(640))


def test_a_server_restarts_on_its_port(serve: Callable[..., Server]) -> None:
    server = serve()
    first = server.process.pid
    server.restart()
    assert server.process.pid != first
    assert server.connect("echo")["ws_url"].startswith(server.ws_url)
    server.stop()
    assert server.process.poll() is not None
