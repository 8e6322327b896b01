"""PCM that comes in pieces which end in the middle of a sample."""

from __future__ import annotations

from typing import Final

import numpy as np

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16

#: Bytes of two neighbouring pieces that tell whether they are cut in the middle of a sample.
_COMPARED_BYTES: Final = 2000
_MIN_COMPARED_BYTES: Final = 100


class SampleJoiner:
    """Gives the whole samples of pieces of PCM16LE; what is left of one begins the next."""

    __slots__ = ("_format", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._format = (0, 0)

    def __bool__(self) -> bool:
        return bool(self._rest)

    def continues(self, piece: bytes, sample_rate: int, num_channels: int) -> bool:
        """Whether `piece` begins in the middle of a sample, by its format and its sound."""
        return (
            bool(self._rest)
            and self._format == (sample_rate, num_channels)
            and _fits(self._rest, piece)
        )

    def join(self, piece: bytes, sample_rate: int, num_channels: int) -> bytes:
        """The whole samples that are there with this piece."""
        if self._rest and self.continues(piece, sample_rate, num_channels):
            piece = self._rest + piece
        whole = len(piece) - len(piece) % (BYTES_PER_SAMPLE * num_channels)
        self._rest = piece[whole:]
        self._format = (sample_rate, num_channels)
        return piece[:whole]

    def clear(self) -> None:
        """What comes next begins with a whole sample."""
        self._rest = b""


def _fits(rest: bytes, piece: bytes) -> bool:
    """Whether `piece` begins in the middle of the sample that `rest` begins.

    It may also be the beginning of something else, after something whose end was cut off. PCM
    that is read a byte beside itself is as rough as noise.
    """
    if len(rest) % BYTES_PER_SAMPLE == 0 or len(piece) < _MIN_COMPARED_BYTES:
        return True
    joined = (rest + piece)[len(rest) // 2 * 2 :][:_COMPARED_BYTES]
    return _roughness(joined) <= 2 * _roughness(piece[:_COMPARED_BYTES])


def _roughness(pcm: bytes) -> float:
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], INT16).astype(np.float64)
    return float(np.abs(np.diff(samples)).mean()) if len(samples) > 1 else 0.0
