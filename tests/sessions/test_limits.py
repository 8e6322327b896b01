"""What nobody may have: other people's sessions, more calls than allowed, a line for ever."""

from __future__ import annotations

import asyncio
import time
import urllib.error
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.test import AsyncClient
from django.test import Client as DjangoClient
from django.utils import timezone

from tests.sessions.calls import Session
from tests.sessions.cluster import Redis, until
from tests.sessions.conftest import StartCluster
from voicews.consumers.voice import SessionConsumer
from voicews.exceptions import Busy
from voicews.models import ServerProcess, VoiceConnection, VoiceSession
from voicews.security.tokens import issue_connect_token, issue_resume_token
from voicews.sessions import store
from voicews.sessions.rules import Verdict
from voicews.sessions.store import Client, Figures

NOBODY = Client()
URL = "/voice/connect/"


def server_process(*, lease_secs: float = 60.0, **fields: Any) -> UUID:
    now = timezone.now()
    return ServerProcess.objects.create(
        host="host",
        pid=1,
        heartbeat_at=now,
        lease_until=now + timedelta(seconds=lease_secs),
        **fields,
    ).pk


# --- who may join ---------------------------------------------------------------------------------


def session_cookie(user: User) -> bytes:
    """What the browser of a user who is logged in sends along."""
    browser = DjangoClient()
    browser.force_login(user)
    return browser.cookies.output(header="").strip().encode()


async def opened(
    session: VoiceSession, token: str, user: Any = None, cookie: bytes | None = None
) -> bool:
    """Whether a socket with this token is let in."""
    path = f"/ws/voice/{session.pk}/?token={token}"
    headers = [] if cookie is None else [(b"cookie", cookie)]
    communicator = WebsocketCommunicator(SessionConsumer.as_asgi(), path, headers)
    communicator.scope["url_route"] = {"kwargs": {"session": session.pk}}  # type: ignore[typeddict-unknown-key]
    if user is not None:
        communicator.scope["user"] = user  # type: ignore[typeddict-unknown-key]
    connected, _code = await communicator.connect(timeout=10)
    await communicator.disconnect()
    return connected


@pytest.mark.django_db(transaction=True)
async def test_tokens_and_users(settings: Any) -> None:
    settings.VOICEWS = {**settings.VOICEWS, "TOKEN_MAX_AGE_SECS": 0.2}
    alice = await User.objects.acreate(username="alice")
    bob = await User.objects.acreate(username="bob")
    hers, his = [await VoiceSession.objects.acreate(bot="echo", user=user) for user in (alice, bob)]
    assert not await opened(hers, issue_connect_token(his.pk)), "a token of another session"
    assert not await opened(hers, issue_resume_token(his.pk)), "a token of another session"
    assert not await opened(hers, issue_resume_token(hers.pk), bob), "another user's session"
    # The default route has no middleware that looks for a user.
    cookies = {user: await sync_to_async(session_cookie)(user) for user in (alice, bob)}
    assert not await opened(hers, issue_resume_token(hers.pk), cookie=cookies[bob])
    assert await opened(hers, issue_resume_token(hers.pk), cookie=cookies[alice])
    assert await opened(his, issue_resume_token(his.pk), AnonymousUser()), "the token is enough"
    token = issue_connect_token(hers.pk)
    await asyncio.sleep(0.3)
    assert not await opened(hers, token), "a token that is replayed after its life"


# --- how many -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_user_has_so_many_calls_and_no_more() -> None:
    user = User.objects.create_user("someone")
    process = server_process()
    sessions = [VoiceSession.objects.create(bot="echo", user=user) for _ in range(3)]

    def arrive(session: VoiceSession) -> store.ClaimResult:
        return store.arrive(session.pk, process, NOBODY, has_client=False, max_per_user=2)

    assert arrive(sessions[0]).first
    assert arrive(sessions[1]).first
    with pytest.raises(Busy, match="you have 2 calls already"):
        arrive(sessions[2])
    # One that runs may come back.
    assert not arrive(sessions[0]).first
    assert store.end(sessions[0].pk, process, 2, Figures(1000, "over"))
    assert arrive(sessions[2]).first


