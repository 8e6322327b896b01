from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import chunks
from voicews.audio.utterance import UtteranceBuffer
from voicews.exceptions import AudioFormatError, ConfigurationError, InvalidState

RATE = 8000


def counter(secs: float, first: int = 0) -> bytes:
    """Audio in which every sample tells its place."""
    return (np.arange(round(secs * RATE)) + first).astype("<i2").tobytes()


def cut(stream: bytes, start_secs: float, end_secs: float) -> bytes:
    return stream[round(start_secs * RATE) * 2 : round(end_secs * RATE) * 2]


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 1600), min_size=1, max_size=6))
def test_an_utterance_has_its_pre_roll_whatever_the_chunks(sizes: list[int]) -> None:
    stream = counter(3.0)
    buffer = UtteranceBuffer(RATE, pre_roll_secs=0.3)
    for chunk in chunks(cut(stream, 0, 1.0), sizes):
        buffer.append(chunk)
        assert buffer.duration_secs <= 0.3
    buffer.start()
    for chunk in chunks(cut(stream, 1.0, 2.0), sizes):
        buffer.append(chunk)
    assert buffer.stop() == cut(stream, 0.7, 2.0)


def test_a_short_stream_has_a_short_pre_roll() -> None:
    buffer = UtteranceBuffer(RATE)
    buffer.append(counter(0.1))
    buffer.start()
    assert buffer.stop() == counter(0.1)


def test_without_a_pre_roll() -> None:
    buffer = UtteranceBuffer(RATE, pre_roll_secs=0.0)
    buffer.append(counter(0.1))
    assert buffer.duration_secs == 0.0
    buffer.start()
    buffer.append(counter(0.1, first=7))
    assert buffer.stop() == counter(0.1, first=7)


def test_trailing_silence_is_cut_to_a_fifth_of_a_second() -> None:
    stream = counter(2.0)
    buffer = UtteranceBuffer(RATE)
    buffer.start()
    buffer.append(stream)
    assert buffer.stop(silence_secs=0.6) == cut(stream, 0, 1.6)


def test_short_trailing_silence_stays() -> None:
    stream = counter(1.0)
    buffer = UtteranceBuffer(RATE)
    buffer.start()
    buffer.append(stream)
    assert buffer.stop(silence_secs=0.15) == stream


def test_what_is_cut_off_is_the_next_pre_roll_and_nothing_is_told_twice() -> None:
    stream = counter(3.0)
    buffer = UtteranceBuffer(RATE, pre_roll_secs=0.3)
    buffer.start()
    buffer.append(cut(stream, 0, 2.0))
    first = buffer.stop(silence_secs=0.4)
    buffer.append(cut(stream, 2.0, 2.05))
    buffer.start()
    buffer.append(cut(stream, 2.05, 3.0))
    assert first + buffer.stop() == stream


def test_a_full_utterance_keeps_its_beginning() -> None:
    stream = counter(4.0)
    buffer = UtteranceBuffer(RATE, pre_roll_secs=0.3, max_secs=1.0)
    buffer.append(cut(stream, 0, 0.5))
    buffer.start()
    for start, end in itertools.pairwise([0.5, 0.9, 1.3, 1.7, 3.0]):
        buffer.append(cut(stream, start, end))
        assert buffer.duration_secs <= 1.0
        assert buffer.is_full == (end > 1.0)
    assert buffer.is_active
    # Of 0.6 s of silence none is in what was kept.
    assert buffer.stop(silence_secs=0.6) == cut(stream, 0.2, 1.2)
    assert buffer.duration_secs == 0.0
    assert not buffer.is_full


def test_a_full_buffer_can_be_emptied_while_speech_goes_on() -> None:
    stream = counter(2.5)
    buffer = UtteranceBuffer(RATE, pre_roll_secs=0.0, max_secs=1.0)
    buffer.start()
    parts = []
    for chunk in chunks(stream, [RATE // 50]):
        if buffer.is_full:
            parts.append(buffer.stop())
            buffer.start()
        buffer.append(chunk)
    parts.append(buffer.stop())
    assert [len(part) // 2 for part in parts] == [RATE, RATE, RATE // 2]
    assert b"".join(parts) == stream


def test_silence_longer_than_the_utterance_leaves_nothing() -> None:
    buffer = UtteranceBuffer(RATE)
    buffer.start()
    buffer.append(counter(0.1))
    assert buffer.stop(silence_secs=5.0) == b""


def test_reset_forgets() -> None:
    buffer = UtteranceBuffer(RATE)
    buffer.append(counter(0.1))
    buffer.start()
    buffer.reset()
    assert not buffer.is_active
    assert buffer.duration_secs == 0.0


def test_steps_out_of_turn_are_refused() -> None:
    buffer = UtteranceBuffer(RATE)
    with pytest.raises(InvalidState, match="expected start"):
        buffer.stop()
    buffer.start()
    with pytest.raises(InvalidState, match="found it twice"):
        buffer.start()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(AudioFormatError, match="sample rate"):
        UtteranceBuffer(0)
    with pytest.raises(ConfigurationError, match=r"max_secs 0\.3"):
        UtteranceBuffer(RATE, pre_roll_secs=0.3, max_secs=0.3)
    with pytest.raises(ConfigurationError, match="pre_roll_secs -1"):
        UtteranceBuffer(RATE, pre_roll_secs=-1)
    with pytest.raises(AudioFormatError, match="found 3"):
        UtteranceBuffer(RATE).append(bytes(3))


def test_a_start_that_is_noticed_late() -> None:
    buffer = UtteranceBuffer(8000, pre_roll_secs=0.3)
    buffer.lookback_secs = 0.6
    audio = bytes(range(256)) * 100
    buffer.append(audio)
    # 0.2 s before the voice, which began 0.7 s ago.
    buffer.start(0.7)
    assert buffer.stop() == audio[-round(0.9 * 8000) * 2 :]
    buffer.append(audio)
    # One that is noticed at once begins with the pre-roll.
    buffer.start(0.1)
    assert buffer.stop() == audio[-round(0.3 * 8000) * 2 :]
