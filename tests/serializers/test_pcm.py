from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.exceptions import InvalidMessage
from voicews.frames import (
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TextFrame,
)
from voicews.serializers import PCMSerializer

PCM = b"\x01\x02\x03\x04"


def test_audio_is_bare_samples_both_ways() -> None:
    serializer = PCMSerializer(8000, 2)
    assert serializer.sample_rate == 8000
    assert serializer.serialize(OutputAudioRawFrame(PCM, 8000, 2)) == PCM
    assert serializer.deserialize(PCM) == InputAudioRawFrame(PCM, 8000, 2)


@pytest.mark.parametrize("kind", [OutputTransportMessageFrame, OutputTransportMessageUrgentFrame])
def test_messages_are_json_in_text(kind: Any) -> None:
    data = PCMSerializer().serialize(kind({"a": [1, "ü"]}))
    assert isinstance(data, str)
    assert json.loads(data) == {"a": [1, "ü"]}
    assert PCMSerializer().deserialize(data) == InputTransportMessageFrame({"a": [1, "ü"]})


@pytest.mark.parametrize("frame", [InterruptionFrame(), TextFrame("hi")])
def test_what_the_protocol_has_no_message_for(frame: Frame) -> None:
    assert PCMSerializer().serialize(frame) is None


@pytest.mark.parametrize(
    ("data", "channels", "message"),
    [
        (b"abc", 1, "expected whole 16-bit samples of 1 channel(s), found 3 bytes"),
        (b"abcdef", 2, "expected whole 16-bit samples of 2 channel(s), found 6 bytes"),
        ("secret", 1, "expected a JSON object in a text message"),
        ('["secret"]', 1, "expected a JSON object, found list"),
        ("[" * 100_000, 1, "expected a JSON object in a text message"),
        ("1" * 10_000, 1, "expected a JSON object in a text message"),
    ],
)
def test_bad_messages(data: str | bytes, channels: int, message: str) -> None:
    with pytest.raises(InvalidMessage) as error:
        PCMSerializer(16000, channels).deserialize(data)
    assert str(error.value) == message


@given(st.binary(max_size=50) | st.text(max_size=50), st.integers(1, 3))
def test_only_ever_refuses(data: str | bytes, channels: int) -> None:
    with contextlib.suppress(InvalidMessage):
        PCMSerializer(16000, channels).deserialize(data)
