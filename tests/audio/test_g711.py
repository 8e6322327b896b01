from __future__ import annotations

import hashlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.audio import g711
from voicews.exceptions import AudioFormatError

EVERY_SAMPLE = b"".join(pattern.to_bytes(2, "little") for pattern in range(65536))
EVERY_CODE = bytes(range(256))

# SHA-256 of what Python 3.11's audioop made of each sample and code.
DIGESTS = {
    g711.encode_ulaw: "617fa4850d68d3906597e949f7625fb2fc46db479e29707f33159b3d131721cb",
    g711.encode_alaw: "f77c76aa923ee25617453f87514828a12896227f82ff383bf3bb53d6ac7c2a0f",
    g711.decode_ulaw: "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827",
    g711.decode_alaw: "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174",
}


def sample(value: int) -> bytes:
    return value.to_bytes(2, "little", signed=True)


@pytest.mark.parametrize(
    ("convert", "everything"),
    [
        (g711.encode_ulaw, EVERY_SAMPLE),
        (g711.encode_alaw, EVERY_SAMPLE),
        (g711.decode_ulaw, EVERY_CODE),
        (g711.decode_alaw, EVERY_CODE),
    ],
)
def test_every_value_is_that_of_audioop(convert: object, everything: bytes) -> None:
    assert callable(convert)
    assert hashlib.sha256(convert(everything)).hexdigest() == DIGESTS[convert]


def test_the_digests_are_audioops() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    assert g711.encode_ulaw(EVERY_SAMPLE) == audioop.lin2ulaw(EVERY_SAMPLE, 2)
    assert g711.encode_alaw(EVERY_SAMPLE) == audioop.lin2alaw(EVERY_SAMPLE, 2)
    assert g711.decode_ulaw(EVERY_CODE) == audioop.ulaw2lin(EVERY_CODE, 2)
    assert g711.decode_alaw(EVERY_CODE) == audioop.alaw2lin(EVERY_CODE, 2)


def test_silence_and_the_loudest() -> None:
    assert g711.encode_ulaw(sample(0)) == g711.ULAW_SILENCE == b"\xff"
    assert g711.encode_alaw(sample(0)) == g711.ALAW_SILENCE == b"\xd5"
    assert g711.decode_ulaw(b"\xff\x7f") == sample(0) * 2
    assert g711.decode_alaw(b"\xd5\x55") == sample(8) + sample(-8)
    assert g711.decode_ulaw(b"\x00\x80") == sample(-32124) + sample(32124)
    assert g711.decode_alaw(b"\x2a\xaa") == sample(-32256) + sample(32256)


@given(st.binary(max_size=400))
def test_decoded_codes_encode_to_themselves(codes: bytes) -> None:
    # Mu-law alone has two codes for 0.
    ulaw = codes.replace(b"\x7f", b"\xff")
    assert g711.encode_ulaw(g711.decode_ulaw(ulaw)) == ulaw
    assert g711.encode_alaw(g711.decode_alaw(codes)) == codes


@given(st.integers(-32768, 32767))
def test_the_error_is_small_next_to_the_sample(value: int) -> None:
    for encode, decode in (
        (g711.encode_ulaw, g711.decode_ulaw),
        (g711.encode_alaw, g711.decode_alaw),
    ):
        back = int.from_bytes(decode(encode(sample(value))), "little", signed=True)
        assert abs(back - value) <= max(16, abs(value) / 16 + 4, 32768 - 32124 if value else 0)


def test_no_audio_is_no_audio() -> None:
    for convert in DIGESTS:
        assert convert(b"") == b""


@pytest.mark.parametrize("encode", [g711.encode_ulaw, g711.encode_alaw])
def test_a_split_sample_is_refused(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(AudioFormatError, match="multiple of 2 bytes, found 3"):
        encode(b"\0\0\0")
