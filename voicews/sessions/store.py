"""What the sessions ask of the database: each function is one transaction, run in a thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections, router, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from voicews.close_codes import CloseCode
from voicews.exceptions import Busy, NotAllowed
from voicews.models import ServerProcess, SessionEvent, VoiceConnection, VoiceSession
from voicews.sessions import rules
from voicews.sessions.rules import Record, Verdict

PROCESS_LOST = "its server process was lost"
NEVER_JOINED = "no stream of the call came"
#: Never-joined rows that one sweep deletes at most.
MAX_SWEPT_ROWS = 200

EventKind = SessionEvent.Kind
ACTIVE, ENDED = VoiceSession.State.ACTIVE, VoiceSession.State.ENDED


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of a socket."""

    address: str | None = None
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What went through a socket, and how it ended."""

    close_code: int | None = None
    reason: str = ""
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    invalid_messages: int = 0


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What came of a claim."""

    verdict: Verdict
    epoch: int = 0
    #: If it was granted: the new row of the connection, and the session's as it is now.
    connection: UUID | None = None
    session: VoiceSession | None = None
    #: If it was granted: whether it is the session's first, and whether its owner was lost.
    first: bool = False
    after_loss: bool = False
    #: If not: where the channel layer reaches the owner.
    owner: UUID | None = None
    owner_channel: str = ""


@dataclass(frozen=True, slots=True)
class EndRequest:
    session: UUID
    close_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a heartbeat found out."""

    #: Sessions of this process that a newer claim waits for, or whose end was requested.
    superseded: list[tuple[UUID, int]] = field(default_factory=list)
    end_requests: list[EndRequest] = field(default_factory=list)
    draining: bool = False
    #: The row was deleted: this process was considered dead long ago.
    was_forgotten: bool = False
    live_processes: int = 1


def database() -> str:
    """The alias of the database that the sessions are in."""
    return router.db_for_write(VoiceSession)


def atomic() -> Any:
    return transaction.atomic(using=database(), durable=False)


def whole_sessions() -> Any:
    """Sessions with the rows that they refer to, for code that must not run a query."""
    return VoiceSession.objects.using(database()).select_related("user", "process")


def load_session(session_id: UUID) -> VoiceSession:
    """The row of a session, to hand it to bots and to the receivers of signals."""
    session: VoiceSession = whole_sessions().get(pk=session_id)
    return session


def find_session(session_id: UUID) -> VoiceSession:
    """The row of a session that has not ended. Raises `NotAllowed` with the reason if none."""
    session: VoiceSession | None = whole_sessions().filter(pk=session_id).first()
    if session is None:
        raise NotAllowed("no such session")
    if session.state == ENDED or session.requested_close_code is not None:
        raise NotAllowed("the session has ended")
    return session


# --- claims ---------------------------------------------------------------------------------------


def arrive(
    session_id: UUID, process: UUID, client: Client, *, has_client: bool, max_per_user: int | None
) -> ClaimResult:
    """A socket that has said nothing yet: see `rules.arrive`."""
    decide = partial(rules.arrive, process=process, has_client=has_client)
    return _claim(session_id, process, client, decide, max_per_user)


def claim(session_id: UUID, process: UUID, client: Client) -> ClaimResult:
    """A socket that has said something valid: see `rules.claim`."""
    return _claim(session_id, process, client, partial(rules.claim, process=process))


def enter(session_id: UUID, process: UUID, client: Client, epoch: int) -> ClaimResult:
    """A socket that waits with a claim: see `rules.enter`."""
    return _claim(session_id, process, client, partial(rules.enter, process=process, epoch=epoch))


def _claim(
    session_id: UUID,
    process: UUID,
    client: Client,
    decide: Any,
    max_per_user: int | None = None,
) -> ClaimResult:
    with atomic():
        session = _locked(session_id)
        if session is None:
            return ClaimResult(Verdict.ENDED)
        owner, record = _record(session)
        new, verdict = decide(record)
        if verdict is not Verdict.GRANTED:
            if new.epoch != record.epoch:
                session.epoch = new.epoch
                session.save(update_fields=["epoch"])
            channel = owner.channel if owner is not None else ""
            return ClaimResult(verdict, new.epoch, owner=record.owner, owner_channel=channel)
        first = session.state == VoiceSession.State.CREATED
        if first:
            if max_per_user is not None:
                _check_user(session, max_per_user)
            session.state = ACTIVE
            session.started_at = timezone.now()
        session.epoch = session.owner_epoch = new.epoch
        session.process_id = process
        session.expires_at = None
        session.save(
            update_fields=[
                "state",
                "started_at",
                "epoch",
                "owner_epoch",
                "process",
                "expires_at",
            ]
        )
        after_loss = record.owner is not None and not record.owner_alive
        # The former owner, if it still lives, stores its own figures later.
        _open_connections(session_id).update(
            until=timezone.now(),
            close_code=CloseCode.ABNORMAL if after_loss else CloseCode.REPLACED,
            reason=PROCESS_LOST if after_loss else "replaced by another connection",
        )
        connection = VoiceConnection.objects.using(database()).create(
            session=session,
            epoch=new.epoch,
            process_id=process,
            address=client.address,
            user_agent=client.user_agent,
        )
        session = load_session(session_id)
        return ClaimResult(verdict, new.epoch, connection.pk, session, first, after_loss)


def _locked(session_id: UUID) -> VoiceSession | None:
    rows = VoiceSession.objects.using(database()).filter(pk=session_id)
    if connections[database()].features.has_select_for_update:
        return rows.select_for_update().first()
    # SQLite: a write takes its only lock, whatever mode the transaction began in.
    if not rows.update(epoch=F("epoch")):
        return None
    return rows.first()


def _record(session: VoiceSession) -> tuple[ServerProcess | None, Record]:
    # After the lock, in a statement of its own: it sees what was committed until the lock was free.
    owner = (
        ServerProcess.objects.using(database())
        .annotate(is_alive=Q(lease_until__gt=Now()))
        .filter(pk=session.process_id)
        .first()
        if session.process_id is not None
        else None
    )
    return owner, Record(
        ended=session.state == ENDED,
        is_ending=session.requested_close_code is not None,
        epoch=session.epoch,
        owner=session.process_id,
        owner_epoch=session.owner_epoch,
        owner_alive=owner is not None and owner.is_alive,
    )


def _open_connections(session_id: UUID) -> Any:
    return VoiceConnection.objects.using(database()).filter(session=session_id, until=None)


def _check_user(session: VoiceSession, max_per_user: int) -> None:
    """Raise `Busy` if the session's user has too many already."""
    if session.user_id is None:
        return
    # The user's row is locked, so that two of their sessions can't both be the last one allowed.
    users = get_user_model()._default_manager.using(database())
    if connections[database()].features.has_select_for_update:
        list(users.select_for_update().filter(pk=session.user_id).values_list("pk"))
    active = VoiceSession.objects.using(database()).filter(user=session.user_id, state=ACTIVE)
    if active.count() >= max_per_user:
        raise Busy(f"you have {max_per_user} calls already")


