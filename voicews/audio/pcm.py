"""Raw PCM: its shape checked, its channels mixed, its level measured, silence made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voicews.exceptions import AudioFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_SAMPLE_RATE",
    "MIN_SAMPLE_RATE",
    "Pcm",
    "level_dbfs",
    "mix_channels",
    "rms_dbfs",
    "silence",
]

BYTES_PER_SAMPLE: Final = 2
MIN_SAMPLE_RATE: Final = 4_000
MAX_SAMPLE_RATE: Final = 192_000
SILENCE_DBFS: Final = -120.0
"""What `rms_dbfs` answers for digital silence, and its lowest answer."""

INT16: Final[np.dtype[np.int16]] = np.dtype("<i2")
_MAX_DOT_SAMPLES: Final = 8192
_FULL_SCALE_POWER: Final = 32768.0**2
_LOWEST_POWER: Final = _FULL_SCALE_POWER * 10.0 ** (SILENCE_DBFS / 10.0)


class Pcm(NamedTuple):
    """Audio with what is needed to play it.

    `audio` is PCM16LE, interleaved; `sample_rate` is in Hz.
    """

    audio: bytes
    sample_rate: int
    num_channels: int = 1

    @property
    def num_frames(self) -> int:
        """Samples per channel."""
        return len(self.audio) // (BYTES_PER_SAMPLE * self.num_channels)

    @property
    def duration_secs(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


def check_sample_rate(sample_rate: int) -> None:
    """Raise `AudioFormatError` unless `sample_rate` (Hz) is one that live audio can have."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioFormatError(
            f"sample rate: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, found {sample_rate}"
        )


def check_whole_frames(pcm: bytes, num_channels: int = 1) -> None:
    """Raise `AudioFormatError` unless `pcm` holds whole samples of all `num_channels` channels."""
    if num_channels < 1:
        raise AudioFormatError(f"num_channels: expected 1 or more, found {num_channels}")
    frame_bytes = BYTES_PER_SAMPLE * num_channels
    if len(pcm) % frame_bytes:
        raise AudioFormatError(
            f"16-bit PCM with {num_channels} channel(s): expected a multiple of {frame_bytes} "
            f"bytes, found {len(pcm)}"
        )


def mix_channels(pcm: bytes, from_channels: int, to_channels: int) -> bytes:
    """Change the number of channels: many to one by their mean, one to many by copies.

    The same number gives `pcm` itself back. The mean can't clip. Raises `AudioFormatError` for a
    split sample and for any other pair, such as 2 to 4, which has no one right answer.
    """
    check_whole_frames(pcm, from_channels)
    if from_channels == to_channels:
        return pcm
    samples = np.frombuffer(pcm, INT16)
    if from_channels == 1 and to_channels > 1:
        return samples.repeat(to_channels).tobytes()
    if to_channels == 1:
        if from_channels == 2:
            # The usual case: a 32-bit sum and a shift, a third of the time of mean().
            return ((samples[0::2].astype(np.int32) + samples[1::2]) >> 1).astype(INT16).tobytes()
        means: NDArray[np.float64] = samples.reshape(-1, from_channels).mean(axis=1)
        return np.rint(means).astype(INT16).tobytes()
    raise AudioFormatError(
        f"channels: expected a mix to or from 1 channel, found {from_channels} to {to_channels}"
    )


def rms_dbfs(pcm: bytes) -> float:
    """Root mean square level in dB relative to full scale.

    A full-scale square wave is 0.0, a full-scale sine -3.0, digital silence and no audio at all
    `SILENCE_DBFS`. All channels count together. Raises `AudioFormatError` for a split sample.
    """
    check_whole_frames(pcm)
    return level_dbfs(np.frombuffer(pcm, INT16).astype(np.float32))


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """The same of samples from -32768 to 32767 that are floats already."""
    size = samples.size
    # A longer dot product wakes the threads of OpenBLAS, which then spin for tens of
    # milliseconds and take a core from the calls.
    power = float(samples.dot(samples) if size <= _MAX_DOT_SAMPLES else np.square(samples).sum())
    if power <= _LOWEST_POWER * size:
        return SILENCE_DBFS
    return 10.0 * math.log10(power / (size * _FULL_SCALE_POWER))


def silence(duration_secs: float, sample_rate: int, num_channels: int = 1) -> bytes:
    """Digital silence of `duration_secs`, rounded to the nearest sample."""
    if duration_secs < 0 or sample_rate <= 0 or num_channels < 1:
        raise AudioFormatError(
            "silence: expected a duration of 0 or more, a rate above 0 Hz and 1 or more channels, "
            f"found {duration_secs} s, {sample_rate} Hz, {num_channels} channel(s)"
        )
    return bytes(round(duration_secs * sample_rate) * BYTES_PER_SAMPLE * num_channels)


def scale(pcm: bytes, gain: float) -> bytes:
    """Change the level: 1.0 leaves it alone, 0.5 is 6 dB less. Clips, doesn't wrap."""
    check_whole_frames(pcm)
    samples = np.frombuffer(pcm, INT16) * np.float32(gain)
    np.rint(samples, out=samples)
    np.minimum(samples, 32767.0, out=samples)
    np.maximum(samples, -32768.0, out=samples)
    return samples.astype(INT16).tobytes()


def fade(pcm: bytes, from_gain: float, to_gain: float, num_channels: int = 1) -> bytes:
    """Change the level from one to the other, evenly over the whole of it. Clips."""
    check_whole_frames(pcm, num_channels)
    samples = np.frombuffer(pcm, INT16)
    gains = np.linspace(from_gain, to_gain, len(samples) // num_channels + 1, dtype=np.float32)
    faded: NDArray[np.float32] = samples * gains[1:].repeat(num_channels)
    np.rint(faded, out=faded)
    return faded.clip(-32768.0, 32767.0).astype(INT16).tobytes()
