"""The sockets behind the admin's pages: what moves on them, and the sound of a call. Staff only.

A user is known by the admin's session cookie, which a browser sends along for pages of every site:
so the page must be this site's, by the rule that Django's protection against forged requests has.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from channels.auth import AuthMiddlewareStack, get_user
from django.conf import settings as django_settings
from django.db.models import Max
from django.utils import timezone
from django.utils.http import is_same_domain

from voicews import signals
from voicews.close_codes import CloseCode
from voicews.consumers.base import SocketConsumer
from voicews.exceptions import Busy, NotAllowed
from voicews.models import SessionEvent, VoiceSession
from voicews.security.origins import handshake_host, host_allowed
from voicews.sessions import operators, store
from voicews.sessions.db_threads import polling_database
from voicews.sessions.event_log import record_event, send_signal
from voicews.sessions.listen_in import listen
from voicews.sessions.process import this_process

logger = logging.getLogger(__name__)

PREFIX = "ws/voicews-admin/"
#: How often what a page shows is looked at (seconds).
POLL_SECS = 1.0
#: How often a socket's user and permissions are checked again.
RECHECK_SECS = 5.0
#: So long after the end of a session the last of what happened in it is written down.
SETTLE_SECS = 30.0
#: How long a listener waits for a call that is changing hands.
MOVE_TIMEOUT_SECS = 10.0
MOVE_POLL_SECS = 0.5

Kind, Actor = SessionEvent.Kind, SessionEvent.Actor


def list_socket_path() -> str:
    """The path of the socket that reports changes of the session list."""
    return f"/{PREFIX}sessions/"


def session_socket_path(session_id: UUID) -> str:
    """The path of the socket with a session's live figures."""
    return f"/{PREFIX}sessions/{session_id}/"


def listen_socket_path(session_id: UUID) -> str:
    """The path of the socket with a session's sound."""
    return f"/{PREFIX}sessions/{session_id}/listen/"


# --- what a page looks at -------------------------------------------------------------------------


def list_version() -> str:
    """Another text whenever a call has begun or ended. Three look-ups in indexes."""
    sessions = VoiceSession.objects.using(store.database())
    live = sessions.filter(state=VoiceSession.State.ACTIVE).count()
    created = sessions.order_by("-created_at").values_list("created_at", flat=True).first()
    ended = (
        sessions.filter(ended_at__isnull=False)
        .order_by("-ended_at")
        .values_list("ended_at", flat=True)
        .first()
    )
    return f"{live} {created} {ended}"


@dataclass(frozen=True, slots=True)
class PageVersion:
    """Another text whenever a session's page would show something else."""

    text: str
    is_settled: bool


def session_version(session_id: UUID) -> PageVersion | None:
    """What there is to see of a session; None if it is gone."""
    sessions = VoiceSession.objects.using(store.database()).filter(pk=session_id)
    row = sessions.values_list("state", "epoch", "process", "ended_at").first()
    if row is None:
        return None
    newest = [
        sessions.aggregate(newest=Max(name))["newest"]
        for name in ("events__id", "transcript__id", "connections__until")
    ]
    return PageVersion(" ".join(map(str, (*row, *newest))), is_settled(row[-1]))


def is_settled(ended_at: datetime | None) -> bool:
    """Whether nothing more will happen in a session that ended then (None: it hasn't)."""
    return ended_at is not None and timezone.now() - ended_at > timedelta(seconds=SETTLE_SECS)


# --- who may look ---------------------------------------------------------------------------------


def may_use_admin(user: Any, *permissions: str) -> bool:
    """Whether a user is staff, may see sessions, and has these permissions of theirs."""
    return bool(
        user.is_active
        and user.is_staff
        and (user.has_perm("voicews.view_voicesession") or _may_change(user))
        and user.has_perms([f"voicews.{one}_voicesession" for one in permissions])
    )


def _may_change(user: Any) -> bool:
    # Who may change a model's rows may see them: that is Django's rule.
    return bool(user.has_perm("voicews.change_voicesession"))