# --- what an owner does ---------------------------------------------------------------------------


def close_connection(
    session_id: UUID,
    connection: UUID,
    figures: Figures,
    process: UUID,
    epoch: int,
    bot_state: dict[str, Any] | None,
) -> bool:
    """A socket is gone; the session waits for its client where it is.

    Says whether what the bot saved, if it did, was stored.
    """
    with atomic():
        _close(connection, figures)
        return bot_state is not None and save_bot_state(session_id, process, epoch, bot_state)


def save_bot_state(session_id: UUID, process: UUID, epoch: int, bot_state: dict[str, Any]) -> bool:
    """Store what the bot saved; False if the session is no longer this process's."""
    return bool(_owned(session_id, process, epoch).update(bot_state=bot_state))


def release(
    session_id: UUID,
    process: UUID,
    epoch: int,
    bot_state: dict[str, Any] | None,
    grace_secs: float,
) -> bool:
    """Let go of a session that goes on elsewhere; False if it is no longer this process's."""
    with atomic():
        session = _held(session_id, process, epoch)
        if session is None or not rules.release(_record(session)[1], process)[1]:
            return False
        if bot_state is not None:
            _rows(session_id).update(bot_state=bot_state)
        _let_go(session, grace_secs)
        return True


def disown(session_id: UUID, process: UUID, before_epoch: int, grace_secs: float) -> bool:
    """Release a session that this process owns by a claim that it does not know.

    So is one whose claim was granted after its caller had given up. Claims from
    `before_epoch` on are newer than that. False if there is none.
    """
    with atomic():
        session = _locked(session_id)
        if session is None or session.owner_epoch >= before_epoch:
            return False
        if not rules.release(_record(session)[1], process)[1]:
            return False
        # A call's socket does not come back.
        _let_go(session, 0.0 if session.kind == VoiceSession.Kind.PHONE else grace_secs)
        return True


