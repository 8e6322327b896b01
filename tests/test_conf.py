from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.utils.translation import gettext_lazy, override

from voicews.conf import BotSettings, VoicewsSettings, read, settings
from voicews.exceptions import ConfigurationError


def test_an_empty_dict_is_the_defaults() -> None:
    assert read({}) == (VoicewsSettings(), [])
    assert VoicewsSettings().MAY_CONNECT == "voicews.permissions.authenticated"
    assert VoicewsSettings().RESUME_TOKEN_MAX_AGE_SECS == 12 * 3600


def test_every_key_is_read() -> None:
    found, problems = read(
        {
            "BOTS": {
                "a": "app.A",
                "b": {"class": "app.B", "label": "Bee", "description": "Hums."},
            },
            "DEFAULT_BOT": "b",
            "MAY_CONNECT": "app.may_connect",
            "ALLOWED_ORIGINS": ["https://example.com"],
            "PUBLIC_URL": "https://voice.example.com/base/",
            "TOKEN_MAX_AGE_SECS": 5,
            "RESUME_TOKEN_MAX_AGE_SECS": 7.5,
            "RECONNECT_GRACE_SECS": 0,
            "SESSION_TIMEOUT_SECS": 600,
        }
    )
    assert problems == []
    assert found == VoicewsSettings(
        BOTS={"a": BotSettings("a", "app.A"), "b": BotSettings("b", "app.B", "Bee", "Hums.")},
        DEFAULT_BOT="b",
        MAY_CONNECT="app.may_connect",
        ALLOWED_ORIGINS=("https://example.com",),
        PUBLIC_URL="https://voice.example.com/base",
        TOKEN_MAX_AGE_SECS=5.0,
        RESUME_TOKEN_MAX_AGE_SECS=7.5,
        RECONNECT_GRACE_SECS=0.0,
        SESSION_TIMEOUT_SECS=600.0,
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "VOICEWS: expected a dict, found []"),
        ({"BOT": {}}, "VOICEWS: unknown key 'BOT'"),
        ({"BOTS": ["app.A"]}, "VOICEWS BOTS: expected a dict of name -> class path"),
        ({"BOTS": {"": "app.A"}}, "VOICEWS BOTS: expected names of 1 to 100 characters"),
        ({"BOTS": {1: "app.A"}}, "VOICEWS BOTS: expected names of 1 to 100 characters"),
        ({"BOTS": {"a": "A"}}, "VOICEWS BOTS: expected a dotted path"),
        ({"BOTS": {"a": {"label": "A"}}}, "VOICEWS BOTS: a: expected a key 'class'"),
        ({"BOTS": {"a": {"class": "app.A", "x": 1}}}, "VOICEWS BOTS: a: unknown keys x"),
        ({"BOTS": {"a": {"class": "app.A", "label": 1}}}, "VOICEWS BOTS: expected a string"),
        (
            {"BOTS": {"a": "app.A"}, "DEFAULT_BOT": "b"},
            "VOICEWS DEFAULT_BOT: expected one of BOTS (a), found 'b'",
        ),
        ({"DEFAULT_BOT": 1}, "VOICEWS DEFAULT_BOT: expected a string"),
        ({"MAY_CONNECT": len}, "VOICEWS MAY_CONNECT: expected a dotted path"),
        ({"ALLOWED_ORIGINS": "https://a.b"}, "VOICEWS ALLOWED_ORIGINS: expected a list"),
        ({"ALLOWED_ORIGINS": [1]}, "VOICEWS ALLOWED_ORIGINS: expected a list"),
        ({"PUBLIC_URL": "example.com"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "ftp://example.com"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "https://a.b/?c"}, "VOICEWS PUBLIC_URL: expected a URL without"),
        ({"PUBLIC_URL": "https://[a"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "https://a.b:port"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"TOKEN_MAX_AGE_SECS": "60"}, "VOICEWS TOKEN_MAX_AGE_SECS: expected a number"),
        ({"TOKEN_MAX_AGE_SECS": True}, "VOICEWS TOKEN_MAX_AGE_SECS: expected a number"),
        ({"TOKEN_MAX_AGE_SECS": 0}, "VOICEWS TOKEN_MAX_AGE_SECS: expected more than 0"),
        ({"TOKEN_MAX_AGE_SECS": float("nan")}, "VOICEWS TOKEN_MAX_AGE_SECS: expected more"),
        ({"TOKEN_MAX_AGE_SECS": float("inf")}, "VOICEWS TOKEN_MAX_AGE_SECS: expected 0.001 to"),
        ({"TOKEN_MAX_AGE_SECS": 1e30}, "VOICEWS TOKEN_MAX_AGE_SECS: expected 0.001 to"),
        ({"SESSION_TIMEOUT_SECS": 1e30}, "VOICEWS SESSION_TIMEOUT_SECS: expected 0.001 to"),
        ({"DRAIN_TIMEOUT_SECS": 10**400}, "VOICEWS DRAIN_TIMEOUT_SECS: expected 0.001 to"),
        ({"LEASE_SECS": 1e-9}, "VOICEWS LEASE_SECS: expected 0.001 to"),
        ({"LEASE_SECS": 0.01}, "VOICEWS LEASE_SECS: expected 1 to 3600"),
        ({"LEASE_SECS": 1e8}, "VOICEWS LEASE_SECS: expected 1 to 3600"),
        ({"MAX_SESSIONS_PER_PROCESS": 99999999999}, "VOICEWS MAX_SESSIONS_PER_PROCESS: expected a"),
        ({"ALLOWED_ORIGINS": ["example.com/x y"]}, "VOICEWS ALLOWED_ORIGINS: expected an origin"),
        ({"ALLOWED_ORIGINS": ["https://a.b/c"]}, "VOICEWS ALLOWED_ORIGINS: expected an origin"),
        ({"ALLOWED_ORIGINS": ["https://a.b:99999"]}, "VOICEWS ALLOWED_ORIGINS: expected an origin"),
        ({"ALLOWED_ORIGINS": ["https://[1:::2]"]}, "VOICEWS ALLOWED_ORIGINS: expected an origin"),
        ({"ALLOWED_ORIGINS": ["https://*.a.b"]}, "VOICEWS ALLOWED_ORIGINS: expected an origin"),
        ({"LEASE_SECS": 10**5000}, "VOICEWS LEASE_SECS: expected 0.001 to"),
        ({"MAX_SESSIONS_PER_USER": 10**5000}, "VOICEWS MAX_SESSIONS_PER_USER: expected a whole"),
        ({"MAY_CONNECT": ".permissions.mine"}, "VOICEWS MAY_CONNECT: expected a dotted path"),
        ({"MAY_CONNECT": "."}, "VOICEWS MAY_CONNECT: expected a dotted path"),
        ({"BOTS": {"a": ".bots.Bot"}}, "VOICEWS BOTS: expected a dotted path"),
        ({"BOTS": {"a\0b": "app.A"}}, "VOICEWS BOTS: expected names of 1 to 100 characters that"),
        ({"BOTS": {"\ud83d": "app.A"}}, "VOICEWS BOTS: expected names of 1 to 100 characters that"),
        ({"PUBLIC_URL": "https://a .b"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "https://a.b/\0"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "https://a.b/\ud83d"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"PUBLIC_URL": "https://a.b\\c"}, "VOICEWS PUBLIC_URL: expected a URL"),
        ({"RECONNECT_GRACE_SECS": -1}, "VOICEWS RECONNECT_GRACE_SECS: expected more than 0"),
        ({"RECONNECT_GRACE_SECS": False}, "VOICEWS RECONNECT_GRACE_SECS: expected a number"),
        ({"SESSION_TIMEOUT_SECS": 0}, "VOICEWS SESSION_TIMEOUT_SECS: expected more than 0"),
    ],
)
def test_what_is_wrong_is_named(value: Any, problem: str) -> None:
    _, problems = read(value)
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_origins_as_channels_takes_them() -> None:
    origins = ("*", "a.b", ".a.b", "https://.a.b:8443", "http://[::1]:8000", "http://127.0.0.1/")
    assert origins == read({"ALLOWED_ORIGINS": origins})[0].ALLOWED_ORIGINS


