"""Synthetic sounds with known properties. Float arrays of full scale 1.0, made 16-bit by `pcm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)


def pcm(*parts: NDArray[np.float64]) -> bytes:
    """The parts one after the other, as PCM16LE."""
    whole = np.concatenate(parts) * 32768.0
    return np.rint(whole).clip(-32768, 32767).astype("<i2").tobytes()


def samples(audio: bytes, num_channels: int = 1) -> NDArray[np.float64]:
    """PCM16LE as floats: [samples], or [samples, channels]."""
    values = np.frombuffer(audio, "<i2").astype(np.float64) / 32768.0
    return values if num_channels == 1 else values.reshape(-1, num_channels)


def times(secs: float, rate: int) -> NDArray[np.float64]:
    return np.arange(round(secs * rate)) / rate


def tone(
    hz: float, secs: float, rate: int, amplitude: float = 0.5, phase: float = 0.3
) -> NDArray[np.float64]:
    wave: NDArray[np.float64] = amplitude * np.sin(2 * np.pi * hz * times(secs, rate) + phase)
    return wave


def at_level(signal: NDArray[np.float64], dbfs: float) -> NDArray[np.float64]:
    """Scaled to that root mean square level."""
    scaled: NDArray[np.float64] = signal * (10 ** (dbfs / 20) / np.sqrt(np.mean(signal**2)))
    return scaled


def white_noise(secs: float, rate: int, dbfs: float, seed: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return at_level(rng.standard_normal(round(secs * rate)), dbfs)


def fan_noise(secs: float, rate: int, dbfs: float, seed: int = 2) -> NDArray[np.float64]:
    """Noise that falls by 10 dB per decade, above 20 Hz."""
    rng = np.random.default_rng(seed)
    count = round(secs * rate)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / rate)
    spectrum /= np.sqrt(np.maximum(hz, 20.0))
    spectrum[hz < 20.0] = 0.0
    return at_level(np.fft.irfft(spectrum, count), dbfs)


def hum(secs: float, rate: int, dbfs: float, mains_hz: float = 50.0) -> NDArray[np.float64]:
    """Mains hum with its harmonics."""
    partials = [tone(mains_hz * n, secs, rate, 1.0 / n, phase=n) for n in (1, 2, 3, 5)]
    return at_level(np.sum(partials, axis=0), dbfs)


def speech(
    secs: float, rate: int, dbfs: float = -20.0, pitch_hz: float = 130.0
) -> NDArray[np.float64]:
    """Four syllables a second of a gliding harmonic tone with three formants."""
    t = times(secs, rate)
    pitch = pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    angle = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(t)
    for n in range(1, int(3400 / (pitch_hz * 1.1)) + 1):
        hz = n * pitch_hz
        gain = sum(g / (1 + ((hz - f) / w) ** 2) for f, w, g in _FORMANTS)
        voice += gain * np.sin(n * angle + n)
    # Louder and softer syllables; at the beginning of each second one starts at once.
    envelope = np.sin(np.pi * ((t * 4) % 1.0)) ** 0.7 * (0.7 + 0.3 * np.cos(2 * np.pi * 0.9 * t))
    return at_level(voice * envelope, dbfs)


_VOWELS = ((700, 1200, 2500), (300, 2300, 3000), (300, 870, 2250), (500, 1900, 2500))

#: How the pitch of the last 0.4 s of `talk` moves, in semitones from its middle.
ENDINGS = {"falls": (0.0, -6.0), "rises": (0.0, 9.0), "stays": (2.0, 2.0), "is held": (1.0, 1.0)}


def talk(
    secs: float, rate: int, dbfs: float = -20.0, ending: str = "falls", seed: int = 1
) -> NDArray[np.float64]:
    """Vowels and hisses that a model takes for speech; the pitch declines, and has an ending."""
    rng = np.random.default_rng(seed)
    count = round(secs * rate)
    t = np.arange(count) / rate
    semitones = 2.0 * np.sin(2 * np.pi * 0.9 * t + seed) - 2.0 * t / secs
    start, end = ENDINGS[ending]
    last = t > secs - 0.4
    semitones[last] = start + (end - start) * (t[last] - (secs - 0.4)) / 0.4
    angle = 2 * np.pi * np.cumsum(120.0 * 2.0 ** (semitones / 12)) / rate
    sound, envelope = np.zeros(count), np.zeros(count)
    at = 0
    while at < count:
        size = round(rng.uniform(0.12, 0.25) * rate)
        if ending == "is held" and at + size >= count - 0.5 * rate:
            size = count - at
        part = slice(at, min(count, at + size))
        formants = _VOWELS[rng.integers(len(_VOWELS))]
        for n in range(1, 30):
            bands = zip(formants, (80, 100, 150), (1.0, 0.5, 0.25), strict=True)
            gain = sum(g / (1 + ((n * 120 - f) / w) ** 2) for f, w, g in bands)
            sound[part] += gain * np.sin(n * angle[part]) * (n * 120 < 0.45 * rate)
        length = part.stop - part.start
        envelope[part] = np.sin(np.pi * np.linspace(0, 1, length)) ** 0.4
        at += size
        if rng.random() < 0.5 and at + size < count - 0.5 * rate:
            hiss = np.diff(rng.standard_normal(round(0.06 * rate)), prepend=0.0)
            envelope[at : at + len(hiss)] = 1.0
            sound[at : at + len(hiss)] = 0.3 * hiss * np.hanning(len(hiss))
            at += len(hiss)
    return at_level(sound * envelope, dbfs)


_FORMANTS = ((550.0, 120.0, 1.0), (1500.0, 150.0, 0.5), (2500.0, 200.0, 0.25))


def signal_to_noise(
    signal: NDArray[np.float64], hz: float, rate: int
) -> tuple[float, NDArray[np.float64]]:
    """How far (dB) all else is below the tone of `hz`, and the tone's amplitude and phase."""
    t = np.arange(len(signal)) / rate
    basis = np.stack([np.sin(2 * np.pi * hz * t), np.cos(2 * np.pi * hz * t)], axis=1)
    weights = np.linalg.lstsq(basis, signal, rcond=None)[0]
    fitted = basis @ weights
    noise = np.mean((signal - fitted) ** 2)
    ratio = 10 * np.log10(np.mean(fitted**2) / max(noise, 1e-20))
    return float(ratio), np.array([np.hypot(*weights), np.arctan2(weights[1], weights[0])])


def chunks(data: bytes, sizes: list[int], frame_bytes: int = 2) -> list[bytes]:
    """`data` cut into chunks of so many frames, the sizes used in turn."""
    cut: list[bytes] = []
    position = turn = 0
    while position < len(data):
        size = max(1, sizes[turn % len(sizes)]) * frame_bytes
        cut.append(data[position : position + size])
        position += size
        turn += 1
    return cut
