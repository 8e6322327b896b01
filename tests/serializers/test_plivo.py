"""Every message of Plivo's audio streaming reference, both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
)
from voicews.serializers.plivo import PlivoSerializer

STREAM = "b77e037d-4119-44b5-902d-25826b654539"
CALL = "c8e2c6b4-9b4e-4f39-a29c-8c05e3b4d1f1"


def start(encoding: str = "audio/x-mulaw", rate: int | str = 8000, extra_headers: Any = "") -> str:
    body = {
        "callId": CALL,
        "streamId": STREAM,
        "accountId": "MAXXXXXXXXXXXXXXXXXX",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": encoding, "sampleRate": rate},
    }
    return json.dumps(
        {"event": "start", "sequenceNumber": 1, "start": body, "extra_headers": extra_headers}
    )


@pytest.fixture
def serializer() -> PlivoSerializer:
    serializer = PlivoSerializer()
    serializer.deserialize(start())
    return serializer


def receive(serializer: PlivoSerializer, event: str, **fields: Any) -> object:
    return serializer.deserialize(
        json.dumps({"event": event, "sequenceNumber": 75, "streamId": STREAM, **fields})
    )


def sent(serializer: PlivoSerializer, frame: Any) -> Any:
    message = serializer.serialize(frame)
    assert isinstance(message, str)
    return json.loads(message)


@pytest.mark.parametrize(
    "headers",
    [
        "token=3f9c;from=15551234567",
        "token=3f9c,from=15551234567",
        " token = 3f9c ; from = 15551234567 ; nothing",
        '{"token": "3f9c", "from": "15551234567"}',
        {"token": "3f9c", "from": 15551234567},
    ],
)
def test_start_with_extra_headers_in_every_form(headers: Any) -> None:
    assert PlivoSerializer().deserialize(start(extra_headers=headers)) == CallStartedFrame(
        provider="plivo",
        call_id=CALL,
        stream_id=STREAM,
        account_id="MAXXXXXXXXXXXXXXXXXX",
        from_number="15551234567",
        parameters={"token": "3f9c", "from": "15551234567"},
        encoding="PCMU",
        sample_rate=8000,
    )


@pytest.mark.parametrize("headers", [None, "", "{", "{" * 5000, "[]", 5, [], {"a": {"b": []}}])
def test_extra_headers_that_say_nothing(headers: Any) -> None:
    frame = PlivoSerializer().deserialize(start(extra_headers=headers))
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {}


def test_media_in_mulaw(serializer: PlivoSerializer) -> None:
    codes = bytes(range(160))
    payload = base64.b64encode(codes).decode()
    media = {"track": "inbound", "timestamp": "1705312200000", "chunk": 41, "payload": payload}
    frame = receive(serializer, "media", media=media)
    assert frame == InputAudioRawFrame(decode_ulaw(codes), 8000)
    assert receive(serializer, "media", media={**media, "track": "outbound"}) is None


@pytest.mark.parametrize("rate", [8000, 16000, "16000"])
def test_l16_both_ways(rate: int | str) -> None:
    serializer = PlivoSerializer()
    serializer.deserialize(start("audio/x-l16", rate))
    assert serializer.sample_rate == int(rate)
    pcm = bytes(range(128)) * 5
    payload = base64.b64encode(pcm).decode()
    frame = receive(serializer, "media", media={"payload": payload})
    assert frame == InputAudioRawFrame(pcm, int(rate))
    assert sent(serializer, OutputAudioRawFrame(pcm, int(rate))) == {
        "event": "playAudio",
        "media": {"contentType": "audio/x-l16", "sampleRate": int(rate), "payload": payload},
    }


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [("audio/x-l16", 44100), ("audio/x-l16", 0), ("PCMA", 8000), ("opus", 8000)],
)
def test_a_format_that_plivo_does_not_have_is_refused(encoding: str, rate: int) -> None:
    with pytest.raises(InvalidMessage):
        PlivoSerializer().deserialize(start(encoding, rate))


def test_dtmf_checkpoint_clear_and_stop(serializer: PlivoSerializer) -> None:
    dtmf = {"track": "inbound", "digit": "d", "timestamp": "1"}
    assert receive(serializer, "dtmf", dtmf=dtmf) == InputDTMFFrame("D")
    assert receive(serializer, "playedStream", name="turn-7") == MarkPlayedFrame("turn-7")
    assert receive(serializer, "clearedAudio") is None
    assert serializer.unknown_events == 0
    assert receive(serializer, "stop") == CallEndedFrame(CALL)


@pytest.mark.parametrize("event", ["error", "playFailed"])
def test_errors(serializer: PlivoSerializer, event: str) -> None:
    frame = receive(serializer, event, reason="secret")
    assert frame == ErrorFrame(f"Plivo reports {event}", processor="plivo")


def test_what_we_say(serializer: PlivoSerializer) -> None:
    pcm = bytes(range(160)) * 2
    assert sent(serializer, OutputAudioRawFrame(pcm, 8000)) == {
        "event": "playAudio",
        "media": {
            "contentType": "audio/x-mulaw",
            "sampleRate": 8000,
            "payload": base64.b64encode(encode_ulaw(pcm)).decode(),
        },
    }
    assert sent(serializer, MarkFrame('turn "7"', 1.0)) == {
        "event": "checkpoint",
        "streamId": STREAM,
        "name": 'turn "7"',
    }
    assert sent(serializer, InterruptionFrame()) == {"event": "clearAudio", "streamId": STREAM}
    assert serializer.sends_dtmf
    assert sent(serializer, OutputDTMFFrame("1234#")) == {"event": "sendDTMF", "dtmf": "1234#"}
    with pytest.raises(ValueError, match="buttons: expected"):
        serializer.serialize(OutputDTMFFrame("call me"))