@pytest.mark.django_db(transaction=True)
async def test_the_connect_endpoint_says_so(settings: Any, async_client: AsyncClient) -> None:
    settings.VOICEWS = {
        **settings.VOICEWS,
        "MAX_SESSIONS_PER_USER": 1,
        "MAX_SESSIONS_PER_PROCESS": 5,
    }
    user = await User.objects.acreate(username="someone")
    await async_client.aforce_login(user)
    assert (await async_client.post(URL, content_type="application/json")).status_code == 200
    answer = await async_client.post(URL, content_type="application/json")
    assert (answer.status_code, answer.json()) == (503, {"info": "you have 1 calls already"})
    await async_client.alogout()
    assert (await async_client.post(URL, content_type="application/json")).status_code == 200
    await ServerProcess.objects.acreate(
        host="host",
        pid=1,
        heartbeat_at=timezone.now(),
        lease_until=timezone.now() + timedelta(minutes=1),
        live_sessions=5,
        capacity=5,
    )
    answer = await async_client.post(URL, content_type="application/json")
    assert (answer.status_code, answer.json()) == (503, {"info": "no capacity for another call"})


async def test_a_process_takes_so_many_calls(cluster: StartCluster) -> None:
    node = cluster(MAX_SESSIONS_PER_PROCESS=1, RECONNECT_GRACE_SECS=1).start()
    first, second = Session(node), Session(node)
    async with first.client(node) as client:
        with pytest.raises(Exception, match="403"):
            async with second.client(node):
                pass
        await until(lambda: _status(node) == 503)
        await client.close()
    await until(lambda: _status(node) == 200)
    async with second.client(node):
        pass


def _status(node: Any) -> int:
    try:
        node.connect()
    except urllib.error.HTTPError as error:
        return error.code
    return 200


async def test_who_says_nothing_is_hung_up_on(cluster: StartCluster) -> None:
    node = cluster(IDLE_TIMEOUT_SECS=1).start()
    session = Session(node)
    async with session.client(node) as client:
        for _ in range(4):
            await client.ask("something")
            await asyncio.sleep(0.5)
        began = time.monotonic()
        assert await client.wait_closed() == 4000
        assert client.reason == "idle timeout"
        assert time.monotonic() - began < 10


# --- what the database itself refuses -------------------------------------------------------------


