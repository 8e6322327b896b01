from __future__ import annotations

import io
import struct
import wave
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import pcm, samples, tone
from voicews.audio.g711 import encode_alaw, encode_ulaw
from voicews.audio.pcm import Pcm
from voicews.audio.wav import (
    MAX_HEADER_BYTES,
    WAV_HEADER_BYTES,
    is_wav,
    parse_wav_header,
    read_wav,
    split_wav,
    wav_header,
    wrap_wav,
)
from voicews.exceptions import AudioFormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUDIO = pcm(tone(440, 0.02, 16000))
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    head = name + struct.pack("<I", len(body) if size is None else size)
    return head + body + b"\0" * (len(body) % 2)


def fmt(tag: int, bits: int, num_channels: int = 1, rate: int = 16000, extra: bytes = b"") -> bytes:
    frame_bytes = num_channels * bits // 8
    body = struct.pack("<HHIIHH", tag, num_channels, rate, rate * frame_bytes, frame_bytes, bits)
    return chunk(b"fmt ", body + extra)


def riff(*parts: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


@given(
    frames=st.integers(0, 400),
    rate=st.sampled_from([8000, 16000, 44100]),
    num_channels=st.integers(1, 4),
)
def test_there_and_back(frames: int, rate: int, num_channels: int) -> None:
    audio = np.arange(frames * num_channels).astype("<i2").tobytes()
    file = wrap_wav(audio, rate, num_channels)
    assert is_wav(file)
    assert split_wav(file) == Pcm(audio, rate, num_channels)


def test_the_standard_library_agrees() -> None:
    with wave.open(io.BytesIO(wrap_wav(AUDIO, 16000))) as reader:
        assert reader.getparams()[:4] == (1, 2, 16000, 320)
        assert reader.readframes(320) == AUDIO
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(AUDIO)
    assert split_wav(file.getvalue()) == Pcm(AUDIO, 8000, 2)
    assert wrap_wav(AUDIO, 8000, 2) == file.getvalue()


def test_header() -> None:
    assert len(wav_header(0, 8000)) == WAV_HEADER_BYTES == 44
    assert wav_header(len(AUDIO), 16000) + AUDIO == wrap_wav(AUDIO, 16000)


@pytest.mark.parametrize(
    "args", [(-1, 8000, 1), (2**32, 8000, 1), (0, 0, 1), (0, -8000, 1), (0, 8000, 0)]
)
def test_impossible_headers_are_refused(args: tuple[int, int, int]) -> None:
    with pytest.raises(AudioFormatError, match=r"expected .*found"):
        wav_header(*args)


def test_a_split_sample_is_not_wrapped() -> None:
    with pytest.raises(AudioFormatError, match="multiple of 4 bytes, found 6"):
        wrap_wav(bytes(6), 8000, 2)


def test_read_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wrap_wav(AUDIO, 16000))
    expected = Pcm(AUDIO, 16000, 1)
    assert read_wav(path) == read_wav(str(path)) == read_wav(path.read_bytes()) == expected


def test_other_chunks_are_passed_over() -> None:
    file = riff(
        chunk(b"JUNK", b"odd"),
        fmt(1, 16, extra=b"\0\0"),
        chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0"),
        chunk(b"fact", bytes(4)),
        chunk(b"data", AUDIO),
        chunk(b"LIST", b"after"),
    )
    assert split_wav(file) == Pcm(AUDIO, 16000, 1)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0, 0),
        (0xFFFFFFFF, 0),
        (36, 0),
        (0, 0xFFFFFFFF),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (36 + len(AUDIO), 10**6),
    ],
)
def test_sizes_that_the_writer_did_not_know(riff_size: int, data_size: int) -> None:
    file = riff(fmt(1, 16), chunk(b"data", AUDIO, size=data_size), size=riff_size)
    assert split_wav(file) == Pcm(AUDIO, 16000, 1)


def test_a_header_alone_is_no_audio() -> None:
    assert split_wav(wav_header(0, 16000)) == Pcm(b"", 16000, 1)
    assert split_wav(wav_header(1000, 16000)) == Pcm(b"", 16000, 1)


def test_an_empty_data_chunk_is_believed_where_the_file_goes_on() -> None:
    file = riff(fmt(1, 16), chunk(b"data", b""), chunk(b"LIST", b"INFO"))
    assert split_wav(file).audio == b""


def test_an_incomplete_last_sample_is_dropped() -> None:
    assert split_wav(wrap_wav(AUDIO, 16000)[:-1]).audio == AUDIO[:-2]
    assert split_wav(wrap_wav(AUDIO, 16000, 2)[:-1]).audio == AUDIO[:-4]


