"""What microphones say in the browser tests, and how that is found again in a recording."""

from __future__ import annotations

import base64
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

MICROPHONE_RATE: Final = 48_000
#: Louder than this (of full scale, RMS) is sound, less is silence.
AUDIBLE: Final = 0.01
_WINDOW_SECS: Final = 0.005


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * MICROPHONE_RATE))


def tone(frequency: float, seconds: float, amplitude: float = 0.3) -> Samples:
    """A sine of ``frequency`` Hz that starts and ends softly."""
    times = np.arange(round(seconds * MICROPHONE_RATE)) / MICROPHONE_RATE
    edges = np.minimum(1.0, np.minimum(times, seconds - times) / 0.01)
    result: Samples = amplitude * edges * np.sin(2 * np.pi * frequency * times)
    return result


def sentence(seconds: float, frequency: float = 300.0) -> Samples:
    """Something like speech: syllables of changing pitch, with a dip after each one."""
    times = np.arange(round(seconds * MICROPHONE_RATE)) / MICROPHONE_RATE
    pitch = frequency * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * times))
    phase = 2 * np.pi * np.cumsum(pitch) / MICROPHONE_RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 6))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * times)
    result: Samples = 0.25 * syllables * voice
    return result


def write_microphone(path: Path, *parts: Samples) -> Path:
    """A WAV file for Chromium's fake microphone."""
    pcm = (32767 * np.clip(np.concatenate(parts), -1, 1)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_RATE)
        file.writeframes(pcm.tobytes())
    return path


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a recording, in seconds from its start."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Track:
    """One side of a recorded call."""

    def __init__(self, pcm: str, sample_rate: int) -> None:
        self.samples: Samples = np.frombuffer(base64.b64decode(pcm), "<i2") / 32767.0
        self.sample_rate = sample_rate

    def part(self, stretch: Stretch) -> Samples:
        rate = self.sample_rate
        return self.samples[round(stretch.start * rate) : round(stretch.end * rate)]

    def loudness(self, stretch: Stretch | None = None) -> float:
        """RMS, 1.0 being full scale."""
        samples = self.samples if stretch is None else self.part(stretch)
        return float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0

    def sounds(self, *, pause_secs: float = 0.0, within: Stretch | None = None) -> list[Stretch]:
        """Where there is sound; pauses shorter than ``pause_secs`` count as sound too."""
        size = round(_WINDOW_SECS * self.sample_rate)
        windows = self.samples[: self.samples.size // size * size].reshape(-1, size)
        loud = np.sqrt(np.mean(windows**2, axis=1)) > AUDIBLE
        if within is not None:
            loud[: round(within.start / _WINDOW_SECS)] = False
            loud[round(within.end / _WINDOW_SECS) :] = False
        found: list[Stretch] = []
        for start, end in _runs(loud):
            if found and (start * _WINDOW_SECS - found[-1].end) < pause_secs:
                found[-1] = Stretch(found[-1].start, end * _WINDOW_SECS)
            else:
                found.append(Stretch(start * _WINDOW_SECS, end * _WINDOW_SECS))
        return found

    def envelope(self, stretch: Stretch) -> Samples:
        """How loud it was, every 20 ms."""
        samples = self.part(stretch)
        size = self.sample_rate // 50
        windows = samples[: samples.size // size * size].reshape(-1, size)
        result: Samples = np.sqrt(np.mean(windows**2, axis=1))
        return result

    def dominant_frequency(self, stretch: Stretch) -> float:
        """Hz, to about 1 Hz."""
        samples = self.part(stretch)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 8 * samples.size))
        return float(np.argmax(spectrum)) * self.sample_rate / (8 * samples.size)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where the flags are set: pairs of first index and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


class Recording:
    """A call as tests/browser/static/voicews-tests/recorder.js has recorded it."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.sample_rate: int = round(data["sampleRate"])
        self.played = Track(data["played"], self.sample_rate)
        self.spoken = Track(data["spoken"], self.sample_rate)
        self._events = [
            (event["name"], (event["frame"] - data["startFrame"]) / self.sample_rate)
            for event in data["events"]
        ]

    @property
    def seconds(self) -> float:
        return self.played.samples.size / self.sample_rate

    def times(self, event: str) -> list[float]:
        """When the client's event happened, in seconds from the start of the recording."""
        return [seconds for name, seconds in self._events if name == event]