def _let_go(session: VoiceSession, grace_secs: float) -> None:
    session.process = None
    session.expires_at = timezone.now() + timedelta(seconds=grace_secs)
    session.save(update_fields=["process", "expires_at"])
    _open_connections(session.pk).update(until=timezone.now())


def end(
    session_id: UUID,
    process: UUID,
    epoch: int | None,
    figures: Figures,
    at: datetime | None = None,
) -> datetime | None:
    """The session is over, since when; None if this process had lost it, and can't say so.

    Without `epoch` it is whichever claim this process has it with. Said twice with the same `at`,
    it holds twice: the answer to the first time may have been lost.
    """
    at = at or timezone.now()
    with atomic():
        session = _held(session_id, process, epoch)
        if session is None:
            said_before = _rows(session_id).filter(state=ENDED, ended_at=at, owner_epoch=epoch)
            return at if said_before.exists() else None
        _new, is_ours = rules.end(_record(session)[1], process)
        return at if is_ours and _end(_rows(session_id), session_id, figures, at) else None


def _held(session_id: UUID, process: UUID, epoch: int | None) -> VoiceSession | None:
    """The row, locked, if it is this process's by the claim `epoch` (None: by any)."""
    session = _locked(session_id)
    if session is None or session.state != ACTIVE or session.process_id != process:
        return None
    return session if epoch in (None, session.owner_epoch) else None


def held_by(process: UUID) -> list[tuple[UUID, int]]:
    """Each session that is this process's, as the database knows it, and the claim of it."""
    rows = VoiceSession.objects.using(database()).filter(process=process, state=ACTIVE)
    return list(rows.values_list("pk", "owner_epoch"))


def store_figures(connection: UUID, figures: Figures) -> None:
    """How a socket ended and what went through it, of a session that has gone on without it."""
    _close(connection, figures)


def _rows(session_id: UUID) -> Any:
    return VoiceSession.objects.using(database()).filter(pk=session_id)


def _owned(session_id: UUID, process: UUID, epoch: int) -> Any:
    return _rows(session_id).filter(process=process, owner_epoch=epoch, state=ACTIVE)


def _close(connection: UUID, figures: Figures) -> None:
    VoiceConnection.objects.using(database()).filter(pk=connection).update(
        until=Coalesce("until", timezone.now()),
        close_code=figures.close_code,
        reason=figures.reason,
        messages_in=figures.messages_in,
        messages_out=figures.messages_out,
        bytes_in=figures.bytes_in,
        bytes_out=figures.bytes_out,
        invalid_messages=figures.invalid_messages,
    )


def _end(rows: Any, session_id: UUID, figures: Figures, at: datetime | None = None) -> bool:
    ended = rows.update(
        state=ENDED,
        ended_at=at or timezone.now(),
        close_code=figures.close_code,
        end_reason=figures.reason,
        process=None,
        expires_at=None,
        requested_close_code=None,
        requested_end_reason="",
    )
    if ended:
        _open_connections(session_id).update(
            until=timezone.now(), close_code=figures.close_code, reason=figures.reason
        )
    return bool(ended)


# --- what anybody does ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a session is."""

    state: str
    owner: UUID | None = None
    channel: str = ""


def whereabouts(session_id: UUID) -> Whereabouts | None:
    """The living process that runs a session, if there is one; None if there is no session."""
    row = (
        VoiceSession.objects.using(database())
        .annotate(is_alive=Q(process__lease_until__gt=Now()))
        .filter(pk=session_id)
        .values_list("state", "process", "process__channel", "is_alive")
        .first()
    )
    if row is None:
        return None
    state, owner, channel, is_alive = row
    return Whereabouts(state, owner, channel) if is_alive else Whereabouts(state)


def request_end(session_id: UUID, close_code: int, reason: str) -> tuple[bool, Whereabouts]:
    """Have a session ended: by its owner, if one lives; at once, if none does.

    Says whether it was ended at once, and where its owner is. Raises `NotAllowed` if there is no
    such session or if it has ended.
    """
    with atomic():
        session = _locked(session_id)
        if session is None:
            raise NotAllowed("no such session")
        if session.state == ENDED:
            raise NotAllowed("the session has ended")
        owner, record = _record(session)
        if rules.end(record, None)[1]:
            _end(_rows(session_id), session_id, Figures(close_code, reason))
            return True, Whereabouts(ENDED)
        _rows(session_id).update(requested_close_code=close_code, requested_end_reason=reason)
        assert owner is not None
        return False, Whereabouts(session.state, owner.pk, owner.channel)


