"""Tells everybody what happened in a session: the timeline and the signals' receivers."""

from __future__ import annotations

import asyncio
from typing import Any

from django.dispatch import Signal

from voicews.models import SessionEvent, VoiceSession
from voicews.sessions.timeline import timeline

_telling: set[asyncio.Future[Any]] = set()


def record_event(
    session: VoiceSession,
    kind: SessionEvent.Kind,
    actor: SessionEvent.Actor = SessionEvent.Actor.SERVER,
    *,
    close_code: int | None = None,
    detail: str = "",
    operator_id: Any = None,
) -> None:
    """Add an event to a session's timeline. Does not wait."""
    timeline.add(
        SessionEvent(
            session_id=session.pk,
            kind=kind,
            actor=actor,
            close_code=close_code,
            detail=detail,
            operator_id=operator_id,
        )
    )


def send_signal(signal: Signal, sender: object, **arguments: Any) -> None:
    """Send a signal. Does not wait; Django logs a receiver that fails."""
    if not signal.has_listeners(sender):
        return
    task = asyncio.ensure_future(signal.asend_robust(sender=sender, **arguments))
    _telling.add(task)
    task.add_done_callback(_telling.discard)
