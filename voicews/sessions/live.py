"""The sessions that live in this process: who holds one, and what becomes of it."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.utils import timezone

from voicews.exceptions import NotAllowed
from voicews.models import VoiceSession
from voicews.tokens import check_token, issue_resume_token

if TYPE_CHECKING:
    from voicews.pipeline import PipelineTask
    from voicews.transports import WebsocketServerTransport

logger = logging.getLogger(__name__)

#: Pauses (seconds) before another try to store how a session went.
STORE_RETRIES_SECS = (0.5, 2.0, 8.0)


async def admit(session_id: UUID, token: str | None) -> VoiceSession:
    """The row of the session that the token opens. Raises `NotAllowed` with the reason if none."""
    check_token(token, session_id)
    rows = VoiceSession.objects.select_related("user").filter(pk=session_id)
    session = await rows.afirst()
    if session is None:
        raise NotAllowed("no such session")
    if session.state == VoiceSession.State.ENDED:
        raise NotAllowed("the session has ended")
    return session


def bot_ready_extras(session_id: UUID) -> dict[str, Any]:
    """What `bot-ready` tells a client about its session: how to come back to it."""
    return {
        "voicews": {
            "session": str(session_id),
            "resume_token": issue_resume_token(session_id),
        }
    }


class LiveState(enum.IntEnum):
    RUNNING = 0
    ENDED = 1


class LiveSession:
    """One session's pipeline in this process, from its first client to its end."""

    def __init__(
        self, row: VoiceSession, transport: WebsocketServerTransport, task: PipelineTask
    ) -> None:
        self.row = row
        self.transport = transport
        self.task = task
        self.state = LiveState.RUNNING


class LiveSessions:
    """All of them; touched on the event loop only, so that look-up and opening are one step."""

    def __init__(self) -> None:
        self._sessions: dict[UUID, LiveSession] = {}
        self._watchers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def join(
        self,
        row: VoiceSession,
        build: Callable[[], tuple[WebsocketServerTransport, PipelineTask]],
    ) -> LiveSession:
        """The live session of this row; built and started if there is none yet.

        Raises `NotAllowed` if it has just ended.
        """
        live = self._sessions.get(row.pk)
        if live is None:
            live = self._sessions[row.pk] = LiveSession(row, *build())
            watcher = asyncio.get_running_loop().create_task(self._watch(live))
            self._watchers.add(watcher)
            watcher.add_done_callback(self._watchers.discard)
            live.task.start()
        elif live.state is LiveState.ENDED:
            raise NotAllowed("the session has ended")
        return live

    async def _watch(self, live: LiveSession) -> None:
        row = live.row
        try:
            if row.state == VoiceSession.State.CREATED:
                row.state = VoiceSession.State.ACTIVE
                row.started_at = timezone.now()
                await _store(row, "state", "started_at")
            await live.task.wait()
            live.state = LiveState.ENDED
            await live.transport.wait_closed()
            row.state = VoiceSession.State.ENDED
            row.ended_at = timezone.now()
            row.close_code = live.task.close_code
            row.end_reason = live.task.reason[:200]
            await _store(row, "state", "ended_at", "close_code", "end_reason")
        finally:
            del self._sessions[row.pk]


live_sessions = LiveSessions()


async def _store(row: VoiceSession, *fields: str) -> None:
    """Write to the database, which may be away for a moment; a call never fails for that."""
    for pause_secs in (*STORE_RETRIES_SECS, None):
        try:
            await row.asave(update_fields=fields)
        except DatabaseError:
            if pause_secs is None:
                logger.exception("call %s: could not store %s", row.pk, ", ".join(fields))
                return
            await asyncio.sleep(pause_secs)
        else:
            return
