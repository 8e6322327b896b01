"""WAV files and the WAV headers that some peers put before each chunk of PCM.

Reads what recorders, telephony providers and streaming TTS services write; writes plain 16-bit
PCM. Format: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), Multiple
Channel Audio Data and WAVE Files for WAVE_FORMAT_EXTENSIBLE, EBU Tech 3306 and ITU-R BS.2088 for
RF64 and BW64.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voicews.audio.formats import audio_format
from voicews.audio.g711 import decode_alaw, decode_ulaw
from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16, Pcm, check_whole_frames
from voicews.exceptions import AudioFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from numpy.typing import NDArray

__all__ = [
    "is_wav",
    "read_wav",
    "split_wav",
    "wrap_wav",
]

WAV_HEADER_BYTES: Final = 44
"""Size of what `wav_header` returns."""
MAX_HEADER_BYTES: Final = 1024 * 1024
"""Of the chunks before the audio; what has more of them is no stream of audio."""

_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_FORMAT_PCM: Final = 1
_FORMAT_FLOAT: Final = 3
_FORMAT_ALAW: Final = 6
_FORMAT_ULAW: Final = 7
_FORMAT_EXTENSIBLE: Final = 0xFFFE
_EXTENSIBLE_TAG_OFFSET: Final = 24
_EXTENSIBLE_GUID_TAIL: Final = bytes.fromhex("000000001000800000aa00389b71")
_DS64_DATA_SIZE_OFFSET: Final = 8
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_MAX_AUDIO_BYTES: Final = _UNKNOWN_SIZE - WAV_HEADER_BYTES
_RIFF_HEADER_BYTES: Final = 12
_CONTAINERS: Final = (b"RIFF", b"RF64", b"BW64")
_CHUNK_NAMES: Final = (
    b"fmt ",
    b"data",
    b"fact",
    b"LIST",
    b"JUNK",
    b"bext",
    b"PEAK",
    b"cue ",
    b"id3 ",
)
#: What else stands in WAV files, to name it (Multimedia Registered Codecs, RFC 2361).
_OTHER_FORMATS: Final = {
    0x02: "Microsoft ADPCM",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x50: "MPEG audio",
    0x55: "MP3",
    0x64: "G.726",
    0x65: "G.722",
    0xFF: "AAC",
    0x1610: "AAC",
}


class _Format(NamedTuple):
    tag: int
    num_channels: int
    sample_rate: int
    sample_bytes: int

    @property
    def frame_bytes(self) -> int:
        return self.num_channels * self.sample_bytes


class WavHeader(NamedTuple):
    """What stands before the audio of a WAV file."""

    sample_rate: int
    num_channels: int
    #: Bytes of one sample of all channels, as the file has them.
    frame_bytes: int
    #: Where the audio begins, and how many bytes of it there are; None: up to the end.
    start: int
    size: int | None
    #: Turns whole frames of the file into PCM16LE.
    convert: Callable[[bytes], bytes]


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
    return data[:4] in _CONTAINERS and data[8:12] == b"WAVE"


def read_wav(source: bytes | str | PathLike[str]) -> Pcm:
    """Read a WAV file, given as its bytes or as its path: see `split_wav`."""
    return split_wav(source if isinstance(source, bytes) else Path(source).read_bytes())


def split_wav(data: bytes) -> Pcm:
    """Take a WAV file apart, as 16-bit PCM whatever it holds.

    Takes integer PCM of up to 32 bits (surplus low bits are cut off), float PCM of 32 and 64 bits
    (clipped), mu-law and A-law, plain or WAVE_FORMAT_EXTENSIBLE, in RIFF, RF64 and BW64, with any
    other chunks around. A size that a streaming writer didn't know or that is beyond the end means
    "up to the end"; an incomplete last sample is dropped. The block align and the byte rate are
    not believed: they follow from the rest. Raises `AudioFormatError` for anything else.
    """
    header = parse_wav_header(data, is_whole=True)
    assert header is not None
    end = len(data) if header.size is None else min(len(data), header.start + header.size)
    end -= (end - header.start) % header.frame_bytes
    return Pcm(header.convert(data[header.start : end]), header.sample_rate, header.num_channels)


def parse_wav_header(data: bytes, *, is_whole: bool) -> WavHeader | None:
    """Read what stands before the audio; None if more data is needed, which may still come.

    `is_whole` says that `data` is the whole file: then a size of 0 is told from one that was never
    filled in by what comes after it; else a size of 0 means "up to the end". Raises
    `AudioFormatError` for what is no WAV file, or one that can't be read.
    """
    if len(data) < _RIFF_HEADER_BYTES and not is_whole:
        return None
    if not is_wav(data):
        raise AudioFormatError(
            f"WAV: expected a RIFF WAVE header, found {_described(data)} in {len(data)} bytes"
        )
    format_: _Format | None = None
    data_size: int | None = None
    for name, start, size in _chunks(data, is_whole=is_whole):
        if name == b"fmt ":
            format_ = _parse_format(data[start : start + size])
        elif name == b"ds64":
            offset = start + _DS64_DATA_SIZE_OFFSET
            data_size = int.from_bytes(data[offset : offset + 8], "little") or None
        elif name == b"data":
            if format_ is None:
                raise AudioFormatError("WAV: expected the fmt chunk first, found the data chunk")
            audio_size: int | None = size
            if size == _UNKNOWN_SIZE:
                audio_size = data_size
            elif size == 0 and not (is_whole and _is_empty(data, start)):
                audio_size = None
            convert = _CONVERTERS[format_.tag, format_.sample_bytes]
            return WavHeader(
                format_.sample_rate,
                format_.num_channels,
                format_.frame_bytes,
                start,
                audio_size,
                convert,
            )
    if not is_whole and len(data) <= MAX_HEADER_BYTES:
        return None
    raise AudioFormatError(
        f"WAV: expected a fmt and a data chunk, found {'only fmt' if format_ else 'no fmt'}"
    )


def _chunks(data: bytes, *, is_whole: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk, up to the first one that is not there yet."""
    position = _RIFF_HEADER_BYTES
    while position + _CHUNK.size <= len(data):
        name, size = _CHUNK.unpack_from(data, position)
        start = position + _CHUNK.size
        position = start + size
        if name != b"data" and not is_whole and position + _CHUNK.size > len(data):
            return
        yield name, start, size
        position += size % 2 and _has_pad_byte(data, position)


