from __future__ import annotations

import pytest

from tests.fakes import ramp
from voicews.audio.pcm import mix_channels
from voicews.exceptions import AudioFormatError
from voicews.frames import OutputAudioRawFrame
from voicews.transports.output_format import OutputFormat


def test_bytes_in_are_bytes_out() -> None:
    leaves = OutputFormat(24000, 2, None)
    out = b"".join(leaves.convert(ramp(160, n * 160), 8000, 1) for n in range(50))
    out += leaves.tail()
    assert len(out) == 24000 * 2 * 2
    assert leaves.bytes_per_sec == 96000
    assert leaves.convert(ramp(240), 24000, 1) == mix_channels(ramp(240), 1, 2)


def test_packets_and_the_rest() -> None:
    leaves = OutputFormat(16000, 1, 640)
    pcm = ramp(1000)
    packets = leaves.packets(pcm[:1000]) + leaves.packets(pcm[1000:])
    assert b"".join(packets) == pcm[:1920]
    assert len(leaves.padding()) == 560
    assert leaves.packets(leaves.padding()) == [pcm[1920:] + bytes(560)]
    assert leaves.padding() == b""
    leaves.packets(pcm[:10])
    leaves.reset()
    assert leaves.padding() == b""


def test_no_packets() -> None:
    leaves = OutputFormat(16000, 1, None)
    assert leaves.packets(b"ab") == [b"ab"]
    assert leaves.packets(b"") == []
    assert leaves.padding() == b""


@pytest.mark.parametrize(
    "frame",
    [
        OutputAudioRawFrame(b"ab", 1000),
        OutputAudioRawFrame(b"ab", 16000, 0),
        OutputAudioRawFrame(b"abcdef", 16000, 3),
    ],
)
def test_what_cannot_be_converted(frame: OutputAudioRawFrame) -> None:
    with pytest.raises(AudioFormatError):
        OutputFormat(16000, 2, None).whole(frame)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 37, 1697, 4801])
def test_pieces_that_end_in_the_middle_of_a_sample(size: int, channels: int) -> None:
    leaves = OutputFormat(16000, channels, None)
    pcm = ramp(16000)
    pieces = [pcm[start : start + size] for start in range(0, len(pcm), size)]
    whole = [leaves.whole(OutputAudioRawFrame(piece, 16000, channels)) for piece in pieces]
    assert b"".join(frame.audio for frame in whole) == pcm
    assert all(len(frame.audio) % (2 * channels) == 0 for frame in whole)


def test_a_split_sample_is_joined_with_nothing_else() -> None:
    leaves = OutputFormat(16000, 1, None)
    leaves.whole(OutputAudioRawFrame(b"abc", 16000))
    assert leaves.whole(OutputAudioRawFrame(b"de", 8000)).audio == b"de"
    leaves.whole(OutputAudioRawFrame(b"abc", 16000))
    leaves.end_stream()
    assert leaves.whole(OutputAudioRawFrame(b"de", 16000)).audio == b"de"
    leaves.whole(OutputAudioRawFrame(b"abc", 16000))
    leaves.reset()
    assert leaves.whole(OutputAudioRawFrame(b"de", 16000)).audio == b"de"
    frame = OutputAudioRawFrame(b"abc", 16000, transport_destination="music", live=True)
    whole = leaves.whole(frame)
    assert (whole.transport_destination, whole.live) == ("music", True)
