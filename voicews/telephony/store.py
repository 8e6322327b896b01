"""What phone calls ask of the database: each function is one transaction, run in a thread."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Q
from django.utils import timezone

from voicews.conf import settings
from voicews.exceptions import NotAllowed
from voicews.models import PhoneNumber, SessionEvent, UsedNonce, VoiceSession
from voicews.sessions.store import atomic, database
from voicews.telephony import CallEvent, CallStatus, EventKind
from voicews.telephony.providers.base import bare_number

Kind, Actor = SessionEvent.Kind, SessionEvent.Actor
State, Direction = VoiceSession.State, VoiceSession.CallDirection

#: Values of `VoiceSession.hang_up` when no hang-up is needed any more.
REQUESTED: Final = "requested"
TRANSFERRED: Final = "transferred"

_RANKS: Final = {
    CallStatus.QUEUED: 0,
    CallStatus.RINGING: 1,
    CallStatus.IN_PROGRESS: 2,
}
_BEFORE_ANSWER: Final = [CallStatus.QUEUED.value, CallStatus.RINGING.value]
#: Longer than any signature is taken, clocks that differ included.
NONCE_LIFETIME: Final = timedelta(minutes=10)
FINAL_STATUSES: Final = [status.value for status in CallStatus if status.is_final]
_FINAL_RANK: Final = 3


def bot_for(provider: str, number: str) -> str:
    """The bot that answers this number of ours; empty if the settings have none at all."""
    if number:
        row = (
            PhoneNumber.objects.filter(
                Q(provider=provider) | Q(provider=""),
                number__in={number, bare_number(number), f"+{bare_number(number)}"},
            )
            .order_by("-provider")
            .first()
        )
        if row is not None and row.bot in settings.BOTS:
            return str(row.bot)
    default = settings.bot()
    return default.name if default is not None else ""


def own_number(provider: str) -> PhoneNumber | None:
    """The number to call from, where there is just one."""
    rows = list(PhoneNumber.objects.filter(provider__in=[provider, ""])[:2])
    return rows[0] if len(rows) == 1 else None


def call_session(event: CallEvent, bot: str, address: str | None) -> tuple[VoiceSession, bool]:
    """The session of an incoming call, and whether it is new: a webhook may come twice.

    Raises `NotAllowed` if the call is over.
    """
    rows = VoiceSession.objects.using(database())
    known = _newest(event.provider, event.call_id)
    if known is not None and event.event_id:
        # A webhook may be repeated; the event is then reported again but is not new.
        return known, False
    if known is not None and known.call_status in FINAL_STATUSES:
        raise NotAllowed("the call is over")
    if known is not None and known.state != State.ENDED:
        return known, False
    try:
        with atomic():
            session = rows.create(
                bot=bot,
                kind=VoiceSession.Kind.PHONE,
                provider=event.provider,
                call_id=event.call_id[:256],
                direction=event.direction,
                from_number=event.from_number[:64],
                to_number=event.to_number[:64],
                call_status=(event.status or CallStatus.RINGING).value,
                client_address=address,
            )
    except IntegrityError:
        # The same webhook, a moment earlier.
        return rows.exclude(state=State.ENDED).get(
            provider=event.provider, call_id=event.call_id
        ), False
    return session, True


def placed_session(session_id: UUID, provider: str, call_id: str) -> VoiceSession:
    """The session of a call that we placed, whose id is known from now on at the latest.

    Raises `NotAllowed` if it is over, or another call's.
    """
    with atomic():
        rows = VoiceSession.objects.using(database()).filter(pk=session_id, provider=provider)
        rows.exclude(state=State.ENDED).filter(call_id="").update(call_id=call_id[:256])
        session = rows.first()
    if session is None or session.state == State.ENDED:
        raise NotAllowed("the call is over")
    if session.call_id != call_id:
        raise NotAllowed("the token is another call's")
    return session


def bind_call(session_id: UUID, call_id: str, from_number: str, to_number: str) -> bool:
    """Whether the stream's call is the session's; it becomes so if that is not known yet."""
    rows = VoiceSession.objects.using(database()).filter(pk=session_id)
    with atomic():
        rows.filter(call_id="").update(call_id=call_id)
        rows.filter(from_number="").update(from_number=from_number[:64])
        rows.filter(to_number="").update(to_number=to_number[:64])
        return rows.filter(call_id=call_id).exists()


def stream_began(session_id: UUID, call_id: str, from_number: str, to_number: str) -> bool:
    """As `bind_call`, for a stream: there is one once the call was answered."""
    with atomic():
        is_ours = bind_call(session_id, call_id, from_number, to_number)
        if is_ours:
            VoiceSession.objects.using(database()).filter(
                pk=session_id, call_status__in=["", *_BEFORE_ANSWER]
            ).update(call_status=CallStatus.IN_PROGRESS.value)
        return is_ours


def call_ended(session_id: UUID) -> None:
    """Note that an answered call is over, unless it was transferred; a webhook may say so too."""
    rows = VoiceSession.objects.using(database()).filter(pk=session_id)
    rows.filter(call_status=CallStatus.IN_PROGRESS.value).exclude(hang_up=TRANSFERRED).update(
        call_status=CallStatus.COMPLETED.value
    )


def _newest(provider: str, call_id: str) -> VoiceSession | None:
    return (
        VoiceSession.objects.using(database())
        .filter(provider=provider, call_id=call_id)
        .order_by("-created_at")
        .first()
    )


def record_status(event: CallEvent, session_id: UUID | None) -> VoiceSession | None:
    """Note what a webhook says about a call; its session, if that is to be ended.

    It is if the call is over, or if its stream has failed before it began. The same said twice is
    noted once, and nothing said late takes back what followed it.
    """
    rows = VoiceSession.objects.using(database())
    if session_id is not None:
        rows.filter(pk=session_id, provider=event.provider, call_id="").exclude(
            state=State.ENDED
        ).update(call_id=event.call_id[:256])
    session = _newest(event.provider, event.call_id)
    if session is None:
        return None
    with atomic():
        locked = rows.filter(pk=session.pk)
        # A write first: it locks the row on every database, SQLite too.
        locked.update(provider=event.provider)
        session = locked.get()
        _add_event(session, event)
        status = event.status
        if session.state == State.CREATED and _stream_failed(event):
            return session
        if status is None or _rank(status.value) <= _rank(session.call_status):
            return None
        session.call_status = status.value
        locked.update(call_status=status.value)
    return session if status.is_final and session.state != State.ENDED else None


def _add_event(session: VoiceSession, event: CallEvent) -> None:
    said = event.status.value if event.status is not None else _stream_event(event)
    detail = ": ".join(part for part in (said, event.error) if part)[:500]
    events = SessionEvent.objects.using(database())
    if said and not events.filter(session=session, kind=Kind.CALL, detail=detail).exists():
        events.create(
            session=session,
            kind=Kind.CALL,
            actor=Actor.PROVIDER,
            detail=detail,
            at=timezone.now(),
        )


def _stream_failed(event: CallEvent) -> bool:
    # Not Twilio's "stream-error", which may be a warning.
    return event.kind is EventKind.STREAM and _stream_event(event).endswith("failed")


def _stream_event(event: CallEvent) -> str:
    """A provider's own word for what happened to the stream."""
    names = ("StreamEvent", "event_type", "Event", "status")
    return next((event.fields[name] for name in names if event.fields.get(name)), "")