def end_unstarted(session_id: UUID, close_code: int, reason: str) -> bool:
    """Have a session ended that no client has joined; False if there is none."""
    with atomic():
        rows = VoiceSession.objects.using(database()).filter(
            pk=session_id, state=VoiceSession.State.CREATED
        )
        return _end(rows, session_id, Figures(close_code, reason))


def has_room() -> bool:
    """Whether any living process takes another session; True if none says how many it takes."""
    alive = ServerProcess.objects.using(database()).filter(lease_until__gt=Now(), draining=False)
    rows = list(alive.values_list("live_sessions", "capacity"))
    return not rows or any(capacity is None or live < capacity for live, capacity in rows)


def sessions_of_user(user_id: Any, fresh_secs: float) -> int:
    """How many calls a user has, or is about to have."""
    fresh = timezone.now() - timedelta(seconds=fresh_secs)
    return (
        VoiceSession.objects.using(database())
        .filter(user=user_id)
        .filter(Q(state=ACTIVE) | Q(state=VoiceSession.State.CREATED, created_at__gt=fresh))
        .count()
    )


# --- processes ------------------------------------------------------------------------------------


def heartbeat(row: ServerProcess, lease_secs: float) -> Heartbeat:
    """Put off the end of this process's lease, and learn what others want of it."""
    processes = ServerProcess.objects.using(database())
    lease = timedelta(seconds=lease_secs)
    values = {
        "channel": row.channel,
        "live_sessions": row.live_sessions,
        "capacity": row.capacity,
        "heartbeat_at": Now(),
        "lease_until": Now() + lease,
    }
    if row.draining:
        values["draining"] = True
    forgotten = not processes.filter(pk=row.pk).update(**values)
    if forgotten:
        processes.create(pk=row.pk, host=row.host, pid=row.pid, started_at=row.started_at, **values)
    wanted = (
        VoiceSession.objects.using(database())
        .filter(process=row.pk, state=ACTIVE)
        .filter(Q(epoch__gt=F("owner_epoch")) | Q(requested_close_code__isnull=False))
        .values_list("pk", "epoch", "requested_close_code", "requested_end_reason")
    )
    superseded, end_requests = [], []
    for session, epoch, close_code, reason in wanted:
        if close_code is not None:
            end_requests.append(EndRequest(session, close_code, reason))
        else:
            superseded.append((session, epoch))
    alive = list(processes.filter(lease_until__gt=Now()).values_list("pk", "draining"))
    return Heartbeat(
        superseded, end_requests, dict(alive).get(row.pk, False), forgotten, len(alive)
    )


def regain(process: UUID, held: Iterable[tuple[UUID, int, UUID | None]]) -> dict[UUID, bool]:
    """Which of (session, epoch, connection) are this process's own, after it was cut off.

    True: it is; False: a newer claim waits for it to be released. The rest have been lost.
    """
    own: dict[UUID, bool] = {}
    for session_id, epoch, connection in held:
        with atomic():
            session = _locked(session_id)
            if session is None:
                continue
            _owner, record = _record(session)
            new, regained = rules.regain(record, process, epoch)
            if not regained:
                if not record.ended and record.owner == process:
                    own[session_id] = False
                continue
            own[session_id] = True
            if record.owner is None:
                session.process_id = process
                session.owner_epoch = new.owner_epoch
                session.expires_at = None
                session.save(update_fields=["process", "owner_epoch", "expires_at"])
                if connection is not None:
                    VoiceConnection.objects.using(database()).filter(pk=connection).update(
                        until=None, close_code=None, reason=""
                    )
    return own


def stop(process: UUID) -> None:
    """The process ends in order; others need not wait for its lease."""
    ServerProcess.objects.using(database()).filter(pk=process).update(
        lease_until=Now(), live_sessions=0
    )


def request_drain(process: UUID) -> str | None:
    """Have a process drained; its channel, None if it is not alive."""
    rows = ServerProcess.objects.using(database()).filter(pk=process, lease_until__gt=Now())
    if not rows.update(draining=True):
        return None
    return rows.values_list("channel", flat=True).first() or ""