def encoded(tag: int, bits: int, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    if tag == 3:
        return values.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (np.rint(values * 128).clip(-128, 127) + 128).astype(np.uint8).tobytes()
    whole = np.rint(values * 2.0 ** (bits - 1)).astype("<i8")
    return whole.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("tag", "bits", "tolerance"),
    [
        (1, 8, 1 / 128),
        (1, 16, 0.0),
        (1, 24, 1 / 32768),
        (1, 32, 1 / 32768),
        (3, 32, 0.0),
        (3, 64, 0.0),
    ],
)
def test_every_sample_format(tag: int, bits: int, tolerance: float, extensible: bool) -> None:
    values = samples(AUDIO)
    header = fmt(tag, bits)
    if extensible:
        extra = struct.pack("<HHIH", 22, bits, 0, tag) + GUID_TAIL
        header = fmt(0xFFFE, bits, extra=extra)
    result = split_wav(riff(header, chunk(b"data", encoded(tag, bits, values))))
    assert result.sample_rate == 16000
    assert np.abs(samples(result.audio) - values).max() <= tolerance


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 24), (1, 32), (3, 32)])
def test_full_scale_of_every_sample_format(tag: int, bits: int) -> None:
    values = np.array([-1.0, 0.0])
    file = riff(fmt(tag, bits), chunk(b"data", encoded(tag, bits, values)))
    assert np.frombuffer(split_wav(file).audio, "<i2").tolist() == [-32768, 0]


def test_floats_beyond_full_scale_are_clipped_and_no_number_is_silence() -> None:
    floats = np.array([2.0, -2.0, np.inf, -np.inf, np.nan, 1.0], "<f4").tobytes()
    result = split_wav(riff(fmt(3, 32), chunk(b"data", floats)))
    values = np.frombuffer(result.audio, "<i2").tolist()
    assert values == [32767, -32768, 32767, -32768, 0, 32767]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a RIFF WAVE header"),
        (b"RIFF", "in 4 bytes"),
        (b"RF64\0\0\0\0WAVEfmt ", "found no fmt"),
        (b"RIFF\0\0\0\0AVI LIST", "found a RIFF file without WAVE"),
        (b"\x00\x01\x02secret and longer", "found another tag"),
        (riff(), "found no fmt"),
        (riff(fmt(1, 16)), "found only fmt"),
        (riff(chunk(b"data", AUDIO), fmt(1, 16)), "expected the fmt chunk first"),
        (riff(chunk(b"fmt ", bytes(8)), chunk(b"data", AUDIO)), "16 bytes or more, found 8"),
        (b"fLaC" + bytes(40), "found FLAC"),
        (riff(fmt(1, 0), chunk(b"data", AUDIO)), "found format 1 with 0 bits"),
        (riff(fmt(1, 40), chunk(b"data", AUDIO)), "found format 1 with 40 bits"),
        (riff(fmt(0x11, 4), chunk(b"data", AUDIO)), r"found IMA ADPCM \(format 17\) with 4 bits"),
        (riff(fmt(0x55, 0), chunk(b"data", AUDIO)), "found MP3"),
        (riff(fmt(99, 16), chunk(b"data", AUDIO)), "found format 99"),
        (riff(fmt(3, 16), chunk(b"data", AUDIO)), "found format 3 with 16 bits"),
        (riff(fmt(1, 16, 0), chunk(b"data", AUDIO)), "found 0 channel"),
        (riff(fmt(1, 16, 1, 0), chunk(b"data", AUDIO)), "0 Hz"),
        (riff(fmt(0xFFFE, 16, extra=bytes(24)), chunk(b"data", AUDIO)), "found another GUID"),
        (riff(fmt(0xFFFE, 16), chunk(b"data", AUDIO)), "found another GUID"),
    ],
)
def test_what_is_no_wav_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(AudioFormatError, match=message):
        split_wav(data)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize(("field", "value"), [(28, 7), (32, 0), (32, 3), (32, 4), (32, 77)])
def test_byte_rate_and_block_align_are_not_believed(bits: int, field: int, value: int) -> None:
    values = samples(AUDIO)
    file = bytearray(riff(fmt(1, bits), chunk(b"data", encoded(1, bits, values))))
    file[field] = value
    result = split_wav(bytes(file))
    assert np.abs(samples(result.audio) - values).max() <= 1 / 128


@pytest.mark.parametrize(("tag", "encode"), [(6, encode_alaw), (7, encode_ulaw)])
@pytest.mark.parametrize("bits", [0, 8, 16])
@pytest.mark.parametrize("channels", [1, 2])
def test_g711(tag: int, encode: Callable[[bytes], bytes], bits: int, channels: int) -> None:
    coded = encode(AUDIO)
    for file in (
        riff(fmt(tag, bits, channels, 8000, b"\0\0"), chunk(b"data", coded)),
        riff(
            fmt(0xFFFE, 8, channels, 8000, struct.pack("<HHIH", 22, 8, 0, tag) + GUID_TAIL),
            chunk(b"fact", bytes(4)),
            chunk(b"data", coded),
        ),
    ):
        result = split_wav(file)
        assert result[1:] == (8000, channels)
        assert np.abs(samples(result.audio) - samples(AUDIO)).max() < 0.03


