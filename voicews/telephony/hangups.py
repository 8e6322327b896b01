"""When the session of a phone call ends from our side, its provider is asked to hang up: once.

Bound to the end of sessions, wherever it is noticed: in the process that ran the call, in the
admin, or in the process that found the one that ran the call to be lost.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from uuid import UUID

from voicews.close_codes import CloseCode
from voicews.exceptions import VoicewsError
from voicews.models import VoiceSession
from voicews.sessions.db_threads import retry_until_stored, session_database
from voicews.signals import session_ended
from voicews.telephony import NotSupported, store
from voicews.telephony.api import describe, send
from voicews.telephony.registry import get_provider

logger = logging.getLogger(__name__)

ENDS_WITH_STREAM = "ended with its stream"


def connect() -> None:
    """Begin to listen to the ends of sessions; called when the app is ready."""
    session_ended.connect(
        _session_ended, sender=VoiceSession, dispatch_uid="voicews.telephony.hangups"
    )


async def _session_ended(
    session: VoiceSession, close_code: int | None = None, **kwargs: Any
) -> None:
    if session.kind != VoiceSession.Kind.PHONE:
        return
    # Where the provider has ended the call, there is nothing to hang up.
    if close_code == CloseCode.GOING_AWAY or await hang_up(session.pk):
        await retry_until_stored(partial(store.call_ended, session.pk))


async def hang_up(session_id: UUID) -> bool:
    """Ask the provider to end a session's call, unless that was requested, or it has ended.

    Says whether the call is over by that. What came of it is in `VoiceSession.hang_up`.
    """
    session = await session_database.run(partial(store.claim_hang_up, session_id))
    if session is None:
        return False
    is_over = False
    try:
        request = get_provider(session.provider).hang_up(session.call_id)
        answer = await send(request)
        is_over, result = answer.ok, describe(answer)
    except NotSupported:
        is_over, result = True, ENDS_WITH_STREAM
    except (VoicewsError, ValueError) as error:
        logger.warning("call %s: could not hang up: %s", session_id, error)
        result = "could not be asked"
    await retry_until_stored(partial(store.store_hang_up, session_id, result))
    return is_over
