"""Every message of twilio.com/docs/voice/media-streams/websocket-messages, both ways."""

from __future__ import annotations

import base64
import json

import pytest

from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
)
from voicews.serializers.twilio import TwilioSerializer

STREAM = "MZ" + "1" * 32
CALL = "CA" + "2" * 32
ACCOUNT = "AC" + "3" * 32
START = f"""{{"event":"start","sequenceNumber":"1","streamSid":"{STREAM}",
 "start":{{"accountSid":"{ACCOUNT}","streamSid":"{STREAM}",
   "callSid":"{CALL}","tracks":["inbound"],
   "mediaFormat":{{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}},
   "customParameters":{{"FirstName":"Jane","token":"3f9c","from":"+15551234567"}}}}}}"""


@pytest.fixture
def serializer() -> TwilioSerializer:
    serializer = TwilioSerializer()
    serializer.deserialize(START)
    return serializer


def message(event: str, **fields: object) -> str:
    return json.dumps({"event": event, "sequenceNumber": "4", "streamSid": STREAM, **fields})


def test_connected_says_nothing() -> None:
    connected = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
    assert TwilioSerializer().deserialize(connected) is None


def test_start() -> None:
    frame = TwilioSerializer().deserialize(START)
    assert frame == CallStartedFrame(
        provider="twilio",
        call_id=CALL,
        stream_id=STREAM,
        account_id=ACCOUNT,
        from_number="+15551234567",
        parameters={"FirstName": "Jane", "token": "3f9c", "from": "+15551234567"},
        encoding="PCMU",
        sample_rate=8000,
    )
    assert "3f9c" not in repr(frame)


def test_start_without_parameters() -> None:
    start = {"event": "start", "start": {"streamSid": STREAM, "callSid": CALL}}
    frame = TwilioSerializer().deserialize(json.dumps(start))
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {}


def test_media(serializer: TwilioSerializer) -> None:
    codes = bytes(range(160))
    media = {"track": "inbound", "chunk": "2", "timestamp": "5"}
    payload = base64.b64encode(codes).decode()
    frame = serializer.deserialize(message("media", media={**media, "payload": payload}))
    assert frame == InputAudioRawFrame(decode_ulaw(codes), 8000)


def test_media_of_the_other_track_is_not_the_caller(serializer: TwilioSerializer) -> None:
    media = {"track": "outbound", "payload": "/w=="}
    assert serializer.deserialize(message("media", media=media)) is None


def test_dtmf_mark_and_stop(serializer: TwilioSerializer) -> None:
    dtmf = {"track": "inbound_track", "digit": "#"}
    assert serializer.deserialize(message("dtmf", dtmf=dtmf)) == InputDTMFFrame("#")
    mark = {"name": "my label"}
    assert serializer.deserialize(message("mark", mark=mark)) == MarkPlayedFrame("my label")
    stop = {"accountSid": ACCOUNT, "callSid": CALL}
    assert serializer.deserialize(message("stop", stop=stop)) == CallEndedFrame(CALL)


def test_audio_mark_and_clear_have_no_field_too_many(serializer: TwilioSerializer) -> None:
    pcm = bytes(range(256)) + bytes(64)
    sent = serializer.serialize(OutputAudioRawFrame(pcm, 8000))
    assert isinstance(sent, str)
    assert json.loads(sent) == {
        "event": "media",
        "streamSid": STREAM,
        "media": {"payload": base64.b64encode(encode_ulaw(pcm)).decode()},
    }
    sent = serializer.serialize(MarkFrame('turn "7"', 20.0))
    assert isinstance(sent, str)
    assert json.loads(sent) == {
        "event": "mark",
        "streamSid": STREAM,
        "mark": {"name": 'turn "7"'},
    }
    sent = serializer.serialize(InterruptionFrame())
    assert isinstance(sent, str)
    assert json.loads(sent) == {"event": "clear", "streamSid": STREAM}


def test_keys_are_not_for_this_socket(serializer: TwilioSerializer) -> None:
    assert not serializer.sends_dtmf
    assert serializer.serialize(OutputDTMFFrame("1")) is None


def test_what_it_asks_of_the_transport(serializer: TwilioSerializer) -> None:
    assert serializer.sample_rate == 8000
    assert serializer.packet_bytes is None
    assert serializer.acknowledges_marks
