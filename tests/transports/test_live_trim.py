from __future__ import annotations

import numpy as np
import pytest

from tests.audio.signals import fan_noise, pcm, samples, tone, white_noise
from voicews.frames import OutputAudioRawFrame
from voicews.transports.live_trim import LIVE_DELAY_SECS, MAX_LIVE_DELAY_SECS, QUIET_PEAK, LiveTrim

RATE = 16000


def piece(peak: int, secs: float = 0.02) -> OutputAudioRawFrame:
    loudest = peak.to_bytes(2, "little", signed=True)
    return OutputAudioRawFrame(bytes(round(secs * 8000) * 2 - 2) + loudest, 8000)


def kept(trim: LiveTrim, frames: list[OutputAudioRawFrame], late_secs: float) -> list[bool]:
    """Of which pieces anything is left."""
    return [bool(trim.shorten(frame, late_secs)) for frame in frames]


def shortened(audio: bytes, late_secs: float, *, ms: int = 20, channels: int = 1) -> bytes:
    trim = LiveTrim()
    size = RATE * ms // 1000 * 2 * channels
    return b"".join(
        trim.shorten(OutputAudioRawFrame(audio[at : at + size], RATE, channels), late_secs)
        for at in range(0, len(audio), size)
    )


@pytest.mark.parametrize("peak", [QUIET_PEAK, -QUIET_PEAK, 0])
def test_pauses_but_for_their_first_moment(peak: int) -> None:
    trim = LiveTrim()
    assert kept(trim, [piece(peak)] * 6, 0.15) == [True] * 3 + [False] * 3
    # A word, and another pause.
    assert kept(trim, [piece(20000)], 0.15) == [True]
    assert kept(trim, [piece(peak)] * 4, 0.15) == [True] * 3 + [False]


def test_a_little_late_words_are_whole() -> None:
    trim = LiveTrim()
    for peak in (QUIET_PEAK + 1, -QUIET_PEAK - 1, 32767, -32768):
        assert trim.shorten(piece(peak), 0.2) == piece(peak).audio


def test_in_time_pauses_are_whole() -> None:
    assert all(kept(LiveTrim(), [piece(0)] * 50, LIVE_DELAY_SECS))


def test_what_is_far_too_late() -> None:
    assert LiveTrim().shorten(piece(32767), MAX_LIVE_DELAY_SECS + 0.01) == b""


@pytest.mark.parametrize("ms", [10, 20, 40, 60, 500])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_no_pause_gets_a_fifth_shorter(ms: int, channels: int) -> None:
    for signal in (tone(95, 4, RATE), tone(400, 4, RATE), white_noise(4, RATE, -20)):
        audio = pcm(signal.repeat(channels))
        left = shortened(audio, 0.9, ms=ms, channels=channels)
        assert len(left) / len(audio) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("hz", [95, 220, 397])
def test_a_shorter_tone_is_the_same_tone_without_a_click(hz: int) -> None:
    before, after = tone(hz, 3, RATE), shortened(pcm(tone(hz, 3, RATE)), 0.9)
    steepest = np.abs(np.diff(before)).max()
    left = samples(after)
    assert np.abs(np.diff(left)).max() < 1.1 * steepest
    spectrum = np.abs(np.fft.rfft(left * np.hanning(len(left))))
    assert np.argmax(spectrum) * RATE / len(left) == pytest.approx(hz, rel=0.02)


def test_no_click_where_a_pause_was_left_out() -> None:
    # A pause with a hum in it: joined anywhere, it would jump.
    whole = tone(50, 4, RATE, 0.015)
    whole[round(2.013 * RATE) :] *= np.linspace(1, 5, len(whole) - round(2.013 * RATE))
    left = samples(shortened(pcm(whole), 0.15))
    assert len(left) < 0.6 * len(whole)
    assert np.abs(np.diff(left)).max() < 1.1 * np.abs(np.diff(whole)).max()


def test_nothing_of_a_word_is_lost_after_a_pause() -> None:
    word, noise = tone(300, 0.4, RATE), fan_noise(0.6, RATE, -60)
    left = samples(shortened(pcm(np.concatenate([word, noise, word])), 0.15))
    loud = np.abs(left) > np.abs(noise).max() * 2
    expected = np.abs(word) > np.abs(noise).max() * 2
    # But for the first moment, which is blended with the pause.
    assert loud.sum() >= 2 * expected.sum() - RATE * 0.005
