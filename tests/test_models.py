from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError
from django.utils import timezone

from voicews.models import VoiceSession

pytestmark = pytest.mark.django_db


def test_a_new_session() -> None:
    session = VoiceSession.objects.create(bot="echo")
    session.refresh_from_db()
    assert session.state == VoiceSession.State.CREATED
    assert session.kind == VoiceSession.Kind.BROWSER
    assert session.bot_state == {}
    assert session.duration is None
    assert str(session) == f"echo {session.id}"


def test_how_long_it_lasted() -> None:
    now = timezone.now()
    session = VoiceSession(bot="echo", started_at=now - timedelta(seconds=90))
    assert session.duration is not None
    assert timedelta(seconds=90) <= session.duration < timedelta(seconds=95)
    session.ended_at = now
    assert session.duration == timedelta(seconds=90)


def test_a_user_who_is_deleted_leaves_the_sessions() -> None:
    user = User.objects.create_user("someone")
    session = VoiceSession.objects.create(bot="echo", user=user)
    user.delete()
    session.refresh_from_db()
    assert session.user is None


def test_the_database_refuses_an_end_without_a_time() -> None:
    with pytest.raises(IntegrityError):
        VoiceSession.objects.create(bot="echo", state=VoiceSession.State.ENDED)


def test_the_database_refuses_a_live_session_with_an_end() -> None:
    now = timezone.now()
    with pytest.raises(IntegrityError):
        VoiceSession.objects.create(
            bot="echo", state=VoiceSession.State.ACTIVE, started_at=now, ended_at=now
        )


def test_the_database_refuses_an_active_session_without_a_start() -> None:
    with pytest.raises(IntegrityError):
        VoiceSession.objects.create(bot="echo", state=VoiceSession.State.ACTIVE)


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "voicews", check=True, dry_run=True, stdout=StringIO())


def test_live_sessions_sort_first() -> None:
    assert VoiceSession.State.ACTIVE < VoiceSession.State.CREATED < VoiceSession.State.ENDED
