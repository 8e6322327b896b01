from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from voicews.models import VoiceSession

pytestmark = pytest.mark.django_db

LIST = "/admin/voicews/voicesession/"


@pytest.fixture
def sessions() -> dict[str, VoiceSession]:
    now = timezone.now()
    user = User.objects.create_user("caller")
    states = VoiceSession.State
    return {
        "ended": VoiceSession.objects.create(
            bot="echo",
            state=states.ENDED,
            created_at=now,
            started_at=now - timedelta(seconds=75),
            ended_at=now,
            close_code=4001,
        ),
        "created": VoiceSession.objects.create(bot="echo", created_at=now - timedelta(hours=1)),
        "active": VoiceSession.objects.create(
            bot="parrot",
            user=user,
            state=states.ACTIVE,
            created_at=now - timedelta(hours=2),
            started_at=now - timedelta(hours=2),
            client_address="192.0.2.7",
        ),
    }


def listed(admin_client: Client, query: str = "") -> list[uuid.UUID]:
    html = admin_client.get(f"{LIST}{query}").content.decode()
    return [uuid.UUID(one) for one in re.findall(r"voicesession/([0-9a-f-]{36})/change/", html)]


def test_live_sessions_come_first(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    assert listed(admin_client) == [sessions[name].id for name in ("active", "created", "ended")]


def test_the_list_says_how_it_went(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    html = admin_client.get(LIST).content.decode()
    assert "voicews-state-active" in html
    assert "1:15" in html
    assert "replaced" in html
    assert "/static/voicews/admin/admin.css" in html


def test_search_and_filters(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    active = sessions["active"].id
    for query in (
        "?q=caller",
        "?q=parr",
        "?q=192.0.2.7",
        f"?q={active}",
        f"?q={active.hex}",
        "?state__exact=active",
        "?bot=parrot",
    ):
        assert listed(admin_client, query) == [active], query
    assert listed(admin_client, "?q=nothing-like-it") == []
    assert listed(admin_client, "?close_code=4001") == [sessions["ended"].id]


def test_a_session_can_be_read_not_changed(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    for session in sessions.values():
        response = admin_client.get(f"{LIST}{session.id}/change/")
        assert response.status_code == 200
        assert 'name="_save"' not in response.content.decode()
        assert admin_client.post(f"{LIST}{session.id}/change/", {}).status_code == 403
    assert admin_client.get(f"{LIST}add/").status_code == 403


def test_permissions_count(client: Client, sessions: dict[str, VoiceSession]) -> None:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get(LIST).status_code == 403


def test_no_inline_code_of_ours(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    html = admin_client.get(LIST).content.decode()
    assert not re.search(r"<[^>]*voicews[^>]*\s(on\w+|style)=", html)


def test_the_list_needs_few_queries(
    admin_client: Client,
    sessions: dict[str, VoiceSession],
    django_assert_max_num_queries: object,
) -> None:
    assert callable(django_assert_max_num_queries)
    user = sessions["active"].user
    VoiceSession.objects.bulk_create(VoiceSession(bot="echo", user=user) for _ in range(50))
    with django_assert_max_num_queries(10):
        admin_client.get(LIST)
