"""G.711, the companded audio of the telephone network: mu-law and A-law by table.

Source: ITU-T G.711, with the rounding of the reference implementation that the network and
Python's former `audioop` share. PCM is 16-bit little-endian; a code is one byte a sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from voicews.audio.pcm import INT16
from voicews.exceptions import AudioFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "decode_alaw",
    "decode_ulaw",
    "encode_alaw",
    "encode_ulaw",
]

# Zero bytes are the loudest sample of mu-law and nearly that of A-law.
ULAW_SILENCE: Final = b"\xff"
"""The mu-law code of a sample that is 0."""
ALAW_SILENCE: Final = b"\xd5"
"""The A-law code of a sample that is 0."""

_ULAW_BIAS: Final = 33
_ULAW_CLIP: Final = 8159

_UINT8: Final[np.dtype[np.uint8]] = np.dtype(np.uint8)
_UINT16: Final[np.dtype[np.uint16]] = np.dtype("<u2")


def _ulaw_codes() -> NDArray[np.uint8]:
    """The code of each 16-bit pattern."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 2
    magnitude = np.minimum(np.abs(samples), _ULAW_CLIP) + _ULAW_BIAS
    segment = np.frexp(magnitude)[1] - 6
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    code[segment > 7] = 0x7F
    codes: NDArray[np.uint8] = (code ^ np.where(samples < 0, 0x7F, 0xFF)).astype(np.uint8)
    return codes


def _alaw_codes() -> NDArray[np.uint8]:
    """The code of each 16-bit pattern."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32) >> 3
    magnitude = np.where(samples < 0, -samples - 1, samples)
    segment = np.maximum(np.frexp(magnitude)[1] - 5, 0)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    codes: NDArray[np.uint8] = (code ^ np.where(samples < 0, 0x55, 0xD5)).astype(np.uint8)
    return codes


def _ulaw_samples() -> NDArray[np.int16]:
    """The sample of each code."""
    codes = ~np.arange(256) & 0xFF
    magnitude = (((codes & 0x0F) << 3) + 0x84) << ((codes & 0x70) >> 4)
    return np.where(codes & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(INT16)


def _alaw_samples() -> NDArray[np.int16]:
    """The sample of each code."""
    codes = np.arange(256) ^ 0x55
    segment = (codes & 0x70) >> 4
    step = (codes & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(INT16)


# Bound once, and told not to check indices that can't be out of range: half of the time of
# `table[indices]`.
_take_ulaw_code = _ulaw_codes().take
_take_alaw_code = _alaw_codes().take
_take_ulaw_sample = _ulaw_samples().take
_take_alaw_sample = _alaw_samples().take
_from_buffer = np.frombuffer


def encode_ulaw(pcm: bytes) -> bytes:
    """PCM to mu-law, half the size. Raises `AudioFormatError` for a split sample."""
    return _take_ulaw_code(_patterns(pcm), None, None, "clip").tobytes()


def encode_alaw(pcm: bytes) -> bytes:
    """PCM to A-law, half the size. Raises `AudioFormatError` for a split sample."""
    return _take_alaw_code(_patterns(pcm), None, None, "clip").tobytes()


def decode_ulaw(codes: bytes) -> bytes:
    """Mu-law to PCM, twice the size; every byte is a valid code."""
    return _take_ulaw_sample(_from_buffer(codes, _UINT8), None, None, "clip").tobytes()


def decode_alaw(codes: bytes) -> bytes:
    """A-law to PCM, twice the size; every byte is a valid code."""
    return _take_alaw_sample(_from_buffer(codes, _UINT8), None, None, "clip").tobytes()


def _patterns(pcm: bytes) -> NDArray[np.uint16]:
    try:
        return _from_buffer(pcm, _UINT16)
    except ValueError:
        raise AudioFormatError(
            f"16-bit PCM: expected a multiple of 2 bytes, found {len(pcm)}"
        ) from None