# --- the sweeper ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swept:
    """Sessions whose process was lost, and sessions that ended because no client came back."""

    lost: list[UUID] = field(default_factory=list)
    ended: list[VoiceSession] = field(default_factory=list)


def sweep(
    lease_secs: float,
    grace_secs: float,
    forget_secs: float,
    token_secs: float | None = None,
    phone_token_secs: float | None = None,
) -> Swept:
    """Release dead processes' sessions, end those whose client did not return; delete old rows.

    With `token_secs`, a browser's session that no client joined is deleted when its token is so old
    that it opens nothing any more; a phone call's, after `phone_token_secs`, is ended: the call
    happened.

    A process counts as dead here some time after its lease: one that was merely cut off from the
    database gets its sessions back, if they were not claimed meanwhile.
    """
    processes = ServerProcess.objects.using(database())
    sessions = VoiceSession.objects.using(database())
    now = timezone.now()
    dead = list(
        processes.filter(
            lease_until__lt=Now() - timedelta(seconds=lease_secs), sessions__isnull=False
        )
        .distinct()
        .values_list("pk", flat=True)
    )
    lost: list[UUID] = []
    if dead:
        for session_id in sessions.filter(process__in=dead).values_list("pk", flat=True):
            with atomic():
                session = _locked(session_id)
                if session is None or session.process_id not in dead:
                    continue
                if _record(session)[1].owner_alive:
                    continue
                session.process_id = None
                session.expires_at = now + timedelta(seconds=grace_secs)
                session.save(update_fields=["process", "expires_at"])
                _open_connections(session_id).update(
                    until=now, close_code=CloseCode.ABNORMAL, reason=PROCESS_LOST
                )
                lost.append(session_id)
    ended: list[VoiceSession] = []
    over = Q(expires_at__lt=now) | Q(requested_close_code__isnull=False)
    for session in sessions.filter(over, process=None, state=ACTIVE):
        code = session.requested_close_code or CloseCode.ABNORMAL
        reason = session.requested_end_reason or "client did not come back"
        if session.requested_close_code is None and _was_lost(session.pk):
            reason = PROCESS_LOST
        rows = sessions.filter(over, pk=session.pk, process=None, state=ACTIVE)
        with atomic():
            if _end(rows, session.pk, Figures(code, reason)):
                ended.append(load_session(session.pk))
    if token_secs is not None:
        delete_unjoined(token_secs)
    if phone_token_secs is not None:
        ended += _end_unjoined(now - timedelta(seconds=phone_token_secs))
    processes.filter(
        lease_until__lt=Now() - timedelta(seconds=forget_secs), sessions__isnull=True
    ).delete()
    return Swept(lost, ended)


def _unjoined(kind: VoiceSession.Kind, before: datetime) -> Any:
    rows = VoiceSession.objects.using(database())
    return rows.filter(state=VoiceSession.State.CREATED, created_at__lt=before, kind=kind)


def delete_unjoined(token_secs: float) -> None:
    """Delete browser sessions that no client joined before the token expired."""
    before = timezone.now() - timedelta(seconds=token_secs)
    # In parts, so that no lock lasts long; the condition again, as one may be joined just now.
    found = list(
        _unjoined(VoiceSession.Kind.BROWSER, before)
        .order_by("created_at")
        .values_list("pk", flat=True)[:MAX_SWEPT_ROWS]
    )
    for pk in found:
        with atomic():
            session = _locked(pk)
            if session is not None and session.state == VoiceSession.State.CREATED:
                session.delete()


def _end_unjoined(before: datetime) -> list[VoiceSession]:
    ended = []
    found = _unjoined(VoiceSession.Kind.PHONE, before).order_by("created_at")
    for pk in list(found.values_list("pk", flat=True)[:MAX_SWEPT_ROWS]):
        with atomic():
            rows = _rows(pk).filter(state=VoiceSession.State.CREATED)
            if _end(rows, pk, Figures(CloseCode.ABNORMAL, NEVER_JOINED)):
                ended.append(load_session(pk))
    return ended


def _was_lost(session_id: UUID) -> bool:
    newest = (
        VoiceConnection.objects.using(database())
        .filter(session=session_id)
        .order_by("-epoch")
        .values_list("reason", flat=True)
        .first()
    )
    return newest == PROCESS_LOST
