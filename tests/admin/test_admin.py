from __future__ import annotations

import csv
import io
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from voicews.admin.export import cell
from voicews.admin.plots import round_top, share, stacked_columns
from voicews.admin.sessions import readable
from voicews.models import (
    ServerProcess,
    SessionEvent,
    TranscriptEntry,
    VoiceConnection,
    VoiceSession,
)

pytestmark = pytest.mark.django_db

LIST = "/admin/voicews/voicesession/"
DASHBOARD = "/admin/voicews/dashboard/"
State = VoiceSession.State

SignIn = Callable[..., Client]


@pytest.fixture
def sessions() -> dict[str, VoiceSession]:
    now = timezone.now()
    user = User.objects.create_user("caller")
    return {
        "ended": VoiceSession.objects.create(
            bot="echo",
            state=State.ENDED,
            created_at=now,
            started_at=now - timedelta(seconds=75),
            ended_at=now,
            close_code=1006,
        ),
        "created": VoiceSession.objects.create(bot="echo", created_at=now - timedelta(hours=1)),
        "active": VoiceSession.objects.create(
            bot="parrot",
            user=user,
            state=State.ACTIVE,
            created_at=now - timedelta(hours=2),
            started_at=now - timedelta(hours=2),
            client_address="192.0.2.7",
        ),
    }


