from __future__ import annotations

import pytest

from tests.fakes import ramp
from voicews.frames import EndFrame, MarkFrame, OutputAudioRawFrame, TextFrame, VolumeFrame
from voicews.transports import play_queue
from voicews.transports.play_queue import PlayQueue

RATE = 8000


def audio(num_samples: int, start: int = 0) -> OutputAudioRawFrame:
    return OutputAudioRawFrame(ramp(num_samples, start), RATE)


def test_audio_is_taken_in_chunks_and_nothing_is_lost() -> None:
    queue = PlayQueue()
    frame = audio(500)
    assert queue.put_audio(frame)
    queue.put(TextFrame("a"))
    taken = []
    while queue.head is frame:
        taken.append(queue.take_chunk(frame, 320))
        left_bytes = 1000 - sum(map(len, taken))
        assert queue.waiting_secs == pytest.approx(left_bytes / 2 / RATE)
    assert [len(chunk) for chunk in taken] == [320, 320, 320, 40]
    assert b"".join(taken) == frame.audio
    assert queue.take() == TextFrame("a")
    assert not queue
    assert queue.audio_bytes == 0


def test_how_much_of_each_utterance_is_not_sent() -> None:
    queue = PlayQueue()
    first = audio(800)
    queue.put_audio(first)
    queue.put(MarkFrame("a", 150))
    queue.put_audio(audio(400))
    queue.put(MarkFrame("b", 50))
    queue.take_chunk(first, 480)
    unsent = [(name, length_ms, round(ms, 6)) for name, length_ms, ms in queue.unsent()]
    assert unsent == [("a", 150, 70.0), ("b", 50, 120.0)]


def test_what_an_interruption_leaves() -> None:
    queue = PlayQueue()
    first = audio(800)
    queue.put_audio(first)
    queue.put(VolumeFrame(0.5))
    queue.put(MarkFrame("a", 100))
    queue.put(EndFrame())
    queue.take_chunk(first, 480)
    queue.drop_data()
    assert (queue.audio_bytes, queue.waiting_secs) == (0, 0)
    assert queue.take() == VolumeFrame(0.5)
    assert queue.take() == EndFrame()
    assert queue.unsent() == []


def test_what_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_queue, "MAX_QUEUED_BYTES", 2000)
    queue = PlayQueue()
    assert queue.put_audio(audio(1000))
    assert not queue.put_audio(audio(1))
    tone = audio(10)
    queue.put_audio_first(tone)
    assert queue.head is tone
    queue.clear()
    assert not queue
    assert queue.audio_bytes == 0
