"""How sockets get in, when the database takes its time and when they are gone by then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.utils import timezone

from tests.sessions.cluster import until
from voicews.close_codes import CloseCode
from voicews.conf import Policy
from voicews.consumers.voice import SessionConsumer
from voicews.exceptions import Busy
from voicews.models import ServerProcess, SessionEvent, VoiceConnection, VoiceSession
from voicews.security.tokens import issue_connect_token
from voicews.sessions import live as live_module
from voicews.sessions import operators, store, takeover
from voicews.sessions.db_threads import session_database
from voicews.sessions.live import LiveSessions, live_sessions
from voicews.sessions.process import this_process
from voicews.sessions.rules import Lease
from voicews.sessions.store import ClaimResult, Client
from voicews.sessions.takeover import Takeovers
from voicews.signals import session_ended

pytestmark = pytest.mark.django_db(transaction=True)

TIMEOUT_SECS = 10.0
T = TypeVar("T")


async def query(job: Callable[[], T]) -> T:
    """In the threads that try again where the tests' database was locked."""
    return await session_database.run(job)


async def row(session: VoiceSession) -> VoiceSession:
    return await query(lambda: VoiceSession.objects.get(pk=session.pk))


async def new_session(**fields: Any) -> VoiceSession:
    return await query(lambda: VoiceSession.objects.create(bot="echo", **fields))


async def another_process() -> ServerProcess:
    now = timezone.now()
    return await query(
        lambda: ServerProcess.objects.create(
            host="host", pid=1, heartbeat_at=now, lease_until=now + timedelta(minutes=1)
        )
    )


async def until_exists(rows: Any) -> None:
    deadline = monotonic() + TIMEOUT_SECS
    while not await query(rows.exists):
        assert monotonic() < deadline
        await asyncio.sleep(0.02)


class Pause:
    """A database that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached = threading.Event()
        self.over = threading.Event()
        function = getattr(store, name)

        def paused(*args: Any, **kwargs: Any) -> Any:
            self.reached.set()
            assert self.over.wait(TIMEOUT_SECS)
            return function(*args, **kwargs)

        monkeypatch.setattr(store, name, paused)


@pytest.fixture(autouse=True)
async def short_times(settings: Any) -> AsyncIterator[None]:
    settings.VOICEWS = {
        **settings.VOICEWS,
        "RECONNECT_GRACE_SECS": 0.3,
        "LEASE_SECS": 2.0,
        "DRAIN_TIMEOUT_SECS": 0,
    }
    yield
    # Nothing is asked of a database that is being emptied.
    drained = this_process().drain_soon()
    if drained is not None:
        await drained


@pytest.fixture
def ends() -> Iterator[list[UUID]]:
    """The sessions whose end was announced."""
    found: list[UUID] = []

    def ended(session: VoiceSession, **kwargs: Any) -> None:
        found.append(session.pk)

    session_ended.connect(ended)
    yield found
    session_ended.disconnect(ended)


def communicator(session: VoiceSession) -> WebsocketCommunicator:
    path = f"/ws/voice/{session.pk}/?token={issue_connect_token(session.pk)}"
    made = WebsocketCommunicator(SessionConsumer.as_asgi(), path)
    made.scope["url_route"] = {"kwargs": {"session": session.pk}}  # type: ignore[typeddict-unknown-key]
    return made


async def test_a_grant_that_comes_when_its_socket_is_gone(
    monkeypatch: pytest.MonkeyPatch, ends: list[UUID]
) -> None:
    """The server gave the task up: the session is run here all the same, and ends as if lost."""
    session = await new_session()
    pause = Pause(monkeypatch, "arrive")
    opening = asyncio.create_task(communicator(session).connect(timeout=TIMEOUT_SECS))
    await until(pause.reached.is_set)
    opening.cancel()
    with suppress(asyncio.CancelledError):
        await opening
    assert live_sessions.get(session.pk) is None
    pause.over.set()
    await until(lambda: live_sessions.get(session.pk))
    live = live_sessions.get(session.pk)
    assert live is not None
    assert not live.has_client
    assert (await row(session)).process_id == this_process().id
    await until(lambda: ends == [session.pk])
    ended = await row(session)
    assert (ended.state, ended.end_reason) == ("ended", "client did not come back")
    connection = await query(lambda: VoiceConnection.objects.get(session=session))
    assert (connection.close_code, connection.until is None) == (CloseCode.ABNORMAL, False)


async def test_a_client_comes_back_after_such_a_grant(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.VOICEWS = {**settings.VOICEWS, "RECONNECT_GRACE_SECS": 20}
    session = await new_session()
    pause = Pause(monkeypatch, "arrive")
    opening = asyncio.create_task(communicator(session).connect(timeout=TIMEOUT_SECS))
    await until(pause.reached.is_set)
    opening.cancel()
    with suppress(asyncio.CancelledError):
        await opening
    pause.over.set()
    second = communicator(session)
    assert (await second.connect(timeout=TIMEOUT_SECS))[0]
    live = live_sessions.get(session.pk)
    assert live is not None
    assert live.has_client
    assert live.epoch == (await row(session)).owner_epoch == 2
    await second.disconnect()
    live.end(CloseCode.NORMAL, "over")
    await live.wait()


async def held_without_a_bot(kind: str = "browser") -> VoiceSession:
    """A session that is this process's, says the database; nobody here knows."""
    await this_process().started()
    session = await new_session(
        kind=kind,
        state="active",
        started_at=timezone.now(),
        process_id=this_process().id,
        epoch=1,
        owner_epoch=1,
    )
    process = this_process().id
    await query(
        lambda: VoiceConnection.objects.create(session=session, epoch=1, process_id=process)
    )
    return session


