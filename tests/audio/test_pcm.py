from __future__ import annotations

import numpy as np
import pytest

from tests.audio.signals import pcm, samples, tone
from voicews.audio.pcm import SILENCE_DBFS, Pcm, mix_channels, rms_dbfs, scale, silence
from voicews.exceptions import AudioFormatError


def int16(*values: int) -> bytes:
    return np.array(values, "<i2").tobytes()


def test_one_to_many_is_copies() -> None:
    assert mix_channels(int16(1, -2), 1, 2) == int16(1, 1, -2, -2)
    assert mix_channels(int16(1, -2), 1, 3) == int16(1, 1, 1, -2, -2, -2)


def test_many_to_one_is_the_mean() -> None:
    assert mix_channels(int16(10, 20, -10, -20), 2, 1) == int16(15, -15)
    assert mix_channels(int16(3, 6, 9, -3, -6, -9), 3, 1) == int16(6, -6)


def test_the_mean_does_not_wrap_at_full_scale() -> None:
    loudest = int16(32767, 32767, -32768, -32768)
    assert mix_channels(loudest, 2, 1) == int16(32767, -32768)
    assert mix_channels(loudest, 4, 1) in (int16(0), int16(-1))


def test_there_and_back_changes_nothing() -> None:
    audio = pcm(tone(440, 0.02, 16000))
    assert mix_channels(mix_channels(audio, 1, 2), 2, 1) == audio


def test_the_same_number_is_the_same_object() -> None:
    audio = int16(1, 2)
    assert mix_channels(audio, 2, 2) is audio


def test_no_audio_is_no_audio() -> None:
    assert mix_channels(b"", 1, 2) == b""
    assert mix_channels(b"", 2, 1) == b""


@pytest.mark.parametrize(
    ("size", "from_channels", "to_channels", "message"),
    [
        (3, 1, 2, "multiple of 2 bytes, found 3"),
        (6, 2, 1, "multiple of 4 bytes, found 6"),
        (8, 2, 4, "found 2 to 4"),
        (8, 0, 1, "num_channels: expected 1 or more, found 0"),
        (8, 1, 0, "found 1 to 0"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    size: int, from_channels: int, to_channels: int, message: str
) -> None:
    with pytest.raises(AudioFormatError, match=message):
        mix_channels(bytes(size), from_channels, to_channels)


def test_levels() -> None:
    assert rms_dbfs(int16(-32768, -32768)) == pytest.approx(0.0)
    assert rms_dbfs(pcm(tone(1000, 0.1, 8000, 1.0))) == pytest.approx(-3.01, abs=0.01)
    assert rms_dbfs(pcm(tone(1000, 0.1, 8000, 0.1))) == pytest.approx(-23.01, abs=0.01)
    assert rms_dbfs(pcm(tone(1000, 5.0, 48000, 0.1))) == pytest.approx(-23.01, abs=0.01)
    # One step of 16 bits is the quietest there is.
    assert rms_dbfs(int16(1, -1)) == pytest.approx(-90.3, abs=0.01)


def test_silence_has_a_finite_level() -> None:
    assert rms_dbfs(bytes(320)) == SILENCE_DBFS
    assert rms_dbfs(b"") == SILENCE_DBFS


def test_level_of_a_split_sample_is_refused() -> None:
    with pytest.raises(AudioFormatError, match="found 3"):
        rms_dbfs(bytes(3))


def test_scale_changes_the_level_and_clips() -> None:
    audio = pcm(tone(440, 0.02, 16000))
    assert scale(audio, 1.0) == audio
    assert scale(audio, 0.0) == bytes(len(audio))
    assert rms_dbfs(scale(audio, 0.5)) == pytest.approx(rms_dbfs(audio) - 6.02, abs=0.01)
    assert scale(int16(20000, -20000, 3), 2.0) == int16(32767, -32768, 6)
    assert scale(b"", 2.0) == b""
    with pytest.raises(AudioFormatError, match="found 3"):
        scale(bytes(3), 0.5)


@pytest.mark.parametrize(
    ("secs", "rate", "num_channels", "size"),
    [(0.02, 8000, 1, 320), (0.02, 11025, 1, 440), (1.0, 16000, 2, 64000), (0.0, 8000, 1, 0)],
)
def test_silence(secs: float, rate: int, num_channels: int, size: int) -> None:
    assert silence(secs, rate, num_channels) == bytes(size)


@pytest.mark.parametrize("args", [(-0.1, 8000, 1), (0.1, 0, 1), (0.1, 8000, 0)])
def test_impossible_silence_is_refused(args: tuple[float, int, int]) -> None:
    with pytest.raises(AudioFormatError, match="found"):
        silence(*args)


def test_pcm_knows_its_length() -> None:
    audio = Pcm(bytes(6400), 16000, 2)
    assert audio.num_frames == 1600
    assert audio.duration_secs == 0.1
    assert len(samples(audio.audio, 2)) == 1600
