"""WAV files and the WAV headers that some peers put before each chunk of PCM.

Reads what recorders, telephony providers and streaming TTS services write; writes plain 16-bit
PCM. Format: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), and
Multiple Channel Audio Data and WAVE Files for WAVE_FORMAT_EXTENSIBLE.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16, Pcm, check_whole_frames
from voicews.exceptions import AudioFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from numpy.typing import NDArray

WAV_HEADER_BYTES: Final = 44
"""Size of what `wav_header` returns."""

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_FORMAT_PCM: Final = 1
_FORMAT_FLOAT: Final = 3
_FORMAT_EXTENSIBLE: Final = 0xFFFE
_EXTENSIBLE_TAG_OFFSET: Final = 24
_EXTENSIBLE_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_MAX_AUDIO_BYTES: Final = _UNKNOWN_SIZE - WAV_HEADER_BYTES
_RIFF_HEADER_BYTES: Final = 12


class _Format(NamedTuple):
    tag: int
    num_channels: int
    sample_rate: int
    bits: int

    @property
    def frame_bytes(self) -> int:
        return self.num_channels * self.bits // 8


def wav_header(num_bytes: int, sample_rate: int, num_channels: int = 1) -> bytes:
    """Header (44 bytes) of a WAV file with `num_bytes` bytes of PCM16LE.

    Raises `AudioFormatError` for a size that a WAV file can't have, and for a rate (Hz) or a
    number of channels below 1.
    """
    if not 0 <= num_bytes <= _MAX_AUDIO_BYTES:
        raise AudioFormatError(f"WAV: expected 0 to {_MAX_AUDIO_BYTES} bytes, found {num_bytes}")
    frame_bytes = BYTES_PER_SAMPLE * num_channels
    if not (0 < num_channels <= 0xFFFF // BYTES_PER_SAMPLE and 0 < sample_rate <= 0xFFFFFFFF):
        raise AudioFormatError(
            "WAV: expected a rate above 0 Hz and 1 or more channels, "
            f"found {sample_rate} Hz, {num_channels} channel(s)"
        )
    return _HEADER.pack(
        b"RIFF",
        WAV_HEADER_BYTES - 8 + num_bytes,
        b"WAVE",
        b"fmt ",
        _FORMAT.size,
        _FORMAT_PCM,
        num_channels,
        sample_rate,
        min(sample_rate * frame_bytes, 0xFFFFFFFF),
        frame_bytes,
        8 * BYTES_PER_SAMPLE,
        b"data",
        num_bytes,
    )


def wrap_wav(pcm: bytes, sample_rate: int, num_channels: int = 1) -> bytes:
    """A whole WAV file around PCM16LE; raises `AudioFormatError` for a split sample."""
    check_whole_frames(pcm, num_channels)
    return wav_header(len(pcm), sample_rate, num_channels) + pcm


def is_wav(data: bytes) -> bool:
    """Whether `data` begins as a WAV file does; looks at its first 12 bytes only."""
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def read_wav(source: bytes | str | PathLike[str]) -> Pcm:
    """Read a WAV file, given as its bytes or as its path: see `split_wav`."""
    return split_wav(source if isinstance(source, bytes) else Path(source).read_bytes())


def split_wav(data: bytes) -> Pcm:
    """Take a WAV file apart, as 16-bit PCM whatever it holds.

    Takes integer PCM of 8, 16, 24 and 32 bits (surplus low bits are cut off) and float PCM of 32
    and 64 bits (clipped), plain or WAVE_FORMAT_EXTENSIBLE, with any other chunks around. A size
    that a streaming writer didn't know (0xFFFFFFFF, or 0 at the end of the header) or that is
    beyond the end means "up to the end"; an incomplete last sample is dropped. Raises
    `AudioFormatError` for anything else.
    """
    if not is_wav(data):
        raise AudioFormatError(
            f"WAV: expected a RIFF WAVE header, found {_printable(data[:4])} "
            f"{_printable(data[8:12])} in {len(data)} bytes"
        )
    format_: _Format | None = None
    for name, start, end in _chunks(data):
        if name == b"fmt ":
            format_ = _parse_format(data[start:end])
        elif name == b"data":
            if format_ is None:
                raise AudioFormatError("WAV: expected the fmt chunk first, found the data chunk")
            audio = data[start : end - (end - start) % format_.frame_bytes]
            convert = _CONVERTERS[format_.tag, format_.bits]
            return Pcm(convert(audio), format_.sample_rate, format_.num_channels)
    raise AudioFormatError(
        f"WAV: expected a fmt and a data chunk, found {'only fmt' if format_ else 'no fmt'}"
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk."""
    riff_size = int.from_bytes(data[4:8], "little")
    position = _RIFF_HEADER_BYTES
    while position + _CHUNK.size <= len(data):
        name, size = _CHUNK.unpack_from(data, position)
        start = position + _CHUNK.size
        # An empty data chunk is the truth in a file whose RIFF size covers what comes after it,
        # and a size that was never filled in where the RIFF size is unknown or ends here as well.
        unfinished = riff_size in (0, _UNKNOWN_SIZE) or 8 + riff_size <= start
        if name == b"data" and size == 0 and unfinished:
            size = _UNKNOWN_SIZE
        yield name, start, min(start + size, len(data))
        position = start + size + size % 2