async def until_row(session: VoiceSession, **values: Any) -> None:
    await until_exists(VoiceSession.objects.filter(pk=session.pk, **values))


async def test_a_claim_for_what_nobody_runs_is_answered_with_the_session() -> None:
    session = await held_without_a_bot()
    message = {"op": "claimed", "session": str(session.pk), "epoch": 2, "reply_to": ""}
    this_process()._handle(message)
    await until_row(session, process=None, state="active", expires_at__isnull=False)
    assert not await query(VoiceConnection.objects.filter(session=session, until=None).exists)


async def test_a_late_message_takes_nothing_that_was_granted_since() -> None:
    session = await held_without_a_bot()
    message = {"op": "claimed", "session": str(session.pk), "epoch": 1, "reply_to": ""}
    this_process()._handle(message)
    await asyncio.sleep(0.3)
    assert (await row(session)).process_id == this_process().id


async def test_an_end_of_what_nobody_runs_is_an_end(ends: list[UUID]) -> None:
    session = await held_without_a_bot()
    message = {"op": "end", "session": str(session.pk), "code": 4002, "reason": "enough"}
    this_process()._handle(message)
    await until_row(session, state="ended", close_code=4002, end_reason="enough")
    await until(lambda: ends == [session.pk])


async def test_the_heartbeat_tells_of_ends_too(ends: list[UUID]) -> None:
    session = await held_without_a_bot()
    rows = VoiceSession.objects.filter(pk=session.pk)
    await query(lambda: rows.update(requested_close_code=4002, requested_end_reason="enough"))
    await until_row(session, state="ended", close_code=4002)
    await until(lambda: ends == [session.pk])


@pytest.mark.parametrize("kind", ["browser", "phone"])
async def test_what_nobody_runs_is_found_though_nobody_asks(kind: str, ends: list[UUID]) -> None:
    """It counts as a call of its user, and a phone call has to be hung up."""
    session = await held_without_a_bot(kind)
    await until_row(session, state="ended")
    await until(lambda: ends == [session.pk])
    await until_exists(SessionEvent.objects.filter(session=session, kind="interrupted"))


