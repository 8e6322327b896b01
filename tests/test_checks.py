from __future__ import annotations

import importlib.metadata
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.test import override_settings

from voicews import checks

REDIS = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}
IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

CORE = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}

no_class = "not a class"


class NoBot:
    """A class, but no bot."""


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


@pytest.mark.django_db
@override_settings(DEBUG=True)
def test_the_demo_project_has_nothing_to_report() -> None:
    call_command("check", fail_level="WARNING", stdout=StringIO())


@pytest.mark.django_db
def test_a_deployment_of_the_demo_is_warned() -> None:
    with override_settings(DEBUG=False, SECRET_KEY="django-insecure-x", CHANNEL_LAYERS=IN_MEMORY):
        errors = StringIO()
        call_command("check", deploy=True, stdout=StringIO(), stderr=errors)
    for found in ("voicews.W005", "voicews.W006", "voicews.W010"):
        assert found in errors.getvalue()


@override_settings(VOICEWS={"WRONG": 1, "TOKEN_MAX_AGE_SECS": "x"})
def test_wrong_settings() -> None:
    messages = checks.check_settings()
    assert ids(messages) == ["voicews.E001", "voicews.E001"]
    assert "TOKEN_MAX_AGE_SECS: expected a number of seconds" in messages[1].msg


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nowhere.Bot", "voicews.E002"),
        ("tests.test_checks.Missing", "voicews.E002"),
        ("tests.test_checks.NoBot", "voicews.E003"),
        ("tests.test_checks.no_class", "voicews.E003"),
    ],
)
def test_bots_that_are_none(path: str, expected: str) -> None:
    with override_settings(VOICEWS={"BOTS": {"a": path}}):
        messages = checks.check_settings()
    assert ids(messages) == [expected]
    assert path in messages[0].msg


@pytest.mark.parametrize(
    "path", ["nowhere.may", "voicews.permissions.missing", "voicews.views.MAX_BODY_BYTES"]
)
def test_may_connect_that_is_no_function(path: str) -> None:
    with override_settings(VOICEWS={"MAY_CONNECT": path}):
        assert ids(checks.check_settings()) == ["voicews.E004"]


@pytest.mark.parametrize("application", [None, ""])
def test_no_asgi_application(application: str | None) -> None:
    with override_settings(ASGI_APPLICATION=application):
        assert ids(checks.check_server()) == ["voicews.W001"]


def test_runserver_without_daphne(settings: Any) -> None:
    with mock.patch.object(apps, "is_installed", return_value=False):
        settings.DEBUG = True
        assert ids(checks.check_server()) == ["voicews.W002"]
        settings.DEBUG = False
        assert ids(checks.check_server()) == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [("4.1.2", ["voicews.W003"]), ("4.2.1", ["voicews.W003"]), ("4.2.2", []), ("4.10.0b1", [])],
)
def test_an_old_daphne(version: str, expected: list[str]) -> None:
    with mock.patch.object(importlib.metadata, "version", return_value=version):
        assert ids(checks.check_server()) == expected


@pytest.mark.parametrize(
    ("debug", "layers", "expected"),
    [
        (True, {}, []),
        (True, IN_MEMORY, []),
        (False, REDIS, []),
        (False, None, ["voicews.W004"]),
        (False, {}, ["voicews.W004"]),
        (False, {"other": {}}, ["voicews.W004"]),
        (False, IN_MEMORY, ["voicews.W005"]),
        (False, CORE, ["voicews.W007"]),
    ],
)
def test_the_channel_layer(debug: bool, layers: Any, expected: list[str]) -> None:
    with override_settings(DEBUG=debug, CHANNEL_LAYERS=layers):
        assert ids(checks.check_channel_layer()) == expected


SQLITE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}


@pytest.mark.parametrize(
    ("debug", "database", "expected"),
    [
        (True, SQLITE, []),
        (False, SQLITE, ["voicews.W008"]),
        (False, {**SQLITE, "OPTIONS": {"transaction_mode": "immediate"}}, []),
        (False, {"ENGINE": "django.db.backends.postgresql"}, []),
    ],
)
def test_the_database(
    debug: bool, database: dict[str, Any], expected: list[str], settings: Any
) -> None:
    settings.DEBUG = debug
    with mock.patch.dict(settings.DATABASES, {"default": database}):
        assert ids(checks.check_database()) == expected


@override_settings(VOICEWS={"RESUME_TOKEN_MAX_AGE_SECS": 10})
def test_a_token_that_dies_too_soon() -> None:
    assert ids(checks.check_database()) == ["voicews.W009"]


