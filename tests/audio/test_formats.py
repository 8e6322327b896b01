"""What is no PCM is named, and PCM is never taken for anything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import fan_noise, pcm, speech, tone
from voicews.audio.formats import audio_format, not_pcm
from voicews.audio.wav import wrap_wav


def mpeg(header: str, size: int, frames: int = 4) -> bytes:
    return (bytes.fromhex(header).ljust(size, b"\x55")) * frames


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"ID3\x04\0\0" + bytes(100), "MP3"),
        # MPEG-1 at 128 kbit/s and 44.1 kHz, MPEG-2 at 64 and 24, MPEG-2.5 at 32 and 8.
        (mpeg("fffb9064", 417), "MP3"),
        (mpeg("fff38464", 192), "MP3"),
        (mpeg("ffe34864", 288), "MP3"),
        # A frame and the header of the next.
        (mpeg("fffb9064", 417, 2)[:500], "MP3"),
        # Layer II, as broadcasters have it.
        (mpeg("fffd8464", 384), "MPEG audio"),
        # AAC in ADTS, 371 bytes a frame.
        (mpeg("fff15080" + "2e7ffc", 371), "AAC"),
        (b"OggS\0\2" + bytes(22) + b"OpusHead" + bytes(99), "Ogg Opus"),
        (b"OggS\0\2" + bytes(22) + b"\x01vorbis" + bytes(99), "Ogg Vorbis"),
        (b"OggS\0\2" + bytes(99), "Ogg"),
        (b"fLaC\0\0\0\x22", "FLAC"),
        (b"\x1aE\xdf\xa3" + bytes(20), "WebM"),
        (b"\0\0\0\x20ftypM4A ", "MP4"),
        (b"FORM\0\0\1\0AIFFCOMM", "AIFF"),
        (b".snd\0\0\0\x20", "AU"),
        (b"#!AMR-WB\n", "AMR"),
        (b"RIFF\0\0\0\0AVI LIST", "a RIFF file without WAVE"),
        (wrap_wav(bytes(10), 8000), "WAV"),
        (b'{"error": {"code": 401}}', "JSON"),
        (b'[{"audio": "UklGR"}]', "JSON"),
        (b"<!doctype html><title>502</title>", "HTML or XML"),
        (b"Unauthorized", "text"),
        (b"UklGRiQAAABXQVZFZm10IBAAAAAB", "text"),
    ],
)
def test_names(data: bytes, name: str) -> None:
    assert audio_format(data) == name


@pytest.mark.parametrize(("name", "advice"), [("JSON", "error message"), ("MP3", "PCM or WAV")])
def test_what_to_do(name: str, advice: str) -> None:
    assert advice in str(not_pcm(name))


@pytest.mark.parametrize(
    "audio",
    [
        b"",
        b"\xff",
        bytes(1000),
        b"\xff\xff" * 1000,
        b"\xff\xfb" * 1000,
        pcm(tone(440, 0.5, 8000)),
        pcm(speech(0.5, 16000)),
        pcm(fan_noise(0.5, 16000, -6)),
    ],
)
def test_pcm_is_none_of_them(audio: bytes) -> None:
    assert audio_format(audio) is None
    for start in range(0, min(len(audio), 400), 2):
        assert audio_format(audio[start:]) is None


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), first=st.sampled_from([b"\xff\xfb\x90", b"\xff\xf3", b""]))
def test_noise_that_begins_like_a_frame_is_no_mp3(seed: int, first: bytes) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, 4000, np.uint8).tobytes()
    assert audio_format(first + noise) is None
