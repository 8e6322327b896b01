from __future__ import annotations

import uuid
from collections.abc import Iterator
from unittest import mock

import pytest
from django.test import override_settings

from voicews.exceptions import NotAllowed
from voicews.security.tokens import TokenKind, check_token, issue_connect_token, issue_resume_token

SESSION = uuid.UUID("11111111-2222-3333-4444-555555555555")
NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> Iterator[mock.Mock]:
    with mock.patch("django.core.signing.time.time", return_value=NOW) as time:
        yield time


def test_a_token_opens_its_session(clock: mock.Mock) -> None:
    assert check_token(issue_connect_token(SESSION), SESSION) is TokenKind.CONNECT
    assert check_token(issue_resume_token(SESSION), SESSION) is TokenKind.RESUME


def test_tokens_need_no_escaping_in_a_url() -> None:
    for token in (issue_connect_token(SESSION), issue_resume_token(SESSION)):
        assert set(token) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
        )


def test_a_token_opens_no_other_session() -> None:
    other = uuid.uuid4()
    for token in (issue_connect_token(SESSION), issue_resume_token(SESSION)):
        with pytest.raises(NotAllowed, match="^token is for another session$"):
            check_token(token, other)


@pytest.mark.parametrize(
    ("issue", "life"), [(issue_connect_token, 60), (issue_resume_token, 12 * 3600)]
)
def test_a_token_lives_for_a_while(clock: mock.Mock, issue: object, life: int) -> None:
    assert callable(issue)
    token = issue(SESSION)
    clock.return_value = NOW + life
    check_token(token, SESSION)
    clock.return_value = NOW + life + 1
    with pytest.raises(NotAllowed, match="^token expired$"):
        check_token(token, SESSION)


@override_settings(VOICEWS={"TOKEN_MAX_AGE_SECS": 5, "RESUME_TOKEN_MAX_AGE_SECS": 10})
def test_lives_are_settings(clock: mock.Mock) -> None:
    connect, resume = issue_connect_token(SESSION), issue_resume_token(SESSION)
    clock.return_value = NOW + 6
    check_token(resume, SESSION)
    with pytest.raises(NotAllowed, match="^token expired$"):
        check_token(connect, SESSION)
    clock.return_value = NOW + 11
    with pytest.raises(NotAllowed, match="^token expired$"):
        check_token(resume, SESSION)


@pytest.mark.parametrize("token", [None, ""])
def test_no_token(token: str | None) -> None:
    with pytest.raises(NotAllowed, match="^token missing$"):
        check_token(token, SESSION)


@pytest.mark.parametrize("token", ["x", "x.y.z", "...", "é" * 50, "a" * 100_000, "\0"])
def test_garbage(token: str) -> None:
    with pytest.raises(NotAllowed, match="^token not valid$"):
        check_token(token, SESSION)


def test_a_changed_token_is_not_valid() -> None:
    token = issue_connect_token(SESSION)
    other = issue_connect_token(uuid.uuid4())
    mixed = other.partition(".")[0] + "." + token.partition(".")[2]
    with pytest.raises(NotAllowed, match="^token not valid$"):
        check_token(mixed, SESSION)


def test_a_token_of_another_key_is_not_valid() -> None:
    with override_settings(SECRET_KEY="another"):
        token = issue_connect_token(SESSION)
    with pytest.raises(NotAllowed, match="^token not valid$"):
        check_token(token, SESSION)


def test_a_retired_key_still_counts() -> None:
    with override_settings(SECRET_KEY="old"):
        token = issue_resume_token(SESSION)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        assert check_token(token, SESSION) is TokenKind.RESUME