@pytest.fixture
def sign_in() -> SignIn:
    """A function that makes a staff user with these permissions of sessions, and its client."""

    def sign_in(*permissions: str, **attributes: Any) -> Client:
        user = User.objects.create_user(
            "-".join(("staff", *permissions)), is_staff=True, **attributes
        )
        codenames = [f"{one}_voicesession" for one in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return sign_in


def page(session: VoiceSession, action: str = "change") -> str:
    return f"{LIST}{session.pk}/{action}/"


def html_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def listed(client: Client, query: str = "") -> list[uuid.UUID]:
    found = re.findall(r"voicesession/([0-9a-f-]{36})/change/", html_of(client, LIST + query))
    return [uuid.UUID(one) for one in found]


# --- the list -------------------------------------------------------------------------------------


def test_live_sessions_come_first_and_what_never_began_stays_away(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    assert listed(admin_client) == [sessions[name].id for name in ("active", "ended")]
    everything = [sessions[name].id for name in ("active", "created", "ended")]
    assert listed(admin_client, "?state=all") == everything
    assert listed(admin_client, "?state=created") == [sessions["created"].id]


def test_the_list_says_how_it_went(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    VoiceConnection.objects.create(session=sessions["ended"], epoch=1, invalid_messages=3)
    VoiceConnection.objects.create(
        session=sessions["ended"], epoch=2, invalid_messages=4, until=timezone.now()
    )
    html = html_of(admin_client, LIST)
    assert '<span class="voicews-state voicews-state-active">live</span>' in html
    assert "1:15" in html
    assert re.search(r'voicews-ending voicews-trouble" title="1006">the connection was lost<', html)
    assert '<td class="field-invalid_messages">7</td>' in html
    assert "/static/voicews/admin/admin.css" in html


def test_phone_calls_are_known_by_the_number_at_the_other_end(admin_client: Client) -> None:
    operator = User.objects.create_user("operator")
    for direction, user, other_end in (
        ("inbound", None, "+15550100001"),
        ("outbound", operator, "+15550100002"),
    ):
        session = VoiceSession.objects.create(
            bot="ivr",
            kind="phone",
            state="active",
            started_at=timezone.now(),
            provider="twilio",
            call_id=direction,
            direction=direction,
            from_number="+15550100001",
            to_number="+15550100002",
            client_address="192.0.2.7",
            user=user,
        )
        assert f'<td class="field-with_whom">{other_end}</td>' in html_of(
            admin_client, f"{LIST}?q={session.pk}"
        )
        assert f"ivr with {other_end}" in html_of(admin_client, page(session))
        assert session.pk in listed(admin_client, "?q=0100001")


def test_search_and_filters(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    active = sessions["active"].id
    for query in (
        "?q=caller",
        "?q=parr",
        "?q=192.0.2.7",
        f"?q={active}",
        f"?q={active.hex}",
        "?state=active",
        "?bot=parrot",
    ):
        assert listed(admin_client, query) == [active], query
    assert listed(admin_client, "?q=nothing-like-it") == []
    assert listed(admin_client, "?close_code=1006") == [sessions["ended"].id]
    # Whoever has the number finds it, begun or not.
    assert listed(admin_client, f"?q={sessions['created'].id}") == [sessions["created"].id]
    assert listed(admin_client, "?close_code=nonsense") == listed(admin_client)


def test_the_list_needs_as_many_queries_for_fifty_sessions_as_for_two(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            html_of(admin_client, LIST)
        return len(captured)

    queries()  # fills caches
    few = queries()
    now = timezone.now()
    VoiceSession.objects.bulk_create(
        VoiceSession(
            bot="echo",
            user=sessions["active"].user,
            state=State.ENDED,
            started_at=now,
            ended_at=now,
            close_code=1000,
        )
        for _ in range(50)
    )
    assert queries() == few
    assert few <= 12


def test_the_list_is_read_from_indexes(sessions: dict[str, VoiceSession]) -> None:
    begun = VoiceSession.objects.exclude(state=State.CREATED).order_by("state", "-created_at")
    if connection.vendor == "sqlite":
        plan = begun.explain()
        assert "USING INDEX voicews_session_state" in plan
        assert "TEMP B-TREE" not in plan


# --- what nobody may change -----------------------------------------------------------------------


def test_a_session_can_be_read_not_changed(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    for session in sessions.values():
        assert 'name="_save"' not in html_of(admin_client, page(session))
        assert admin_client.post(page(session), {}).status_code == 403
    assert admin_client.get(f"{LIST}add/").status_code == 403


def test_only_a_superuser_deletes_and_nothing_that_is_live(
    admin_client: Client, sign_in: SignIn, sessions: dict[str, VoiceSession]
) -> None:
    staff = sign_in("view", "delete", "change")
    assert staff.post(page(sessions["ended"], "delete"), {"post": "yes"}).status_code == 403
    assert admin_client.post(page(sessions["active"], "delete"), {"post": "yes"}).status_code == 403
    assert admin_client.post(page(sessions["ended"], "delete"), {"post": "yes"}).status_code == 302
    assert set(VoiceSession.objects.values_list("pk", flat=True)) == {
        sessions["active"].pk,
        sessions["created"].pk,
    }


@pytest.mark.parametrize("url", [LIST, DASHBOARD, "page"])
def test_who_may_not_view_gets_403(
    sign_in: SignIn, sessions: dict[str, VoiceSession], url: str
) -> None:
    url = page(sessions["active"]) if url == "page" else url
    assert sign_in().get(url).status_code == 403
    assert sign_in("end", "message", "listen").get(url).status_code == 403
    assert sign_in("view").get(url).status_code == 200
    assert sign_in("change").get(url).status_code == 200
    assert Client().get(url).status_code == 302
    inactive = User.objects.create_user("inactive", is_staff=True, is_active=False)
    client = Client()
    client.force_login(inactive)
    assert client.get(url).status_code == 302


def test_the_page_offers_what_one_may_do(
    sign_in: SignIn, sessions: dict[str, VoiceSession]
) -> None:
    offers = {"end": "/end/", "message": "/message/", "listen": "voicews-listen-button"}
    for permission, mark in offers.items():
        html = html_of(sign_in("view", permission), page(sessions["active"]))
        assert [name for name, one in offers.items() if one in html] == [permission], mark
    html = html_of(sign_in("view", *offers), page(sessions["ended"]))
    assert not [mark for mark in offers.values() if mark in html]


@pytest.mark.parametrize("action", ["end", "message"])
def test_an_action_needs_its_permission_and_a_post(
    sign_in: SignIn, admin_client: Client, sessions: dict[str, VoiceSession], action: str
) -> None:
    url = page(sessions["active"], action)
    others = {"end", "message", "listen"} - {action}
    assert sign_in("view", *sorted(others)).post(url).status_code == 403
    assert sign_in(action).post(url).status_code == 403
    assert admin_client.get(url).status_code == 405
    nobody = f"{LIST}{uuid.uuid4()}/{action}/"
    assert admin_client.post(nobody).status_code == 404
    assert admin_client.post(f"{LIST}nonsense/{action}/").status_code == 404
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(User.objects.get(username="admin"))
    assert forged.post(url).status_code == 403
    sessions["active"].refresh_from_db()
    assert sessions["active"].state == State.ACTIVE


# --- actions --------------------------------------------------------------------------------------


def test_end_a_call_that_no_process_runs(
    sign_in: SignIn, sessions: dict[str, VoiceSession]
) -> None:
    session = sessions["active"]
    operator = sign_in("view", "end")
    response = operator.post(page(session, "end"), {"reason": "Ä" * 100}, follow=True)
    assert "The call is being ended." in response.content.decode()
    session.refresh_from_db()
    assert (session.state, session.close_code) == (State.ENDED, 4002)
    # A close frame has room for 123 bytes.
    assert session.end_reason == "Ä" * 61
    events = session.events.values_list("kind", "actor", "operator__username", "close_code")
    assert list(events) == [
        ("end-requested", "operator", "staff-view-end", None),
        ("ended", "operator", "staff-view-end", 4002),
    ]
    response = operator.post(page(session, "end"), follow=True)
    assert "The call was not ended: the session has ended." in response.content.decode()


def test_a_message_needs_a_client(sign_in: SignIn, sessions: dict[str, VoiceSession]) -> None:
    operator = sign_in("view", "message")
    response = operator.post(page(sessions["active"], "message"), {"text": "hello"}, follow=True)
    assert "not sent: no client is connected" in response.content.decode()
    response = operator.post(page(sessions["active"], "message"), {"text": " "}, follow=True)
    assert "The message was empty." in response.content.decode()
    assert not sessions["active"].events.exists()


def test_end_selected_calls(sign_in: SignIn, sessions: dict[str, VoiceSession]) -> None:
    operator = sign_in("view", "end")
    chosen = {"action": "end_calls", "_selected_action": [one.pk for one in sessions.values()]}
    html = operator.post(LIST, chosen).content.decode()
    assert "This call is live, and will be ended now:" in html
    assert sessions["active"].pk.hex in html.replace("-", "")
    sessions["active"].refresh_from_db()
    assert sessions["active"].state == State.ACTIVE
    response = operator.post(LIST, {**chosen, "confirmed": "1", "reason": "closing time"})
    assert response.status_code == 302
    sessions["active"].refresh_from_db()
    assert sessions["active"].end_reason == "closing time"
    assert "None of the selected calls is live." in operator.post(LIST, chosen).content.decode()


def test_actions_on_the_list_need_permissions(
    sign_in: SignIn, sessions: dict[str, VoiceSession]
) -> None:
    viewer = sign_in("view")
    html = html_of(viewer, LIST)
    assert "export_csv" in html
    assert "end_calls" not in html
    assert "delete_selected" not in html
    chosen = {"_selected_action": [sessions["active"].pk], "confirmed": "1"}
    viewer.post(LIST, {**chosen, "action": "end_calls"})
    viewer.post(LIST, {**chosen, "action": "delete_selected", "post": "yes"})
    sessions["active"].refresh_from_db()
    assert sessions["active"].state == State.ACTIVE


# --- export ---------------------------------------------------------------------------------------

HOSTILE = '=HYPERLINK("https://evil.example","x")'


PHONE_CALL = {
    "kind": "phone",
    "provider": "twilio",
    "direction": "inbound",
    "from_number": "15550100001",
    "to_number": "15550100002",
    "call_id": "CA1",
    "call_status": "completed",
    "hang_up": "done, status 200",
}


def exported(sessions: dict[str, VoiceSession]) -> dict[str, Any]:
    sessions["ended"].user_agent = HOSTILE
    sessions["ended"].end_reason = "-1+1, or so"
    for name, value in PHONE_CALL.items():
        setattr(sessions["ended"], name, value)
    sessions["ended"].save()
    chosen = [sessions["ended"].pk, sessions["active"].pk]
    return {"action": "export_csv", "_selected_action": chosen}


def check_export(text: str, sessions: dict[str, VoiceSession]) -> None:
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    ended = rows[str(sessions["ended"].pk)]
    assert ended["user_agent"] == f"'{HOSTILE}"
    assert ended["end_reason"] == "'-1+1, or so"
    assert {name: ended[name] for name in PHONE_CALL} == PHONE_CALL
    assert (ended["close_code"], ended["duration_secs"], ended["user"]) == ("1006", "75.0", "")
    assert rows[str(sessions["active"].pk)]["user"] == "caller"
    assert len(rows) == 2


def test_export_csv(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    response = admin_client.post(LIST, exported(sessions))
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in response.headers["Content-Disposition"]
    assert response.streaming
    check_export(b"".join(response).decode(), sessions)


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("error:StreamingHttpResponse")
async def test_export_csv_under_asgi(sessions: dict[str, VoiceSession]) -> None:
    from asgiref.sync import sync_to_async

    client = AsyncClient()
    admin = await sync_to_async(User.objects.create_superuser)("admin")
    await client.aforce_login(admin)
    response: Any = await client.post(LIST, await sync_to_async(exported)(sessions))
    assert response.is_async
    check_export(b"".join([part async for part in response]).decode(), sessions)


def test_cells_are_no_formulas() -> None:
    for formula in ("=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1"):
        assert cell(formula) == f"'{formula}"
    assert cell("ended = well") == "ended = well"
    assert cell(None) == ""
    assert cell(7) == "7"


# --- a session's page -----------------------------------------------------------------------------


def test_the_page_tells_the_whole_story(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    session = sessions["ended"]
    operator = User.objects.get(username="admin")
    VoiceConnection.objects.create(
        session=session,
        epoch=1,
        until=timezone.now(),
        close_code=1006,
        reason="<b>gone</b>",
        messages_in=1234567,
    )
    SessionEvent.objects.create(
        session=session, kind="listened", actor="operator", operator=operator, detail="for 3 s"
    )
    TranscriptEntry.objects.create(
        session=session,
        role="bot",
        text="<script>alert(1)</script>",
        heard_ms=1200,
        interrupted=True,
        heard_text="<script>",
    )
    html = html_of(admin_client, page(session))
    assert "the connection was lost (1006)" in html
    assert "&lt;b&gt;gone&lt;/b&gt;" in html
    assert "for 3 s" in html
    assert '&lt;script&gt; <del class="voicews-meta">alert(1)&lt;/script&gt;</del>' in html
    assert "interrupted, 1200 ms of it were heard" in html
    assert "<script>alert" not in html


def test_a_long_history_shows_its_newest_rows(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    at = timezone.now()
    SessionEvent.objects.bulk_create(
        SessionEvent(
            session=sessions["ended"],
            kind="message",
            detail=f"number {number}.",
            at=at + timedelta(seconds=number),
        )
        for number in range(12)
    )
    with mock.patch("voicews.admin.sessions.MAX_ROWS", 10):
        html = html_of(admin_client, page(sessions["ended"]))
    assert re.findall(r"number (\d+)\.", html) == [str(number) for number in range(2, 12)]


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_codes_are_no_quantities(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    assert "(1006)" in html_of(admin_client, page(sessions["ended"]))
    assert "close_code=1006" in html_of(admin_client, DASHBOARD)
    # Two hours, and what the machine has taken since.
    assert re.search(r'data-secs="72\d\d"', html_of(admin_client, page(sessions["active"])))


def test_pages_look_live_only_at_what_can_change(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    socket = "/ws/voicews-admin/sessions/"
    assert f'data-socket="{socket}{sessions["active"].pk}/"' in html_of(
        admin_client, page(sessions["active"])
    )
    old = sessions["ended"]
    old.ended_at = timezone.now() - timedelta(minutes=5)
    old.save()
    assert socket not in html_of(admin_client, page(old))
    assert f'data-socket="{socket}"' in html_of(admin_client, LIST)
    # A project under a prefix has its sockets there, too.
    response = admin_client.get(LIST, SCRIPT_NAME="/voice")
    assert f'data-socket="/voice{socket}"' in response.content.decode()


@pytest.mark.parametrize("url", [LIST, DASHBOARD, "active", "ended", "created"])
def test_no_inline_code(admin_client: Client, sessions: dict[str, VoiceSession], url: str) -> None:
    html = html_of(admin_client, page(sessions[url]) if url in sessions else url)
    assert not re.search(r"<[^>]*\s(on\w+|style)=", html)
    assert "<style" not in html
    assert not re.search(r"<script(?![^>]*\ssrc=)(?![^>]*application/json)", html)


def test_durations() -> None:
    assert readable(timedelta(seconds=75)) == "1:15"
    assert readable(timedelta(hours=1, seconds=62)) == "1:01:02"
    assert readable(timedelta(seconds=-3)) == "0:00"
    assert readable(None) == ""


# --- the dashboard --------------------------------------------------------------------------------


def test_the_dashboard_is_listed(sign_in: SignIn) -> None:
    assert DASHBOARD in html_of(sign_in("view"), "/admin/")
    assert DASHBOARD in html_of(sign_in("view", "end"), "/admin/voicews/")
    assert DASHBOARD not in html_of(sign_in("end"), "/admin/")


def test_an_empty_dashboard(admin_client: Client) -> None:
    html = html_of(admin_client, DASHBOARD)
    assert "No call ended in the last 24 hours." in html
    assert "No server process is known" in html


def test_the_dashboard_counts(admin_client: Client, sessions: dict[str, VoiceSession]) -> None:
    now = timezone.now()
    for minutes in (1, 70, 60 * 23):
        at = now - timedelta(minutes=minutes)
        VoiceSession.objects.create(
            bot="echo",
            state=State.ENDED,
            created_at=at,
            started_at=at,
            ended_at=at + timedelta(seconds=45),
            close_code=1000,
        )
    VoiceSession.objects.create(
        bot="echo",
        state=State.ENDED,
        created_at=now - timedelta(days=2),
        started_at=now - timedelta(days=2),
        ended_at=now - timedelta(days=2),
        close_code=1011,
    )
    for pid, live, capacity, age_secs, draining in (
        (1, 3, 10, 0, False),
        (2, 0, 4, 0, True),
        (3, 1, 10, 60, False),
    ):
        process = ServerProcess.objects.create(
            host="voice1",
            pid=pid,
            heartbeat_at=now,
            lease_until=now + timedelta(seconds=10 - age_secs),
            capacity=capacity,
            draining=draining,
        )
        VoiceSession.objects.bulk_create(
            VoiceSession(bot="echo", state=State.ACTIVE, started_at=now, process=process)
            for _ in range(live)
        )
    html = html_of(admin_client, DASHBOARD)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    assert "Calls now 5 Room left 7 Calls in 24 hours 9 Average duration 0:52" in text
    assert "Ended in trouble 1 of 4" in text
    assert re.search(r"hung up 1000 3 .*the connection was lost 1006 1 ", text)
    assert "voice1:1 3 7" in text
    assert "voice1:2 draining 0 0" in text
    assert "voice1:3 lost 1 0" in text
    assert "1011" not in text
    assert '<svg class="voicews-columns-plot"' in html
    assert 'role="img" aria-labelledby="voicews-hours-svg voicews-hours-desc"' in html
    assert re.search(r'<desc id="voicews-hours-desc">.*9 in all.</desc>', html)


def test_the_dashboard_needs_as_many_queries_however_many_calls_there_are(
    admin_client: Client, sessions: dict[str, VoiceSession]
) -> None:
    with CaptureQueriesContext(connection) as captured:
        html_of(admin_client, DASHBOARD)
    assert len(captured) <= 11


def test_plots() -> None:
    plot = stacked_columns(["a", "b"], [(3, 1), (0, 0)])
    assert (plot.top, plot.total) == (5, 4)
    fine, trouble = plot.columns[0].segments
    assert (fine.series, fine.y, fine.height) == (0, 40, 60)
    assert (trouble.series, trouble.y, trouble.height) == (1, 20, 20)
    assert 0 < fine.x < fine.x + fine.width < 50
    assert plot.columns[1].segments == ()
    assert stacked_columns([], []).columns == ()
    assert [round_top(value) for value in (0, 1, 3, 7, 11, 200, 201)] == [1, 1, 5, 10, 20, 200, 500]
    assert [share(1, 4), share(5, 4), share(1, 0)] == [25, 100, 0]