@pytest.mark.django_db
def test_the_database_refuses_a_second_active_connection() -> None:
    session = VoiceSession.objects.create(bot="echo")
    process = server_process()
    VoiceConnection.objects.create(session=session, epoch=1, process_id=process)
    with pytest.raises(IntegrityError), transaction.atomic():
        VoiceConnection.objects.create(session=session, epoch=2, process_id=process)
    VoiceConnection.objects.update(until=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        VoiceConnection.objects.create(session=session, epoch=1, process_id=process)
    VoiceConnection.objects.create(session=session, epoch=2, process_id=process)


# --- the sweeper ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_a_dead_process_leaves_behind() -> None:
    session = VoiceSession.objects.create(bot="echo")
    process = server_process()
    answer = store.arrive(session.pk, process, NOBODY, has_client=False, max_per_user=None)
    assert store.sweep(10, 20, 3600) == store.Swept()
    ServerProcess.objects.update(lease_until=timezone.now() - timedelta(seconds=5))
    assert store.sweep(10, 20, 3600) == store.Swept(), "it may only have been cut off"
    ServerProcess.objects.update(lease_until=timezone.now() - timedelta(seconds=15))
    assert store.sweep(10, 20, 3600).lost == [session.pk]
    connection = VoiceConnection.objects.get()
    assert (connection.close_code, connection.reason) == (1006, "its server process was lost")
    # It comes back after all, and nobody wanted the session meanwhile.
    held = [(session.pk, answer.epoch, answer.connection)]
    assert store.regain(process, held) == {session.pk: True}
    connection.refresh_from_db()
    assert (connection.until, connection.close_code) == (None, None)
    # The next time it stays away, and so does the client.
    assert store.sweep(10, 0, 3600).lost == [session.pk]
    [ended] = store.sweep(10, 0, 3600).ended
    assert (ended.pk, ended.state, ended.end_reason) == (
        session.pk,
        "ended",
        "its server process was lost",
    )
    assert store.regain(process, held) == {}
    ServerProcess.objects.update(lease_until=timezone.now() - timedelta(hours=2))
    store.sweep(10, 20, 3600)
    assert not ServerProcess.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_stale_process_writes_nothing() -> None:
    session = VoiceSession.objects.create(bot="echo")
    one, two = server_process(lease_secs=-1), server_process()
    old = store.arrive(session.pk, one, NOBODY, has_client=False, max_per_user=None)
    new = store.claim(session.pk, two, NOBODY)
    assert (new.epoch, new.after_loss) == (old.epoch + 1, True)
    assert old.connection is not None
    assert not store.save_bot_state(session.pk, one, old.epoch, {"stale": True})
    store.close_connection(
        session.pk, old.connection, Figures(1006), one, old.epoch, {"stale": True}
    )
    assert not store.release(session.pk, one, old.epoch, {"stale": True}, 20)
    assert store.end(session.pk, one, old.epoch, Figures(1000)) is None
    session.refresh_from_db()
    assert (session.bot_state, session.state, session.process_id) == ({}, "active", two)
    assert VoiceConnection.objects.get(until=None).pk == new.connection


async def test_a_killed_process_is_shown_as_lost(cluster: StartCluster, redis: Redis) -> None:
    here = cluster(redis=redis, LEASE_SECS=1.5, RECONNECT_GRACE_SECS=1)
    one, two = here.start(), here.start()
    async with Session(two).client(two), Session(one).client(one):
        one.kill()
        await until(lambda: "its server process was lost" in two.log_tail())


@pytest.mark.django_db
def test_no_such_session() -> None:
    assert store.claim(uuid4(), uuid4(), NOBODY).verdict is Verdict.ENDED
    assert store.whereabouts(uuid4()) is None


@pytest.mark.django_db(transaction=True)
def test_what_nobody_joined_goes_when_its_token_is_dead() -> None:
    """Anybody may ask for a session where a project allows it: their rows do not stay for ever."""
    long_ago = timezone.now() - timedelta(seconds=100)
    old, joined, ended = [
        VoiceSession.objects.create(bot="echo", created_at=long_ago) for _ in range(3)
    ]
    fresh = VoiceSession.objects.create(bot="echo")
    call, new_call = [
        VoiceSession.objects.create(
            bot="echo", kind="phone", provider="twilio", call_id=call_id, created_at=at
        )
        for call_id, at in (("CA1", long_ago), ("CA2", timezone.now()))
    ]
    process = server_process()
    store.arrive(joined.pk, process, NOBODY, has_client=False, max_per_user=None)
    store.request_end(ended.pk, 4002, "enough")
    swept = store.sweep(10, 20, 3600, token_secs=70, phone_token_secs=90)
    assert [(one.pk, one.end_reason) for one in swept.ended] == [
        (call.pk, "no stream of the call came")
    ]
    left = set(VoiceSession.objects.values_list("pk", flat=True))
    assert left == {one.pk for one in (joined, ended, fresh, call, new_call)}
    assert old.pk not in left


async def test_they_go_by_themselves(cluster: StartCluster) -> None:
    here = cluster(TOKEN_MAX_AGE_SECS=4, LEASE_SECS=1, RECONNECT_GRACE_SECS=0)
    node = here.start()
    unjoined = Session(node)
    async with Session(node).client(node):
        left = (
            "from voicews.models import VoiceSession\n"
            f"print('left', VoiceSession.objects.filter(pk='{unjoined.id}').count())"
        )
        await until(lambda: "left 0" in here.manage("shell", "-c", left))


@pytest.mark.django_db(transaction=True)
async def test_they_go_where_nobody_ever_joins(settings: Any, async_client: AsyncClient) -> None:
    settings.VOICEWS = {**settings.VOICEWS, "TOKEN_MAX_AGE_SECS": 0.1, "LEASE_SECS": 1}
    for _ in range(3):
        response = await async_client.post(URL, content_type="application/json")
        assert response.status_code == 200
        await asyncio.sleep(1.3)
    assert await VoiceSession.objects.acount() == 1