def test_bits_that_fill_no_whole_bytes_are_the_high_ones() -> None:
    values = np.arange(-2048, 2048, 64).astype("<i2") << 4
    assert split_wav(riff(fmt(1, 12), chunk(b"data", values.tobytes()))).audio == values.tobytes()


@pytest.mark.parametrize("container", [b"RF64", b"BW64"])
@pytest.mark.parametrize(
    ("ds64_size", "data_size"),
    [(len(AUDIO), 0xFFFFFFFF), (0, 0xFFFFFFFF), (len(AUDIO), len(AUDIO)), (2**40, 0xFFFFFFFF)],
)
def test_64_bit_containers(container: bytes, ds64_size: int, data_size: int) -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, ds64_size, 0, 0))
    after = b"" if ds64_size in (0, 2**40) else chunk(b"LIST", b"INFO")
    file = riff(ds64, fmt(1, 16), chunk(b"data", AUDIO, data_size) + after, size=0xFFFFFFFF)
    assert split_wav(container + file[4:]) == Pcm(AUDIO, 16000, 1)


@pytest.mark.parametrize("name", [b"LIST", b"xyzw", b"fact"])
@pytest.mark.parametrize("length", [5, 17])
@pytest.mark.parametrize("audio", [AUDIO, AUDIO[: 0x141 * 2], AUDIO[: 0x61 * 2]])
def test_an_odd_chunk_without_its_pad_byte(name: bytes, length: int, audio: bytes) -> None:
    odd = name + struct.pack("<I", length) + b"x" * length
    for pad in (b"", b"\0"):
        for before in (True, False):
            parts = [odd + pad, fmt(1, 16)] if before else [fmt(1, 16), odd + pad]
            assert split_wav(riff(*parts, chunk(b"data", audio))).audio == audio


@pytest.mark.parametrize("riff_size", [0, 36, 100, 0x7FFFFFFF, 0xFFFFFFFF, 36 + len(AUDIO)])
def test_a_data_size_that_was_never_filled_in(riff_size: int) -> None:
    file = riff(fmt(1, 16), chunk(b"data", AUDIO, size=0), size=riff_size)
    assert split_wav(file).audio == AUDIO


@pytest.mark.parametrize("length", [0, 3, 11])
def test_a_header_that_is_not_there_yet(length: int) -> None:
    file = wrap_wav(AUDIO, 16000)
    assert parse_wav_header(file[:length], is_whole=False) is None


@given(cut=st.integers(0, 200), with_list=st.booleans())
def test_a_header_in_pieces(cut: int, with_list: bool) -> None:
    extra = chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0") if with_list else b""
    file = riff(fmt(1, 16), extra, chunk(b"data", AUDIO))
    header = parse_wav_header(file[:cut], is_whole=False)
    start = file.index(b"data") + 8
    assert (header is None) == (cut < start)
    if header is not None:
        assert (header.start, header.size, header.sample_rate) == (start, len(AUDIO), 16000)


def test_endless_chunks_before_the_audio_are_refused() -> None:
    junk = riff(fmt(1, 16), chunk(b"JUNK", bytes(MAX_HEADER_BYTES)))
    with pytest.raises(AudioFormatError, match="only fmt"):
        parse_wav_header(junk, is_whole=False)


def test_is_wav() -> None:
    assert is_wav(b"RIFF\x24\x00\x00\x00WAVE")
    assert not is_wav(b"RIFF\x24\x00\x00\x00WAV")
    assert not is_wav(b"")
    assert not is_wav(AUDIO)


def check_any_answer(data: bytes) -> None:
    try:
        result = split_wav(data)
    except AudioFormatError:
        return
    assert result.num_channels >= 1
    assert result.sample_rate >= 1
    assert len(result.audio) % (2 * result.num_channels) == 0


@settings(max_examples=300)
@given(tail=st.binary(max_size=200))
def test_anything_after_the_first_header_is_read_or_refused(tail: bytes) -> None:
    check_any_answer(b"RIFF" + tail[:4].ljust(4, b"\0") + b"WAVE" + tail)


@settings(max_examples=300)
@given(
    changes=st.dictionaries(st.integers(0, 59), st.integers(0, 255), max_size=6),
    length=st.integers(0, 80),
    kind=st.sampled_from([(1, 16), (1, 24), (3, 32)]),
)
def test_damaged_files_are_read_or_refused(
    changes: dict[int, int], length: int, kind: tuple[int, int]
) -> None:
    file = bytearray(riff(fmt(*kind), chunk(b"data", AUDIO[:36])))
    for position, value in changes.items():
        file[position] = value
    check_any_answer(bytes(file[:length]))
