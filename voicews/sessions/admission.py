"""Which session a token opens, and what its client needs to come back to it."""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from voicews.conf import settings
from voicews.models import VoiceSession
from voicews.security.tokens import check_token, issue_resume_token
from voicews.sessions import store
from voicews.sessions.db_threads import records_database, session_database

logger = logging.getLogger(__name__)


async def admit(session_id: UUID, token: str | None) -> VoiceSession:
    """The row of the session that the token opens. Raises `NotAllowed` with the reason if none."""
    check_token(token, session_id)
    return await session_database.run(partial(store.find_session, session_id))


_swept_at = float("-inf")


async def delete_unjoined_sessions() -> None:
    """Delete sessions without a client whose token has expired, at most once in a token's lifetime.

    Code that creates sessions calls this: a process without calls sweeps nothing.
    """
    global _swept_at  # noqa: PLW0603 - one clock for the whole process
    now = monotonic()
    if now - _swept_at < settings.TOKEN_MAX_AGE_SECS:
        return
    _swept_at = now
    try:
        await records_database.run(
            partial(store.delete_unjoined, settings.TOKEN_MAX_AGE_SECS + settings.LEASE_SECS)
        )
    except DatabaseError as error:
        logger.warning("could not delete sessions that no client joined: %s", error)


def bot_ready_extras(session_id: UUID) -> dict[str, Any]:
    """What `bot-ready` contains about the session: how, and how long, a client can resume it."""
    return {
        "voicews": {
            "session": str(session_id),
            "resume_token": issue_resume_token(session_id),
            "reconnect_grace_secs": settings.RECONNECT_GRACE_SECS,
        }
    }
