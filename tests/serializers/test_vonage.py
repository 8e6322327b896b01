"""Every message of Vonage's WebSocket guide, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voicews.exceptions import AudioFormatError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
)
from voicews.serializers.telephony import UnusableStart
from voicews.serializers.vonage import VonageSerializer

CALL = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def connected(content_type: object = "audio/l16;rate=16000") -> str:
    return json.dumps(
        {
            "event": "websocket:connected",
            "content-type": content_type,
            "call_uuid": CALL,
            "token": "3f9c",
        }
    )


def started(rate: int = 16000) -> VonageSerializer:
    serializer = VonageSerializer()
    serializer.deserialize(connected(f"audio/l16;rate={rate}"))
    return serializer


@pytest.mark.parametrize("nested", [False, True])
def test_connected_with_headers_beside_the_event_or_in_an_object(nested: bool) -> None:
    headers = {"call_uuid": CALL, "token": "3f9c"}
    first = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000"}
    message = {**first, "headers": headers} if nested else {**first, **headers}
    assert VonageSerializer().deserialize(json.dumps(message)) == CallStartedFrame(
        provider="vonage",
        call_id=CALL,
        parameters=headers,
        encoding="L16",
        sample_rate=16000,
    )


@pytest.mark.parametrize(("rate", "size"), [(8000, 320), (16000, 640), (24000, 960)])
def test_packets_of_exactly_20_ms(rate: int, size: int) -> None:
    serializer = started(rate)
    assert (serializer.sample_rate, serializer.packet_bytes) == (rate, size)
    pcm = bytes(range(160)) * (size // 160)
    assert serializer.serialize(OutputAudioRawFrame(pcm, rate)) == pcm
    assert serializer.serialize(OutputAudioRawFrame(pcm[:100], rate)) == pcm[:100].ljust(
        size, b"\0"
    )
    with pytest.raises(AudioFormatError, match=f"packets of {size} bytes, found {size + 2}"):
        serializer.serialize(OutputAudioRawFrame(pcm + b"\0\0", rate))
    assert serializer.deserialize(pcm) == InputAudioRawFrame(pcm, rate)


def test_a_split_sample_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="multiple of 2 bytes, found 1"):
        started().deserialize(b"\0")


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [
        (None, 24000),
        ("", 24000),
        (5, 24000),
        ("audio/l16", 24000),
        ("audio/l16;rate=16000;channels=1", 16000),
        ('Audio/L16; rate = "8000"', 8000),
        ("audio/l16;rate=44100", 44100),
        ("audio/l16;rate=fast", 24000),
        ("audio/x-vonage;rate=8000", 8000),
    ],
)
def test_what_the_content_type_leaves_open_is_what_was_asked_for(
    content_type: object, rate: int
) -> None:
    serializer = VonageSerializer(sample_rate=24000)
    frame = serializer.deserialize(connected(content_type))
    assert isinstance(frame, CallStartedFrame)
    assert (frame.encoding, frame.sample_rate, serializer.sample_rate) == ("L16", rate, rate)
    assert serializer.packet_bytes == rate // 50 * 2


@pytest.mark.parametrize(
    "content_type", ["audio/opus", "audio/PCMU", "audio/l16;rate=11025", "audio/l16;rate=7"]
)
def test_a_format_that_cannot_be_played_is_refused(content_type: str) -> None:
    with pytest.raises(UnusableStart):
        VonageSerializer().deserialize(connected(content_type))


def receive(serializer: VonageSerializer, **fields: Any) -> object:
    return serializer.deserialize(json.dumps(fields))


def test_events() -> None:
    serializer = started()
    key = receive(serializer, event="websocket:dtmf", digit="5", duration=260)
    assert key == InputDTMFFrame("5")
    assert receive(serializer, event="websocket:cleared") is None
    played = receive(serializer, event="websocket:notify", payload={"mark": "turn-7"})
    assert played == MarkPlayedFrame("turn-7")
    others: list[object] = [{"turn": 7}, {}, None, [], {"mark": 5}]
    for payload in others:
        assert receive(serializer, event="websocket:notify", payload=payload) is None
    assert serializer.unknown_events == 0
    assert receive(serializer, event="websocket:media:update", active=True) is None
    assert serializer.unknown_events == 1
    assert receive(serializer, event="websocket:disconnected") == CallEndedFrame(CALL)


def test_a_mark_is_a_notification_that_comes_back() -> None:
    serializer = started()
    notify = serializer.serialize(MarkFrame("turn-7", 1.0))
    assert isinstance(notify, str)
    assert json.loads(notify) == {"action": "notify", "payload": {"mark": "turn-7"}}
    assert serializer.serialize(InterruptionFrame()) == '{"action":"clear"}'