def _rank(status: str) -> int:
    try:
        return _RANKS.get(CallStatus(status), _FINAL_RANK)
    except ValueError:  # none yet
        return -1


def use_nonce(provider: str, nonce: str) -> None:
    """Note that a signed request has come; raises `NotAllowed` if it has before, to any process."""
    rows = UsedNonce.objects.using(database())
    now = timezone.now()
    digest = hashlib.sha256(f"{provider}:{nonce}".encode("utf-8", "surrogatepass")).hexdigest()
    rows.filter(expires_at__lt=now).delete()
    try:
        with atomic():
            rows.create(digest=digest, expires_at=now + NONCE_LIFETIME)
    except IntegrityError:
        raise NotAllowed("replayed: the nonce was used before") from None


# --- hanging up -----------------------------------------------------------------------------------


def claim_hang_up(session_id: UUID) -> VoiceSession | None:
    """The session, if this caller is the one to hang up, and the call has not ended."""
    rows = VoiceSession.objects.using(database()).filter(pk=session_id)
    claimed = (
        rows.filter(kind=VoiceSession.Kind.PHONE, hang_up="")
        .exclude(call_id="")
        .exclude(call_status__in=FINAL_STATUSES)
        .update(hang_up=REQUESTED)
    )
    return rows.first() if claimed else None


def store_hang_up(session_id: UUID, result: str) -> None:
    """What came of it."""
    with atomic():
        VoiceSession.objects.using(database()).filter(pk=session_id).update(hang_up=result[:100])
        SessionEvent.objects.using(database()).create(
            session_id=session_id, kind=Kind.HANG_UP, actor=Actor.SERVER, detail=result[:500]
        )


def set_hang_up(session_id: UUID, expected: str, value: str) -> bool:
    """Change what is said of the hang-up, if it is as expected."""
    rows = VoiceSession.objects.using(database()).filter(pk=session_id, hang_up=expected)
    return bool(rows.update(hang_up=value))
