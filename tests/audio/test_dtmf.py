from __future__ import annotations

import numpy as np
import pytest

from tests.audio.signals import samples
from voicews.audio.dtmf import DTMF_FREQUENCIES, dtmf_tone
from voicews.exceptions import AudioFormatError


def test_there_are_sixteen_buttons() -> None:
    assert set(DTMF_FREQUENCIES) == set("0123456789*#ABCD")
    assert DTMF_FREQUENCIES["1"] == (697, 1209)
    assert DTMF_FREQUENCIES["5"] == (770, 1336)
    assert DTMF_FREQUENCIES["#"] == (941, 1477)
    assert DTMF_FREQUENCIES["D"] == (941, 1633)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("button", sorted(DTMF_FREQUENCIES))
def test_the_two_frequencies_and_no_other(button: str, rate: int) -> None:
    tone = samples(dtmf_tone(button, 200, rate))
    power = np.abs(np.fft.rfft(tone * np.hanning(len(tone)))) ** 2
    hz = np.fft.rfftfreq(len(tone), 1 / rate)
    near = np.zeros(len(hz), bool)
    for expected in DTMF_FREQUENCIES[button]:
        around = np.abs(hz - expected) < 25
        near |= around
        assert abs(hz[np.argmax(np.where(around, power, 0))] - expected) <= 5
        assert power[around].sum() > 0.3 * power.sum()
    assert power[~near].sum() < 0.002 * power.sum()


def test_length_level_and_soft_ends() -> None:
    tone = samples(dtmf_tone("5", 120, 8000))
    assert len(tone) == 960
    assert 0.4 < np.abs(tone).max() <= 0.5
    assert tone[0] == tone[-1] == 0.0
    assert dtmf_tone("5", 0) == b""


@pytest.mark.parametrize("button", ["", "12", "x", "a", "٣"])
def test_other_buttons_are_refused(button: str) -> None:
    with pytest.raises(ValueError, match="button: expected one of"):
        dtmf_tone(button)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="duration_ms"):
        dtmf_tone("1", -1)
    with pytest.raises(AudioFormatError, match="sample rate"):
        dtmf_tone("1", 100, 0)