async def test_what_ends_here_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that takes its time to end: its session is this process's until that is stored."""
    monkeypatch.setattr(live_module, "LAST_WORD_SECS", 3.0)
    session = await new_session()
    client = communicator(session)
    assert (await client.connect(timeout=TIMEOUT_SECS))[0]
    live = live_sessions.get(session.pk)
    assert live is not None
    hold = asyncio.Event()
    monkeypatch.setattr(live.task, "wait", hold.wait)
    live.end(CloseCode.NORMAL, "over")
    await until(lambda: live_sessions.is_ending(session.pk))
    this_process().takeovers.settle_soon([(session.pk, 1)])
    this_process().takeovers.let_go_soon(session.pk, 2)
    this_process().takeovers.end_soon(session.pk, 4002, "enough")
    await asyncio.sleep(0.3)
    assert (await row(session)).process_id == this_process().id
    hold.set()
    await until_row(session, state="ended", close_code=1000, end_reason="over")
    await client.disconnect()


async def test_what_a_session_refers_to_is_there_without_a_query() -> None:
    """Bots and receivers of signals run on the event loop, where Django allows no query."""
    process = (await another_process()).pk
    user = await query(lambda: User.objects.create_user("alice"))
    session = await new_session(user=user, kind="phone", provider="twilio", call_id="CA1")
    found = await query(lambda: store.find_session(session.pk))
    granted = await query(
        lambda: (
            store.arrive(session.pk, process, Client(), has_client=False, max_per_user=None).session
        )
    )
    assert granted is not None
    assert granted.process is not None
    assert granted.process.pid
    await query(lambda: store.release(session.pk, process, 1, None, -1))
    (swept,) = (await query(lambda: store.sweep(10, 20, 3600))).ended
    seen: list[VoiceSession] = []

    async def ends(session: VoiceSession, **kwargs: Any) -> None:
        seen.append(session)

    other = await new_session(user=user)
    session_ended.connect(ends)
    await asyncio.to_thread(operators.end_session, other.pk, "enough")
    session_ended.disconnect(ends)
    assert [one.user and one.user.get_username() for one in (found, granted, swept, *seen)] == [
        "alice"
    ] * 4


class LyingControl:
    """Another process's end of the channel layer: it says "released" whatever it is told."""

    takeovers: Takeovers | None = None

    def post(self, channel: str, op: str, **data: Any) -> None:
        assert self.takeovers is not None
        self.takeovers.released(UUID(data["session"]))


class Newcomer:
    """A socket that claims a session."""

    policy = Policy.REPLACE
    is_overtaken = False

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.client = Client()
        self.news = asyncio.Event()
        self.admitted: ClaimResult | None = None

    def overtake(self) -> None:
        self.is_overtaken = True
        self.news.set()

    def admit(self, answer: ClaimResult) -> None:
        self.admitted = answer


async def test_a_waiter_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PATIENCE_SECS", 1.5)
    now = timezone.now()
    owner, own = await another_process(), await another_process()
    session = await new_session(
        state="active", started_at=now, process=owner, epoch=1, owner_epoch=1
    )
    asked = 0
    enter = store.enter

    def counted(*args: Any, **kwargs: Any) -> ClaimResult:
        nonlocal asked
        asked += 1
        return enter(*args, **kwargs)

    monkeypatch.setattr(store, "enter", counted)
    control: Any = LyingControl()
    takeovers = Takeovers(own.pk, Lease(0.5), control, LiveSessions(), 20)
    control.takeovers = takeovers
    with pytest.raises(Busy, match="does not answer"):
        await takeovers.claim(Newcomer(session.pk))
    assert 1 < asked <= 6, "once at once, then twice a second"
    # An owner that has really let go is believed at once.
    monkeypatch.setattr(takeover, "POLL_SECS", TIMEOUT_SECS)
    newcomer = Newcomer(session.pk)
    claiming = asyncio.create_task(takeovers.claim(newcomer))
    monkeypatch.setattr(control, "post", lambda *args, **data: None)
    await until(lambda: takeovers._newest)
    await query(lambda: VoiceSession.objects.filter(pk=session.pk).update(process=None))
    takeovers.released(session.pk)
    async with asyncio.timeout(TIMEOUT_SECS / 2):
        await claiming
    assert newcomer.admitted is not None