def _parse_format(chunk: bytes) -> _Format:
    if len(chunk) < _FORMAT.size:
        raise AudioFormatError(
            f"WAV: expected a fmt chunk of {_FORMAT.size} bytes or more, found {len(chunk)}"
        )
    tag, num_channels, sample_rate, _, frame_bytes, bits = _FORMAT.unpack_from(chunk)
    if tag == _FORMAT_EXTENSIBLE:
        guid = chunk[_EXTENSIBLE_TAG_OFFSET : _EXTENSIBLE_TAG_OFFSET + 16]
        if guid[2:] != _EXTENSIBLE_GUID_TAIL:
            raise AudioFormatError("WAV: expected PCM in the extensible format, found another GUID")
        tag = int.from_bytes(guid[:2], "little")
    if (tag, bits) not in _CONVERTERS:
        raise AudioFormatError(
            "WAV: expected integer PCM of 8, 16, 24 or 32 bits or float PCM of 32 or 64 bits, "
            f"found format {tag} with {bits} bits"
        )
    format_ = _Format(tag, num_channels, sample_rate, bits)
    if num_channels == 0 or sample_rate == 0 or frame_bytes != format_.frame_bytes:
        raise AudioFormatError(
            "WAV: expected 1 or more channels, a rate above 0 Hz and frames of their size, found "
            f"{num_channels} channel(s) of {bits} bits, {sample_rate} Hz, {frame_bytes}-byte frames"
        )
    return format_


def _from_8_bits(audio: bytes) -> bytes:
    # The only unsigned one: 128 is silence.
    return ((np.frombuffer(audio, np.uint8).astype(np.int16) - 128) << 8).astype(INT16).tobytes()


def _from_24_bits(audio: bytes) -> bytes:
    return np.frombuffer(audio, np.uint8).reshape(-1, 3)[:, 1:].tobytes()


def _from_32_bits(audio: bytes) -> bytes:
    return np.frombuffer(audio, INT16)[1::2].tobytes()


def _from_float32(audio: bytes) -> bytes:
    return _from_floats(np.frombuffer(audio, np.dtype("<f4")).astype(np.float64))


def _from_float64(audio: bytes) -> bytes:
    return _from_floats(np.frombuffer(audio, np.dtype("<f8")))


def _from_floats(samples: NDArray[np.float64]) -> bytes:
    whole = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0)
    return np.rint(whole * 32768.0).clip(-32768.0, 32767.0).astype(INT16).tobytes()


_CONVERTERS: Final[dict[tuple[int, int], Callable[[bytes], bytes]]] = {
    (_FORMAT_PCM, 8): _from_8_bits,
    (_FORMAT_PCM, 16): bytes,
    (_FORMAT_PCM, 24): _from_24_bits,
    (_FORMAT_PCM, 32): _from_32_bits,
    (_FORMAT_FLOAT, 32): _from_float32,
    (_FORMAT_FLOAT, 64): _from_float64,
}


def _printable(tag: bytes) -> str:
    # Of a stranger's bytes the message shows a tag only, and only where it is one.
    return repr(tag.decode("ascii")) if tag.isalnum() else "another tag"
