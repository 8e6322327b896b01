"""What telephone networks call audio, and how to turn it into PCM and back."""

from __future__ import annotations

import array
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from voicews.audio import g711
from voicews.audio.pcm import INT16
from voicews.exceptions import AudioFormatError, ConfigurationError

ByteOrder = Literal["little", "big"]

#: The words that encodings go by to the names of RFC 3551. Of several words in one name, the first
#: here counts: `pcm_mulaw` is mu-law.
_NAMES: Final = {
    **dict.fromkeys(["pcmu", "mulaw", "ulaw", "g711u", "g711mu"], "PCMU"),
    **dict.fromkeys(["pcma", "alaw", "g711a"], "PCMA"),
    "g722": "G722",
    **dict.fromkeys(["l16", "linear16", "lin16", "slin", "slin16", "s16le", "s16"], "L16"),
    **dict.fromkeys(["linear", "raw", "pcm", "pcm16", "lpcm"], "L16"),
}
#: Words of encodings that voicews can't decode.
_UNPLAYABLE: Final = frozenset(
    (
        *("opus", "amr", "amrwb", "evs", "g723", "g726", "g729", "gsm", "ilbc", "speex", "silk"),
        *("aac", "mp3", "mpeg", "ogg", "vorbis", "webm", "flac", "mp4", "f32le", "float32"),
    )
)
_WORDS = re.compile("[a-z0-9]+")
_EXPECTED: Final = "PCMU, PCMA, L16 or G722"


@dataclass(frozen=True, slots=True)
class Codec:
    """One direction's way to write samples; G.722 remembers, so each stream needs its own.

    `sample_rate` (Hz) is that of the PCM. `encode` takes mono PCM16LE, `decode` gives it; both
    raise `AudioFormatError` for a split sample.
    """

    name: str
    sample_rate: int
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes], bytes]


def find_codec_name(encoding: str) -> str | None:
    """PCMU, PCMA, L16 or G722 for what a provider calls it, such as `audio/x-mulaw`.

    None for an unknown name. Raises `AudioFormatError` for an encoding that is known and
    that we can't decode, such as Opus.
    """
    words = set(_WORDS.findall(encoding.partition(";")[0].lower().replace("-law", "law")))
    if words & _UNPLAYABLE:
        raise AudioFormatError(f"encoding: expected {_EXPECTED}, found one that can't be decoded")
    return next((name for word, name in _NAMES.items() if word in words), None)


def codec_name(encoding: str) -> str:
    """The same; raises `AudioFormatError` also for an unknown name."""
    name = find_codec_name(encoding)
    if name is None:
        raise AudioFormatError(f"encoding: expected {_EXPECTED}, found another one")
    return name


def get_codec(encoding: str, sample_rate: int, byte_order: ByteOrder = "little") -> Codec:
    """A codec for one stream.

    `sample_rate` (Hz) and `byte_order` matter for L16; the others have one rate each. Raises
    `AudioFormatError` for an encoding that we don't have, `ConfigurationError` when G.722 is asked
    for and its package is missing.
    """
    name = codec_name(encoding)
    if name == "PCMU":
        return Codec(name, 8000, g711.encode_ulaw, g711.decode_ulaw)
    if name == "PCMA":
        return Codec(name, 8000, g711.encode_alaw, g711.decode_alaw)
    if name == "G722":
        return _g722()
    convert = _swap_bytes if byte_order == "big" else _check_samples
    return Codec(name, sample_rate, convert, convert)


def _check_samples(pcm: bytes) -> bytes:
    if len(pcm) % 2:
        raise AudioFormatError(f"16-bit PCM: expected a multiple of 2 bytes, found {len(pcm)}")
    return pcm


def _swap_bytes(pcm: bytes) -> bytes:
    return np.frombuffer(_check_samples(pcm), INT16).byteswap().tobytes()


def _g722() -> Codec:
    try:
        from G722 import G722
    except ImportError:
        raise ConfigurationError(
            "G.722 needs a package that is not installed: pip install 'voicews[g722]'"
        ) from None
    # RTP gives its clock as 8000 Hz, by an old mistake; the audio has 16000 (RFC 3551, 4.5.2).
    encoder, decoder = G722(16000, 64000), G722(16000, 64000)

    def encode(pcm: bytes) -> bytes:
        return bytes(encoder.encode(_native(array.array("h", _check_samples(pcm)))))

    def decode(data: bytes) -> bytes:
        return _native(array.array("h", decoder.decode(data))).tobytes()

    return Codec("G722", 16000, encode, decode)


def _native(samples: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
