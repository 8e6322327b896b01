"""Every message of Exotel's AgentStream protocol, both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from voicews.audio.g711 import decode_ulaw
from voicews.exceptions import ConfigurationError, InvalidMessage
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
from voicews.serializers.exotel import ExotelSerializer

STREAM, CALL = "MZ1", "c0ffee"


def start(media_format: dict[str, Any] | None = None, **fields: Any) -> str:
    body: dict[str, Any] = {
        "stream_sid": STREAM,
        "call_sid": CALL,
        "account_sid": "acme",
        "from": "09876543210",
        "to": "08047112233",
        "custom_parameters": {"token": "3f9c"},
        "media_format": media_format
        or {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
        **fields,
    }
    return json.dumps(
        {"event": "start", "sequence_number": "1", "stream_sid": STREAM, "start": body}
    )


@pytest.fixture
def serializer() -> ExotelSerializer:
    serializer = ExotelSerializer()
    serializer.deserialize('{"event":"connected"}')
    serializer.deserialize(start())
    return serializer


def receive(serializer: ExotelSerializer, event: str, **fields: Any) -> object:
    return serializer.deserialize(
        json.dumps({"event": event, "sequence_number": 3, "stream_sid": STREAM, **fields})
    )


def test_start() -> None:
    assert ExotelSerializer().deserialize(start()) == CallStartedFrame(
        provider="exotel",
        call_id=CALL,
        stream_id=STREAM,
        account_id="acme",
        from_number="09876543210",
        to_number="08047112233",
        parameters={"token": "3f9c"},
        encoding="L16",
        sample_rate=8000,
    )


def test_numbers_may_be_numbers() -> None:
    serializer = ExotelSerializer()
    frame = serializer.deserialize(
        start({"encoding": "audio/x-raw", "sample_rate": 16000}, **{"from": 9876543210})
    )
    assert isinstance(frame, CallStartedFrame)
    assert (frame.from_number, frame.sample_rate) == ("9876543210", 16000)
    assert serializer.sample_rate == 16000


def test_the_start_is_trusted_when_it_says_mulaw() -> None:
    serializer = ExotelSerializer()
    serializer.deserialize(start({"encoding": "audio/x-mulaw", "sample_rate": 8000}))
    frame = receive(serializer, "media", media={"payload": "AAE="})
    assert frame == InputAudioRawFrame(decode_ulaw(b"\0\1"), 8000)
    assert serializer.packet_bytes == 6400


@pytest.mark.parametrize(
    "media_format",
    [{"encoding": "G722"}, {"encoding": "opus"}, {"sample_rate": 1}, {"sample_rate": 10**9}],
)
def test_a_format_that_we_cannot_take_is_refused(media_format: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        ExotelSerializer().deserialize(start(media_format))


def test_media_dtmf_mark_and_stop(serializer: ExotelSerializer) -> None:
    pcm = bytes(range(160)) * 10
    media = {"chunk": "2", "timestamp": "200", "payload": base64.b64encode(pcm).decode()}
    assert receive(serializer, "media", media=media) == InputAudioRawFrame(pcm, 8000)
    dtmf = {"digit": "5", "duration": "100"}
    assert receive(serializer, "dtmf", dtmf=dtmf) == InputDTMFFrame("5")
    assert receive(serializer, "mark", mark={"name": "t"}) == MarkPlayedFrame("t")
    stop = {"call_sid": CALL, "account_sid": "acme", "reason": "callended"}
    assert receive(serializer, "stop", stop=stop) == CallEndedFrame(CALL, "callended")


def test_a_split_sample_is_refused(serializer: ExotelSerializer) -> None:
    with pytest.raises(InvalidMessage, match="multiple of 2 bytes, found 1"):
        receive(serializer, "media", media={"payload": "AA=="})


def test_what_we_say(serializer: ExotelSerializer) -> None:
    pcm = bytes(3200)
    media = serializer.serialize(OutputAudioRawFrame(pcm, 8000))
    mark = serializer.serialize(MarkFrame("t", 1.0))
    clear = serializer.serialize(InterruptionFrame())
    assert isinstance(media, str)
    assert isinstance(mark, str)
    assert isinstance(clear, str)
    payload = base64.b64encode(pcm).decode()
    assert json.loads(media) == {
        "event": "media",
        "stream_sid": STREAM,
        "media": {"payload": payload},
    }
    assert json.loads(mark) == {"event": "mark", "stream_sid": STREAM, "mark": {"name": "t"}}
    assert json.loads(clear) == {"event": "clear", "stream_sid": STREAM}


def test_chunks_are_of_the_size_that_is_set() -> None:
    assert ExotelSerializer().packet_bytes == 3200
    assert ExotelSerializer(chunk_bytes=640).packet_bytes == 640


@pytest.mark.parametrize("size", [0, 100, 321, 100_160])
def test_a_size_that_exotel_does_not_take_is_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match="multiple of 320 up to 100000"):
        ExotelSerializer(chunk_bytes=size)
