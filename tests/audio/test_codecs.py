from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.audio.signals import pcm, tone
from voicews.audio.codecs import codec_name, get_codec
from voicews.exceptions import AudioFormatError, ConfigurationError


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("audio/x-mulaw", "PCMU"),
        ("PCMU", "PCMU"),
        ("pcma", "PCMA"),
        ("audio/x-alaw", "PCMA"),
        ("audio/x-l16", "L16"),
        ("audio/x-raw", "L16"),
        ("L16", "L16"),
        ("G722", "G722"),
    ],
)
def test_encodings_by_all_their_names(encoding: str, name: str) -> None:
    assert codec_name(encoding) == name


def test_an_unknown_encoding_is_refused_without_repeating_it() -> None:
    with pytest.raises(AudioFormatError, match="found another one"):
        get_codec("secret", 8000)


@pytest.mark.parametrize(
    ("encoding", "silence"), [("PCMU", b"\xff"), ("PCMA", b"\xd5"), ("L16", b"\0\0")]
)
def test_each_codec_has_its_own_silence(encoding: str, silence: bytes) -> None:
    assert get_codec(encoding, 8000).encode(bytes(320)) == silence * 160


def test_l16_in_either_byte_order() -> None:
    assert get_codec("L16", 16000).encode(b"\x01\x02") == b"\x01\x02"
    big = get_codec("L16", 16000, "big")
    assert big.encode(b"\x01\x02") == b"\x02\x01"
    assert big.decode(b"\x02\x01") == b"\x01\x02"
    assert big.sample_rate == 16000


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_a_split_sample_is_refused(byte_order: str) -> None:
    codec = get_codec("L16", 8000, "big" if byte_order == "big" else "little")
    for convert in (codec.encode, codec.decode):
        with pytest.raises(AudioFormatError, match="multiple of 2 bytes, found 1"):
            convert(b"\0")


def test_g722_carries_wideband_at_64_kbit() -> None:
    codec = get_codec("G722", 8000)
    assert codec.sample_rate == 16000
    audio = pcm(tone(3000, 0.5, 16000))
    wire = b"".join(codec.encode(audio[at : at + 640]) for at in range(0, len(audio), 640))
    assert len(wire) == len(audio) // 4
    heard = np.frombuffer(codec.decode(wire), "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.size)))
    assert abs(spectrum.argmax() * 16000 / heard.size - 3000) < 5


def test_g722_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "G722", None)
    with pytest.raises(ConfigurationError, match=r"voicews\[g722\]"):
        get_codec("G722", 16000)
