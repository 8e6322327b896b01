"""Make and measure test tones with the standard library only: 16-bit little-endian mono PCM."""

import cmath
import math
import struct
import wave
from pathlib import Path

FFT_SIZE = 8192


def tone(frequency: float, seconds: float, sample_rate: int, amplitude: float = 0.3) -> bytes:
    """A sine of ``frequency`` Hz, ``amplitude`` being a fraction of full scale."""
    step = 2 * math.pi * frequency / sample_rate
    peak = amplitude * 32767
    samples = (round(peak * math.sin(step * n)) for n in range(round(seconds * sample_rate)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


def write_wav(path: Path, pcm: bytes, sample_rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)


def samples_of(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm[: len(pcm) // 2 * 2])


def _fft(values: list[complex]) -> list[complex]:
    if len(values) == 1:
        return values
    even, odd = _fft(values[::2]), _fft(values[1::2])
    half = len(even)
    turns = [cmath.exp(-1j * math.pi * k / half) * odd[k] for k in range(half)]
    return [even[k] + turns[k] for k in range(half)] + [even[k] - turns[k] for k in range(half)]


def dominant_frequency(pcm: bytes, sample_rate: int) -> float:
    """The strongest frequency in Hz of the loudest stretch of ``pcm``, to about 1 Hz.

    Returns 0.0 for silence and for less than ``FFT_SIZE`` samples.
    """
    samples = samples_of(pcm)
    starts = range(0, len(samples) - FFT_SIZE + 1, FFT_SIZE // 4)
    if not starts:
        return 0.0
    start = max(starts, key=lambda at: sum(abs(s) for s in samples[at : at + FFT_SIZE : 8]))
    window = samples[start : start + FFT_SIZE]
    if max(map(abs, window)) < 100:
        return 0.0
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / FFT_SIZE) for n in range(FFT_SIZE)]
    spectrum = _fft([complex(s * w) for s, w in zip(window, hann, strict=True)])
    power = [abs(value) for value in spectrum[: FFT_SIZE // 2]]
    peak = max(range(1, FFT_SIZE // 2 - 1), key=power.__getitem__)
    left, middle, right = power[peak - 1], power[peak], power[peak + 1]
    offset = (right - left) / (2 * (2 * middle - left - right))
    return (peak + offset) * sample_rate / FFT_SIZE
