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
from voicews.serializers.telephony import UnusableStart

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
    ("media_format", "rate"),
    [
        ({"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"}, 8000),
        ({"encoding": "base64", "sample_rate": "8000Hz"}, 8000),
        ({"encoding": "raw/slin", "sample_rate": 8000, "bit_rate": 16}, 8000),
        ({"encoding": "audio/x-l16", "sample_rate": "16 kHz"}, 16000),
        ({"encoding": "pcm_s16le", "sample_rate": 24000.0}, 24000),
        ({"encoding": "LINEAR16", "sample_rate": ""}, 8000),
        ({"encoding": None, "sample_rate": None, "channels": "mono"}, 8000),
        ({"encoding": ["slin"], "sample_rate": {"hz": 8000}}, 8000),
        ("audio/x-raw", 8000),
        ([], 8000),
    ],
)
def test_a_format_that_is_described_in_other_words_is_pcm(media_format: Any, rate: int) -> None:
    serializer = ExotelSerializer()
    frame = serializer.deserialize(start(media_format))
    assert isinstance(frame, CallStartedFrame)
    assert (frame.encoding, frame.sample_rate, serializer.sample_rate) == ("L16", rate, rate)
    heard = receive(serializer, "media", media={"payload": "AAE="})
    assert heard == InputAudioRawFrame(b"\0\1", rate)


def test_an_encoding_that_nobody_knows_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    serializer = ExotelSerializer()
    serializer.deserialize(start({"encoding": "base64", "sample_rate": "8000"}))
    receive(serializer, "media", media={"payload": "AAE="})
    assert [record.getMessage() for record in caplog.records] == [
        "exotel: a stream says 'base64' at '8000', read as L16 at 8000 Hz"
    ]


@pytest.mark.parametrize("names", [("stream_sid", "call_sid"), ("streamSid", "callSid")])
@pytest.mark.parametrize("beside", [frozenset[int](), {0}, {1}, {0, 1}])
def test_ids_stand_in_the_start_or_beside_it(names: tuple[str, str], beside: set[int]) -> None:
    envelope: dict[str, Any] = {"event": "start", "start": {"from": 98765, "to": None}}
    for index, (name, value) in enumerate(zip(names, (STREAM, CALL), strict=True)):
        (envelope if index in beside else envelope["start"])[name] = value
    frame = ExotelSerializer().deserialize(json.dumps(envelope))
    assert isinstance(frame, CallStartedFrame)
    assert (frame.stream_id, frame.call_id, frame.from_number) == (STREAM, CALL, "98765")


@pytest.mark.parametrize(
    "fields",
    [
        {"call_sid": ""},
        {"call_sid": "../x"},
        {"call_sid": 5},
        {"stream_sid": "another one"},
        {"stream_sid": "MZ2"},
        {"media_format": {"encoding": "G722"}},
        {"media_format": {"encoding": "audio/opus"}},
        {"media_format": {"encoding": "AMR-WB"}},
        {"media_format": {"sample_rate": 1}},
        {"media_format": {"sample_rate": 10**9}},
    ],
)
def test_a_start_that_cannot_become_a_call_is_refused(fields: dict[str, Any]) -> None:
    serializer = ExotelSerializer()
    with pytest.raises(UnusableStart):
        serializer.deserialize(start(**fields))
    # What follows it is nothing to count, and nothing to hear.
    assert receive(serializer, "media", media={"payload": "AAE="}) is None


@pytest.mark.parametrize(
    ("stop", "reason"), [("callended", "callended"), (None, ""), ({"reason": 5}, "5"), ([], "")]
)
def test_the_end_is_the_end_however_it_is_described(
    serializer: ExotelSerializer, stop: Any, reason: str
) -> None:
    assert receive(serializer, "stop", stop=stop) == CallEndedFrame(CALL, reason)


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
