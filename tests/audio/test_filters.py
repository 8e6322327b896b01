from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tests.audio.signals import (
    at_level,
    chunks,
    fan_noise,
    hum,
    pcm,
    samples,
    speech,
    tone,
    white_noise,
)
from voicews.audio.filters import NoiseFilter
from voicews.audio.pcm import rms_dbfs
from voicews.exceptions import ConfigurationError
from voicews.frames import FilterEnableFrame, FilterUpdateSettingsFrame


def run(filter_: NoiseFilter, audio: bytes, sizes: list[int], channels: int = 1) -> bytes:
    return b"".join(map(filter_.filter, chunks(audio, sizes, 2 * channels)))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
@pytest.mark.parametrize("noise", [white_noise, fan_noise, hum])
def test_noise_becomes_quieter_and_speech_does_not(rate: int, noise: Any) -> None:
    # The noise alone for two seconds, then two words a second in it.
    room = noise(6, rate, -40.0)
    words = at_level(speech(4, rate, -20.0), -20.0)
    words *= (np.arange(len(words)) % rate) < rate // 2
    heard = room.copy()
    heard[2 * rate : 2 * rate + len(words)] += words
    filter_ = NoiseFilter()
    filter_.start(rate)
    out = run(filter_, pcm(heard), [rate // 50])
    assert len(out) == len(pcm(heard))
    # Above 8 kHz it takes no more than 6 dB.
    assert rms_dbfs(out[rate * 3 : rate * 4]) < (-48 if rate <= 16000 else -45)
    said = out[rate * 8 : rate * 9]
    assert rms_dbfs(said) > rms_dbfs(pcm(heard)[rate * 8 : rate * 9]) - 3


def test_the_levels_differ() -> None:
    levels = []
    for level in range(4):
        filter_ = NoiseFilter(level=level)
        filter_.start(16000)
        levels.append(rms_dbfs(run(filter_, pcm(white_noise(3, 16000, -35)), [320])[64000:]))
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[3] > 8


@pytest.mark.parametrize("sizes", [[160], [320], [7, 401, 1], [33]])
def test_does_not_depend_on_how_the_stream_is_cut(sizes: list[int]) -> None:
    audio = pcm(speech(1, 16000) + white_noise(1, 16000, -40))
    whole, cut = NoiseFilter(), NoiseFilter()
    whole.start(16000)
    cut.start(16000)
    expected = whole.filter(audio)
    assert run(cut, audio, sizes) == expected[: len(expected)]


def test_stereo() -> None:
    left, right = white_noise(3, 16000, -35), tone(440, 3, 16000, 0.3)
    both = np.stack([left, right], axis=1)
    filter_ = NoiseFilter(level=2)
    filter_.start(16000, 2)
    out = samples(run(filter_, pcm(both.ravel()), [320], 2), 2)
    assert out.shape == both.shape
    assert np.sqrt(np.mean(out[32000:, 0] ** 2)) < np.sqrt(np.mean(left**2)) / 3


def test_off_it_changes_nothing_and_switching_makes_no_click() -> None:
    audio = pcm(tone(300, 3, 16000, 0.3))
    filter_ = NoiseFilter(enabled=False)
    filter_.start(16000)
    assert run(filter_, audio, [320]) == audio
    filter_.process_frame(FilterEnableFrame(enable=True))
    on = run(filter_, audio, [320])
    assert on != audio
    filter_.process_frame(FilterEnableFrame(enable=False))
    off = run(filter_, audio, [320])
    assert off[640:] == audio[640:]
    for part in (on[:6400], off[:6400]):
        step = np.abs(np.diff(samples(part))).max()
        assert step < 1.5 * 0.3 * 2 * np.pi * 300 / 16000


def test_level_at_run_time() -> None:
    filter_ = NoiseFilter(level=0)
    filter_.start(16000)
    noise = pcm(white_noise(3, 16000, -35))
    before = rms_dbfs(run(filter_, noise, [320])[64000:])
    filter_.process_frame(FilterUpdateSettingsFrame({"level": 3}))
    assert rms_dbfs(run(filter_, noise, [320])[64000:]) < before - 5


@pytest.mark.parametrize("settings", [{"level": 4}, {"level": "1"}, {"gain": 1}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="level"):
        NoiseFilter().process_frame(FilterUpdateSettingsFrame(settings))


def test_a_level_that_makes_no_sense() -> None:
    with pytest.raises(ConfigurationError, match="level: expected 0 to 3, found 7"):
        NoiseFilter(level=7)


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'voicews\[noise\]'"):
        NoiseFilter()
