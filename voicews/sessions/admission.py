"""Which session a token opens, and what its client needs to come back to it."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from voicews.conf import settings
from voicews.models import VoiceSession
from voicews.security.tokens import check_token, issue_resume_token
from voicews.sessions import store
from voicews.sessions.db_threads import session_database


async def admit(session_id: UUID, token: str | None) -> VoiceSession:
    """The row of the session that the token opens. Raises `NotAllowed` with the reason if none."""
    check_token(token, session_id)
    return await session_database.run(partial(store.find_session, session_id))


def bot_ready_extras(session_id: UUID) -> dict[str, Any]:
    """What `bot-ready` tells a client about its session: how, and for how long, to come back."""
    return {
        "voicews": {
            "session": str(session_id),
            "resume_token": issue_resume_token(session_id),
            "reconnect_grace_secs": settings.RECONNECT_GRACE_SECS,
        }
    }
