"""Writes down what is said and typed in a session, as it passes the bot, and what fails there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from voicews.fields import storable
from voicews.frames import (
    BotOutputFrame,
    CancelFrame,
    Direction,
    ErrorFrame,
    Frame,
    InputTextFrame,
    PlayedFrame,
    TranscriptionFrame,
)
from voicews.models import SessionEvent, TranscriptEntry, VoiceSession
from voicews.pipeline.processor import FrameProcessor
from voicews.sessions.event_log import record_event, send_signal
from voicews.sessions.timeline import timeline
from voicews.signals import session_transcribed

if TYPE_CHECKING:
    from voicews.bots import Bot

#: What is kept of one entry (characters).
MAX_TEXT_LENGTH = 20_000

Role = TranscriptEntry.Role


class TranscriptRecorder(FrameProcessor):
    """Stands right before the bot. What the bot speaks is written when it is known what of it was
    heard, as far as the bot says which words belong to which audio.
    """

    def __init__(self, session: VoiceSession) -> None:
        super().__init__(name="transcript")
        self._session = session
        self._spoken: dict[str, TranscriptEntry] = {}

    def attach(self, bot: Bot) -> None:
        """Step into the chain of a pipeline that has not started."""
        previous = bot._previous
        if previous is not None:
            previous.link(self)
            self.link(bot)

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if type(frame) is CancelFrame:
            # What was heard of everything comes up while this goes down.
            self.push_frame(frame, direction)
            self._cancelled()
            return
        handler = _HANDLERS.get(type(frame))
        if handler is not None:
            handler(self, frame)
        self.push_frame(frame, direction)

    def _add(self, role: TranscriptEntry.Role, text: str) -> None:
        self._write(self._entry(role, text))

    def _write(self, entry: TranscriptEntry) -> None:
        timeline.add(entry)
        send_signal(
            session_transcribed,
            VoiceSession,
            session=self._session,
            role=str(entry.role),
            text=entry.text,
            heard_ms=entry.heard_ms,
            heard_text=entry.heard_text,
            interrupted=entry.interrupted,
        )

    def _entry(self, role: TranscriptEntry.Role, text: str) -> TranscriptEntry:
        return TranscriptEntry(
            session_id=self._session.pk,
            at=timezone.now(),
            role=role,
            text=storable(text[:MAX_TEXT_LENGTH]),
        )

    def _transcribed(self, frame: TranscriptionFrame) -> None:
        if frame.final:
            self._add(Role.USER, frame.text)

    def _typed(self, frame: InputTextFrame) -> None:
        self._add(Role.USER, frame.text)

    def _bot_said(self, frame: BotOutputFrame) -> None:
        entry = self._spoken.get(frame.playback)
        if entry is not None:
            entry.text = storable(f"{entry.text} {frame.text}"[:MAX_TEXT_LENGTH])
        elif frame.playback:
            self._spoken[frame.playback] = self._entry(Role.BOT, frame.text)
        else:
            self._add(Role.BOT, frame.text)

    def _played(self, frame: PlayedFrame) -> None:
        entry = self._spoken.pop(frame.name, None)
        if entry is not None:
            entry.heard_ms = round(frame.heard_ms)
            entry.interrupted = frame.interrupted
            if frame.heard_text is not None:
                entry.heard_text = storable(frame.heard_text[:MAX_TEXT_LENGTH])
            self._write(entry)

    def _failed(self, frame: ErrorFrame) -> None:
        detail = f"{frame.processor}: {frame.error}" if frame.processor else frame.error
        record_event(self._session, SessionEvent.Kind.ERROR, SessionEvent.Actor.BOT, detail=detail)

    def _cancelled(self) -> None:
        for entry in self._spoken.values():
            entry.interrupted = True
            self._write(entry)
        self._spoken.clear()


_HANDLERS: dict[type[Frame], Callable[[TranscriptRecorder, Any], None]] = {
    TranscriptionFrame: TranscriptRecorder._transcribed,
    InputTextFrame: TranscriptRecorder._typed,
    BotOutputFrame: TranscriptRecorder._bot_said,
    PlayedFrame: TranscriptRecorder._played,
    ErrorFrame: TranscriptRecorder._failed,
}
