"""What is said is written down, with what of it was heard."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import FakeSocket, Tap, settle, virtual_time
from tests.test_bots import Call
from voicews.bots import Bot
from voicews.frames import (
    BotOutputFrame,
    Direction,
    Frame,
    InputTextFrame,
    PlayedFrame,
    TranscriptionFrame,
)
from voicews.models import TranscriptEntry, VoiceSession
from voicews.pipeline import Pipeline, PipelineTask
from voicews.pipeline.processor import FrameProcessor
from voicews.sessions.timeline import timeline
from voicews.sessions.transcript import TranscriptRecorder
from voicews.signals import session_transcribed


class Talker(Bot):
    """Says what it is told."""

    def on_text(self, text: str) -> None:
        self.play(bytes(4800), text=f"you said {text}")


class Player(FrameProcessor):
    """Has everything heard for 70 ms, and then interrupted."""

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if type(frame).__name__ == "MarkFrame":
            name: Any = frame
            self.push_frame(PlayedFrame(name.name, 70.4, interrupted=True), Direction.UPSTREAM)
        self.push_frame(frame, direction)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[TranscriptEntry]:
    written: list[TranscriptEntry] = []
    monkeypatch.setattr(timeline, "add", written.append)
    return written


async def test_a_transcript(entries: list[TranscriptEntry]) -> None:
    session = VoiceSession(bot="talker")
    bot = Talker()
    task = PipelineTask(Pipeline([FrameProcessor(), bot, Player()]))
    TranscriptRecorder(session).attach(bot)
    task.start()
    task.queue_frame(TranscriptionFrame("not yet", final=False))
    task.queue_frame(TranscriptionFrame("good morning"))
    task.queue_frame(InputTextFrame("hello"))
    bot.say_text("by the way", spoken=False)
    bot.broadcast_frame(BotOutputFrame("never heard", playback="other"))
    task.cancel("over")
    await task.wait()
    said = [(one.role, one.text, one.heard_ms, one.interrupted) for one in entries]
    assert said == [
        ("user", "good morning", None, False),
        ("user", "hello", None, False),
        ("bot", "you said hello", 70, True),
        ("bot", "by the way", None, False),
        ("bot", "never heard", None, True),
    ]
    assert {one.session_id for one in entries} == {session.pk}


async def test_what_the_bot_says_that_the_user_said(entries: list[TranscriptEntry]) -> None:
    session = VoiceSession(bot="talker")
    bot = Bot()
    source = Tap()
    task = PipelineTask(Pipeline([source, bot, FrameProcessor()]))
    TranscriptRecorder(session).attach(bot)
    heard: list[Any] = []

    async def receiver(**kwargs: Any) -> None:
        heard.append((kwargs["session"], kwargs["role"], kwargs["text"], kwargs["heard_ms"]))

    session_transcribed.connect(receiver)
    try:
        task.start()
        bot.user_said("good mor", final=False)
        bot.user_said("good morning", user_id="u1")
        bot.user_said("half \ud83d and \0")
        await settle()
    finally:
        session_transcribed.disconnect(receiver)
    # Receivers get what can be stored, too.
    said = ["good morning", "half \ufffd and \ufffd"]
    assert [(one.role, one.text) for one in entries] == [("user", text) for text in said]
    assert heard == [(session, "user", text, None) for text in said]
    sent = source.up(TranscriptionFrame)
    assert [(one.text, one.user_id, one.final) for one in sent] == [
        ("good mor", "", False),
        ("good morning", "u1", True),
        ("half \ud83d and \0", "", True),
    ]
    assert sent[1].timestamp.endswith("+00:00")
    task.cancel("over")
    await task.wait()


async def test_sentences_of_one_speech_are_one_line(entries: list[TranscriptEntry]) -> None:
    bot = Bot()
    task = PipelineTask(Pipeline([FrameProcessor(), bot, Player()]))
    TranscriptRecorder(VoiceSession(bot="talker")).attach(bot)
    task.start()
    bot.play(bytes(4800), text="Good morning. What can I do for you?")
    task.cancel("over")
    await task.wait()
    [entry] = entries
    assert (entry.text, entry.heard_ms) == ("Good morning. What can I do for you?", 70)


@virtual_time
async def test_what_was_heard_of_what_a_lost_client_and_the_end_cut_off() -> None:
    written: list[TranscriptEntry] = []
    bot = Bot()
    call = Call(bot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "add", written.append)
        TranscriptRecorder(VoiceSession(bot="talker")).attach(bot)
        await call.hello()
        for text in ("heard", "lost on its way. Then", "begun", "never"):
            bot.play(bytes(48000 // 2), text=text)
        await asyncio.sleep(0.9)
        call.connection.disconnect(1006)
        call.socket = FakeSocket()
        call.connection = call.transport.connect(call.socket)
        await asyncio.sleep(0.2)
        call.task.cancel("over")
    await call.finish()
    said = [(one.text, one.heard_ms, one.interrupted, one.heard_text) for one in written]
    assert said == [
        ("heard", 500, False, None),
        ("lost on its way. Then", 400, True, "lost on its way."),
        # 80 ms of it had been sent when the client was lost.
        ("begun", 200, True, ""),
        ("never", 0, True, ""),
    ]
    assert [one.unheard_text for one in written] == ["", "Then", "begun", "never"]


def test_words_that_were_not_heard_whatever_is_between_them() -> None:
    entry = TranscriptEntry(text="One. Two three.", heard_text="One.\n\nTwo")
    assert entry.unheard_text == "three."