def test_labels_may_be_translations() -> None:
    entry = {"class": "app.A", "label": gettext_lazy("Yes"), "description": gettext_lazy("No")}
    found, problems = read({"BOTS": {"a": entry}})
    assert problems == []
    with override("de"):
        assert (str(found.BOTS["a"].label), str(found.BOTS["a"].description)) == ("Ja", "Nein")


def test_every_problem_is_reported() -> None:
    _, problems = read({"PUBLIC_URL": 1, "DEFAULT_BOT": 1, "NEW": 1})
    assert len(problems) == 3


def test_settings_follow_an_override() -> None:
    ages = [settings.TOKEN_MAX_AGE_SECS]
    with override_settings(VOICEWS={"TOKEN_MAX_AGE_SECS": 5}):
        ages.append(settings.TOKEN_MAX_AGE_SECS)
    ages.append(settings.TOKEN_MAX_AGE_SECS)
    assert ages == [60.0, 5.0, 60.0]


def test_wrong_settings_are_an_error_on_use() -> None:
    with (
        override_settings(VOICEWS={"WRONG": 1, "DEFAULT_BOT": 1}),
        pytest.raises(ConfigurationError, match="unknown key 'WRONG'; VOICEWS DEFAULT_BOT"),
    ):
        _ = settings.BOTS


def test_a_project_without_the_setting_has_defaults() -> None:
    # Overridden first: Django announces no deletion, nor its end.
    with override_settings(VOICEWS={}):
        del django_settings.VOICEWS
        assert dict(settings.BOTS) == {}
        assert settings.bot() is None
    assert settings.bot() is not None


def test_the_default_bot() -> None:
    a, b = BotSettings("a", "app.A"), BotSettings("b", "app.B")
    both = {"a": a, "b": b}
    assert VoicewsSettings(BOTS=both).bot() is a
    assert VoicewsSettings(BOTS=both, DEFAULT_BOT="b").bot() is b
    assert VoicewsSettings(BOTS=both, DEFAULT_BOT="b").bot("a") is a
    assert VoicewsSettings(BOTS=both).bot("c") is None


def test_a_bot_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ConfigurationError, match="VOICEWS BOTS: a: cannot import 'nowhere.Bot'"):
        BotSettings("a", "nowhere.Bot").load()
