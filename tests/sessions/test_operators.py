"""What operators do, from a view that is in a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from voicews.models import ServerProcess, SessionEvent, VoiceSession
from voicews.sessions import operators
from voicews.sessions.operators import end_session, send_message
from voicews.signals import session_ended

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def announced() -> Iterator[list[Any]]:
    reasons: list[Any] = []

    def ended(reason: str, **kwargs: Any) -> None:
        reasons.append(reason)

    session_ended.connect(ended)
    yield reasons
    session_ended.disconnect(ended)


@pytest.fixture
def sent() -> Iterator[mock.AsyncMock]:
    with mock.patch.object(operators, "_send", mock.AsyncMock(return_value=True)) as send:
        yield send


def live_session() -> VoiceSession:
    at = timezone.now()
    later = at + timedelta(hours=1)
    process = ServerProcess.objects.create(
        pk=uuid4(), host="there", pid=1, channel="there", heartbeat_at=at, lease_until=later
    )
    return VoiceSession.objects.create(bot="echo", state="active", started_at=at, process=process)


def test_an_end_is_announced_when_it_is_committed(announced: list[Any]) -> None:
    session = VoiceSession.objects.create(bot="echo")
    with transaction.atomic():
        end_session(session.pk, "enough")
        assert announced == []
    assert announced == ["enough"]


def test_an_end_that_is_rolled_back_has_not_happened(
    announced: list[Any], sent: mock.AsyncMock
) -> None:
    waiting, live = VoiceSession.objects.create(bot="echo"), live_session()
    with transaction.atomic():
        end_session(waiting.pk, "enough")
        end_session(live.pk, "enough")
        transaction.set_rollback(True)
    assert announced == []
    assert sent.await_count == 0
    waiting.refresh_from_db()
    assert waiting.state == "created"


def test_the_owner_is_asked_when_the_request_is_committed(sent: mock.AsyncMock) -> None:
    session = live_session()
    with transaction.atomic():
        end_session(session.pk, "enough")
        assert sent.await_count == 0
    assert sent.await_count == 1


def test_an_operator_who_is_nobody(sent: mock.AsyncMock) -> None:
    """A project's own view may know its callers by a key, and have no users."""
    session = live_session()
    with mock.patch.object(operators, "_deliver", mock.AsyncMock(return_value="")) as deliver:
        send_message(session.pk, {"text": "hello"}, AnonymousUser())
    assert deliver.await_args is not None
    assert deliver.await_args.args[-1] is None
    end_session(session.pk, "enough", AnonymousUser())
    boss = User.objects.create_user("boss")
    end_session(session.pk, "enough", boss)
    noted = SessionEvent.objects.order_by("id").values_list("kind", "operator")
    assert list(noted) == [("message", None), ("end-requested", None), ("end-requested", boss.pk)]
