"""What holds for the stream of every provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.exceptions import AudioFormatError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    TextFrame,
)
from voicews.serializers.exotel import ExotelSerializer
from voicews.serializers.genesys import GenesysSerializer
from voicews.serializers.plivo import PlivoSerializer
from voicews.serializers.telephony import TelephonySerializer
from voicews.serializers.telnyx import TelnyxSerializer
from voicews.serializers.twilio import TwilioSerializer
from voicews.serializers.vonage import VonageSerializer

ULAW = base64.b64encode(bytes(range(160))).decode()


@dataclass
class Wire:
    """How a provider says what all of them say."""

    new: Callable[[], TelephonySerializer]
    start: dict[str, Any]
    media: dict[str, Any] | bytes
    dtmf: dict[str, Any]
    end: dict[str, Any] | None
    other_stream: dict[str, Any] | None = None


def genesys(kind: str, seq: int, parameters: dict[str, Any]) -> dict[str, Any]:
    envelope = {"version": "2", "type": kind, "id": "s-1", "seq": seq, "serverseq": 0}
    return {**envelope, "position": "PT0S", "parameters": parameters}


def offer(**changes: Any) -> dict[str, Any]:
    return {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000} | changes


WIRES = {
    "twilio": Wire(
        TwilioSerializer,
        {"event": "start", "streamSid": "MZ1", "start": {"streamSid": "MZ1", "callSid": "CA1"}},
        {"event": "media", "streamSid": "MZ1", "media": {"track": "inbound", "payload": ULAW}},
        {"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "5"}},
        {"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}},
        {"event": "media", "streamSid": "MZ2", "media": {"payload": ULAW}},
    ),
    "telnyx": Wire(
        TelnyxSerializer,
        {"event": "start", "stream_id": "S-1", "start": {"call_control_id": "v3:a_-"}},
        {"event": "media", "stream_id": "S-1", "media": {"track": "inbound", "payload": ULAW}},
        {"event": "dtmf", "stream_id": "S-1", "dtmf": {"digit": "5"}},
        {"event": "stop", "stream_id": "S-1"},
        {"event": "media", "stream_id": "S-2", "media": {"payload": ULAW}},
    ),
    "plivo": Wire(
        PlivoSerializer,
        {"event": "start", "start": {"callId": "c-1", "streamId": "b-1"}},
        {"event": "media", "streamId": "b-1", "media": {"track": "inbound", "payload": ULAW}},
        {"event": "dtmf", "streamId": "b-1", "dtmf": {"digit": 5}},
        {"event": "stop", "streamId": "b-1"},
        {"event": "media", "streamId": "b-2", "media": {"payload": ULAW}},
    ),
    "exotel": Wire(
        ExotelSerializer,
        {"event": "start", "stream_sid": "E1", "start": {"stream_sid": "E1", "call_sid": "C1"}},
        {"event": "media", "stream_sid": "E1", "media": {"chunk": 2, "payload": ULAW}},
        {"event": "dtmf", "stream_sid": "E1", "dtmf": {"digit": "5", "duration": "100"}},
        {"event": "stop", "stream_sid": "E1", "stop": {"reason": "callended"}},
        {"event": "media", "stream_sid": "E2", "media": {"payload": ULAW}},
    ),
    "vonage": Wire(
        VonageSerializer,
        {"event": "websocket:connected", "content-type": "audio/l16;rate=8000", "call_uuid": "u"},
        bytes(320),
        {"event": "websocket:dtmf", "digit": "5", "duration": 260},
        None,
    ),
    "genesys": Wire(
        GenesysSerializer,
        genesys(
            "open",
            1,
            {"conversationId": "c-1", "participant": {"id": "p"}, "media": [offer()]},
        ),
        bytes(160),
        genesys("dtmf", 2, {"digit": "5"}),
        genesys("close", 2, {"reason": "end"}),
    ),
}


def text(message: dict[str, Any] | bytes) -> str | bytes:
    return message if isinstance(message, bytes) else json.dumps(message)


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


def started(wire: Wire) -> TelephonySerializer:
    serializer = wire.new()
    frame = serializer.deserialize(text(wire.start))
    assert isinstance(frame, CallStartedFrame)
    assert frame.provider == serializer.provider
    assert serializer.call is frame
    return serializer


def test_media_becomes_audio(wire: Wire) -> None:
    frame = started(wire).deserialize(text(wire.media))
    assert isinstance(frame, InputAudioRawFrame)
    assert frame.sample_rate == 8000
    assert len(frame.audio) in (160, 320)


def test_a_key_becomes_a_frame(wire: Wire) -> None:
    assert started(wire).deserialize(text(wire.dtmf)) == InputDTMFFrame("5")


@pytest.mark.parametrize("name", [name for name, wire in WIRES.items() if wire.end])
def test_the_end_ends_it_once(name: str) -> None:
    wire = WIRES[name]
    assert wire.end is not None
    serializer = started(wire)
    frame = serializer.deserialize(text(wire.end))
    assert isinstance(frame, CallEndedFrame)
    assert serializer.call is not None
    assert frame.call_id == serializer.call.call_id
    assert serializer.deserialize(text(wire.media)) is None
    assert serializer.serialize(InterruptionFrame()) is None


def test_media_before_the_start_is_refused(wire: Wire) -> None:
    with pytest.raises(InvalidMessage, match="the start of the stream first"):
        wire.new().deserialize(text(wire.media))


def test_keys_before_the_start_are_refused(wire: Wire) -> None:
    message = wire.dtmf | ({"seq": 1} if "seq" in wire.dtmf else {})
    with pytest.raises(InvalidMessage, match="the start of the stream first"):
        wire.new().deserialize(json.dumps(message))


#: What providers say of a call, in shapes that nobody has announced.
ODD: list[Any] = [None, 5, 5.5, True, [], {}, "", "x" * 5000, ["a"], {"a": 1}]
IDS = {
    *("event", "start", "streamSid", "callSid", "stream_id", "call_control_id", "streamId"),
    *("callId", "stream_sid", "call_sid", "version", "type", "id", "seq", "serverseq"),
    *("parameters", "conversationId", "media"),
}
DESCRIPTIONS = {
    *("from", "to", "accountSid", "account_sid", "user_id", "accountId", "customParameters"),
    *("custom_parameters", "mediaFormat", "media_format", "client_state", "extra_headers"),
    *("content-type", "headers", "participant", "organizationId", "inputVariables", "language"),
    *("tracks", "sequenceNumber", "sequence_number", "position"),
}


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_call_starts_however_oddly_it_is_described(wire: Wire, odd: Any) -> None:
    def described(message: dict[str, Any]) -> dict[str, Any]:
        assert set(message) <= IDS | DESCRIPTIONS | {"call_uuid"}
        kept = {
            name: described(value) if name in ("start", "parameters") else value
            for name, value in message.items()
            if name in IDS | {"call_uuid"}
        }
        return dict.fromkeys(DESCRIPTIONS - kept.keys(), odd) | kept

    serializer = wire.new()
    frame = serializer.deserialize(json.dumps(described(wire.start)))
    assert isinstance(frame, CallStartedFrame)
    assert isinstance(serializer.deserialize(text(wire.media)), InputAudioRawFrame)


def test_a_second_start_is_refused(wire: Wire) -> None:
    serializer = started(wire)
    message = wire.start | ({"seq": 2} if "seq" in wire.start else {})
    with pytest.raises(InvalidMessage, match="one start of the stream"):
        serializer.deserialize(json.dumps(message))


@pytest.mark.parametrize("name", [name for name, wire in WIRES.items() if wire.other_stream])
def test_another_stream_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage, match="found another"):
        started(WIRES[name]).deserialize(json.dumps(WIRES[name].other_stream))


def test_a_key_that_no_telephone_has_is_refused(wire: Wire) -> None:
    message = json.dumps(wire.dtmf).replace('"5"', '"secret"').replace(": 5", ': "secret"')
    with pytest.raises(InvalidMessage, match="expected a digit") as caught:
        started(wire).deserialize(message)
    assert "secret" not in str(caught.value)


def test_an_unknown_event_is_counted(wire: Wire) -> None:
    serializer = started(wire)
    unknown = genesys("weather", 2, {}) if "seq" in wire.start else {"event": "weather"}
    assert serializer.deserialize(json.dumps(unknown)) is None
    assert serializer.unknown_events == 1


def test_nothing_is_said_before_the_start(wire: Wire) -> None:
    serializer = wire.new()
    audio = OutputAudioRawFrame(bytes(320), serializer.sample_rate)
    for frame in (audio, MarkFrame("m", 20.0), InterruptionFrame(), TextFrame("hello")):
        assert serializer.serialize(frame) is None


def test_other_frames_have_no_message(wire: Wire) -> None:
    assert started(wire).serialize(TextFrame("hello")) is None


def test_audio_at_another_rate_is_refused(wire: Wire) -> None:
    serializer = started(wire)
    with pytest.raises(AudioFormatError, match="found 1 channel.* of 44100 Hz"):
        serializer.serialize(OutputAudioRawFrame(bytes(320), 44100))
    with pytest.raises(AudioFormatError, match="found 2 channel"):
        serializer.serialize(OutputAudioRawFrame(bytes(320), serializer.sample_rate, 2))


def refused(serializer: TelephonySerializer, message: str | bytes) -> str:
    """Why a message is refused; empty if it is taken."""
    try:
        serializer.deserialize(message)
    except InvalidMessage as error:
        return str(error)
    return ""


HOSTILE = [
    "",
    "{",
    "[]",
    "null",
    "5",
    '"secret"',
    "{}",
    '{"event": 5}',
    '{"event": null}',
    '{"event": "media"}',
    '{"event": "media", "media": "secret"}',
    '{"event": "media", "media": {"payload": 7}}',
    '{"event": "media", "media": {"payload": "secret!"}}',
    '{"event": "start"}',
    '{"event": "start", "start": {}}',
    '{"event": "start", "start": {"callSid": "../secret", "streamSid": "x"}}',
    '{"event": "dtmf", "dtmf": {"digit": ""}}',
    '{"event": "mark", "mark": {}}',
    '{"event": "websocket:connected"}',
    '{"event": "websocket:connected", "content-type": "audio/l16;rate=99999"}',
    '{"version": "2", "type": "open", "id": "secret", "seq": 1, "serverseq": 0}',
    '{"version": "1", "type": "open", "id": "secret", "seq": 1, "serverseq": 0}',
    '{"event": "media", "x": ' + "[" * 100_000,
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"event": "media", "n": ' + "9" * 10_000 + "}",
    "\ud800",
    '{"event": "\ud800"}',
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_not_of_the_protocol_is_refused_without_repeating_it(
    wire: Wire, message: str
) -> None:
    refusal = refused(wire.new(), message)
    assert "secret" not in refusal
    assert len(refusal) < 200


@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "exotel"])
def test_binary_where_text_belongs_is_refused(name: str) -> None:
    with pytest.raises(InvalidMessage, match="found a binary one"):
        started(WIRES[name]).deserialize(b'{"event":"stop"}')


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.data())
@pytest.mark.parametrize("name", WIRES)
def test_no_message_makes_it_fail(name: str, data: st.DataObject) -> None:
    wire = WIRES[name]
    serializer = wire.new()
    messages = [wire.start, wire.media, wire.dtmf, wire.end or {}]
    for template in data.draw(st.lists(st.sampled_from(messages), max_size=5)):
        message: str | bytes
        if isinstance(template, bytes):
            message = data.draw(st.binary(max_size=50))
        else:
            changed = dict(template)
            key = data.draw(st.sampled_from([*template, "other"]))
            changed[key] = data.draw(json_values)
            for inner_key in [k for k, v in template.items() if isinstance(v, dict)]:
                inner = dict(template[inner_key])
                inner[data.draw(st.sampled_from([*inner, "other"]))] = data.draw(json_values)
                changed[inner_key] = inner
            message = json.dumps(changed)
        try:
            frame = serializer.deserialize(message)
        except InvalidMessage:
            continue
        assert frame is None or isinstance(frame, Frame)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_bytes_make_it_fail(message: str | bytes) -> None:
    for wire in WIRES.values():
        for serializer in (wire.new(), started(wire)):
            assert len(refused(serializer, message)) < 200