@pytest.mark.parametrize(
    ("environment", "layers", "expected"),
    [
        ({}, REDIS, ["voicews.W012"]),
        ({"UVICORN_WS_PER_MESSAGE_DEFLATE": "false"}, IN_MEMORY, []),
        ({"UVICORN_WS_PER_MESSAGE_DEFLATE": "0", "WEB_CONCURRENCY": "4"}, REDIS, []),
        (
            {"UVICORN_WS_PER_MESSAGE_DEFLATE": "0", "WEB_CONCURRENCY": "4"},
            IN_MEMORY,
            ["voicews.W013"],
        ),
        ({"UVICORN_WS_PER_MESSAGE_DEFLATE": "0", "UVICORN_WORKERS": "2"}, {}, ["voicews.W013"]),
    ],
)
def test_how_uvicorn_is_started(
    environment: dict[str, str],
    layers: Any,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("UVICORN_WS_PER_MESSAGE_DEFLATE", "WEB_CONCURRENCY", "UVICORN_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with override_settings(CHANNEL_LAYERS=layers):
        assert ids(checks.check_uvicorn()) == expected


@pytest.mark.parametrize(
    ("debug", "key", "expected"),
    [
        (True, "django-insecure-x", []),
        (False, "django-insecure-x", ["voicews.W006"]),
        (False, "long and random", []),
    ],
)
def test_the_secret_key(debug: bool, key: str, expected: list[str]) -> None:
    with override_settings(DEBUG=debug, SECRET_KEY=key):
        assert ids(checks.check_secret_key()) == expected


@pytest.mark.parametrize(
    ("voicews", "expected"),
    [
        ({}, []),
        ({"MAY_CONNECT": "voicews.permissions.anybody"}, ["voicews.W010"]),
        ({"ALLOWED_ORIGINS": ["https://example.com"]}, []),
        ({"ALLOWED_ORIGINS": ["*"]}, ["voicews.W011"]),
    ],
)
def test_access(voicews: dict[str, Any], expected: list[str]) -> None:
    with override_settings(VOICEWS=voicews):
        assert ids(checks.check_access()) == expected


def test_every_id_is_documented() -> None:
    import re
    from pathlib import Path

    source = Path(checks.__file__).read_text()
    used = set(re.findall(r'"voicews\.([EW]\d{3})"', source))
    assert used == set(re.findall(r"^([EW]\d{3}) ", checks.__doc__ or "", re.MULTILINE))
    page = (Path(__file__).parent.parent / "docs/reference/checks.md").read_text()
    assert {one for one in used if f"voicews.{one}" not in page} == set()


CORS = ["corsheaders.middleware.CorsMiddleware"]


@pytest.mark.parametrize(
    ("cors", "warns"),
    [
        ({}, True),
        ({"CORS_ALLOWED_ORIGINS": ["https://page.example"]}, True),
        ({"CORS_ALLOWED_ORIGINS": ["https://page.example", "https://.example.com"]}, False),
        ({"CORS_ALLOWED_ORIGIN_REGEXES": [r"https://(page\.example|.*\.example\.com)$"]}, False),
        ({"CORS_ALLOW_ALL_ORIGINS": True}, False),
        ({"CORS_URLS_REGEX": r"^/api/"}, False),
        ({"MIDDLEWARE": []}, False),
    ],
)
def test_cors_headers_must_know_our_sites(cors: dict[str, Any], warns: bool) -> None:
    from voicews.checks import check_cors

    sites = ["https://page.example", "https://.example.com"]
    with override_settings(**{"MIDDLEWARE": CORS, "VOICEWS": {"ALLOWED_ORIGINS": sites}, **cors}):
        assert [message.id for message in check_cors()] == ["voicews.W014"] * warns


STORAGE = "django.contrib.staticfiles.storage"


@pytest.mark.parametrize(
    ("backend", "debug", "warns"),
    [
        (f"{STORAGE}.StaticFilesStorage", False, False),
        (f"{STORAGE}.ManifestStaticFilesStorage", False, True),
        (f"{STORAGE}.ManifestStaticFilesStorage", True, False),
        ("whitenoise.storage.CompressedStaticFilesStorage", False, False),
        ("whitenoise.storage.CompressedManifestStaticFilesStorage", False, True),
        ("tests.projects.hashed_files.HashedFiles", False, False),
        ("nowhere.Storage", False, False),
    ],
)
def test_hashes_of_static_files(backend: str, debug: bool, warns: bool) -> None:
    with override_settings(DEBUG=debug, STORAGES={"staticfiles": {"BACKEND": backend}}):
        assert ids(checks.check_static_files()) == ["voicews.W015"] * warns