def _is_empty(data: bytes, start: int) -> bool:
    """Whether a data chunk of size 0 is the truth: the file is whole, and other chunks follow.

    It is a size that was never filled in where the RIFF size is unknown or wrong, or where what
    follows is no chunk.
    """
    riff_end = 8 + int.from_bytes(data[4:8], "little")
    return start < riff_end <= len(data) and _is_chunk_name(data, start)


def _has_pad_byte(data: bytes, end: int) -> bool:
    # Some writers leave it out.
    if data[end : end + 4] in _CHUNK_NAMES:
        return False
    return _is_chunk_name(data, end + 1) or not _is_chunk_name(data, end)


def _is_chunk_name(data: bytes, position: int) -> bool:
    name = data[position : position + 4]
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _parse_format(chunk: bytes) -> _Format:
    if len(chunk) < _FORMAT.size:
        raise AudioFormatError(
            f"WAV: expected a fmt chunk of {_FORMAT.size} bytes or more, found {len(chunk)}"
        )
    tag, num_channels, sample_rate, _, _, bits = _FORMAT.unpack_from(chunk)
    if tag == _FORMAT_EXTENSIBLE:
        guid = chunk[_EXTENSIBLE_TAG_OFFSET : _EXTENSIBLE_TAG_OFFSET + 16]
        if guid[2:] != _EXTENSIBLE_GUID_TAIL:
            raise AudioFormatError("WAV: expected PCM in the extensible format, found another GUID")
        tag = int.from_bytes(guid[:2], "little")
    # G.711 has one byte a sample, and writers that give its bits otherwise. Samples of other sizes
    # than whole bytes stand in the high bits of whole bytes.
    sample_bytes = 1 if tag in (_FORMAT_ALAW, _FORMAT_ULAW) else (bits + 7) // 8
    if (tag, sample_bytes) not in _CONVERTERS or (tag == _FORMAT_FLOAT and bits % 32):
        name = f"{_OTHER_FORMATS[tag]} (format {tag})" if tag in _OTHER_FORMATS else f"format {tag}"
        raise AudioFormatError(
            "WAV: expected integer PCM of up to 32 bits, float PCM of 32 or 64 bits, mu-law or "
            f"A-law, found {name} with {bits} bits"
        )
    if num_channels == 0 or sample_rate == 0:
        raise AudioFormatError(
            "WAV: expected 1 or more channels and a rate above 0 Hz, found "
            f"{num_channels} channel(s), {sample_rate} Hz"
        )
    return _Format(tag, num_channels, sample_rate, sample_bytes)


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


#: By format and bytes of a sample.
_CONVERTERS: Final[dict[tuple[int, int], Callable[[bytes], bytes]]] = {
    (_FORMAT_PCM, 1): _from_8_bits,
    (_FORMAT_PCM, 2): bytes,
    (_FORMAT_PCM, 3): _from_24_bits,
    (_FORMAT_PCM, 4): _from_32_bits,
    (_FORMAT_FLOAT, 4): _from_float32,
    (_FORMAT_FLOAT, 8): _from_float64,
    (_FORMAT_ALAW, 1): decode_alaw,
    (_FORMAT_ULAW, 1): decode_ulaw,
}


def _described(data: bytes) -> str:
    # Of a stranger's bytes the message shows what they are, or a tag where it is one.
    name = audio_format(data)
    if name is not None:
        return name
    return repr(data[:4].decode("ascii")) if data[:4].isalnum() else "another tag"