def from_this_site(scope: Any) -> bool:
    """Whether a page of this site opens the socket, or no page at all."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is None:
        return True
    host = handshake_host(scope)
    try:
        page = urlsplit(origin.decode("latin-1"))
        if page.netloc and page.netloc.lower() == host.lower() and host_allowed(host):
            return True
        return any(
            page.scheme == trusted.scheme
            and is_same_domain(page.netloc.lower(), trusted.netloc.removeprefix("*").lower())
            for trusted in map(urlsplit, django_settings.CSRF_TRUSTED_ORIGINS)
        )
    except ValueError:
        return False


# --- the sockets ----------------------------------------------------------------------------------


class StaffSocket(SocketConsumer):
    """One socket of one operator, open until it is closed, or the operator may no longer look."""

    #: What else than seeing sessions it takes.
    permissions: ClassVar[tuple[str, ...]] = ()

    user: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs: list[asyncio.Task[None]] = []

    async def show(self) -> None:
        """Send what the socket is for; it is closed when this returns."""
        raise NotImplementedError

    async def send_json(self, data: dict[str, Any]) -> None:
        """Send one message as text."""
        await self.send(json.dumps(data))

    async def connect(self) -> None:
        self.user = self.scope.get("user")
        if not from_this_site(self.scope) or not await self._may_look(self.user):
            raise NotAllowed("expected a page of the admin, and a user who may see sessions")
        await self.accept()
        self._jobs = [asyncio.create_task(job) for job in (self._recheck(), self._show())]

    async def disconnect(self, code: int) -> None:
        self._stop()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def drop(self, code: int, reason: str) -> None:
        self._stop()
        super().drop(code, reason)

    def _stop(self) -> None:
        for job in self._jobs:
            job.cancel()

    async def _show(self) -> None:
        code: int = CloseCode.NORMAL
        reason = ""
        try:
            await this_process().started()
            await self.show()
        except (NotAllowed, Busy) as error:
            code, reason = getattr(error, "close_code", CloseCode.NORMAL), str(error)
        except OSError:  # the peer is gone
            self.abort()
            return
        except Exception:
            logger.exception("a socket of the admin failed")
            code, reason = CloseCode.SERVER_ERROR, "server error"
        self.drop(code, reason)

    async def _recheck(self) -> None:
        engine: Any = import_module(django_settings.SESSION_ENGINE)
        while True:
            await asyncio.sleep(RECHECK_SECS)
            scope: Any = {"session": engine.SessionStore(self.scope["session"].session_key)}
            user = await get_user(scope)
            if not await self._may_look(user):
                self.drop(CloseCode.NOT_ALLOWED, "not allowed any more")
                return

    async def _may_look(self, user: Any) -> bool:
        if user is None or not user.is_authenticated:
            return False
        return await polling_database.run(partial(may_use_admin, user, *self.permissions))


class ListSocket(StaffSocket):
    """Tells when the list of sessions has changed."""

    async def show(self) -> None:
        version = None
        while True:
            newest = await polling_database.run(list_version)
            if newest != version:
                version = newest
                await self.send_json({"type": "version", "version": version})
            await asyncio.sleep(POLL_SECS)


class SessionSocket(StaffSocket):
    """A session's live figures, and when there is more to see on its page."""

    async def show(self) -> None:
        session_id = self.scope["url_route"]["kwargs"]["session"]
        while True:
            version = await polling_database.run(partial(session_version, session_id))
            if version is None or version.is_settled:
                return
            figures = await operators.figures(session_id)
            await self.send_json(
                {
                    "type": "figures",
                    "version": version.text,
                    "figures": None if figures is None else asdict(figures),
                }
            )
            await asyncio.sleep(POLL_SECS)


class ListenSocket(StaffSocket):
    """The sound of a call, in packets; listening in is recorded in the session."""

    permissions = ("listen",)

    async def show(self) -> None:
        session_id = self.scope["url_route"]["kwargs"]["session"]
        heard_until = monotonic()
        began_at = None
        try:
            while True:
                try:
                    async with listen(session_id) as packets:
                        if began_at is None:
                            began_at = monotonic()
                            await self._note_begin(session_id)
                        await self.send_json({"type": "listening"})
                        while (packet := await packets.get()) is not None:
                            await self.send(bytes_data=packet)
                        heard_until = monotonic()
                except NotAllowed:
                    if began_at is None or monotonic() - heard_until > MOVE_TIMEOUT_SECS:
                        raise
                # It is over, or another process is about to have it.
                if await self._has_ended(session_id):
                    raise NotAllowed("the call has ended")
                await self.send_json({"type": "waiting"})
                await asyncio.sleep(MOVE_POLL_SECS)
        finally:
            if began_at is not None:
                self._note(session_id, f"for {monotonic() - began_at:.0f} s")

    async def _note_begin(self, session_id: UUID) -> None:
        self._note(session_id, "begins")
        send_signal(
            signals.session_listened,
            VoiceSession,
            session=await polling_database.run(partial(store.load_session, session_id)),
            operator_id=str(self.user.pk),
        )

    def _note(self, session_id: UUID, detail: str) -> None:
        record_event(
            VoiceSession(pk=session_id),
            Kind.LISTENED,
            Actor.OPERATOR,
            detail=detail,
            operator_id=self.user.pk,
        )

    async def _has_ended(self, session_id: UUID) -> bool:
        where = await polling_database.run(partial(store.whereabouts, session_id))
        return where is None or where.state == VoiceSession.State.ENDED


def application(socket: type[StaffSocket]) -> Any:
    """The ASGI application of a socket: what finds its user is around it, and nothing else."""
    return AuthMiddlewareStack(socket.as_asgi())
