"""Every message of Telnyx's media streaming guide, both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from voicews.audio.codecs import ByteOrder
from voicews.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from voicews.exceptions import AudioFormatError, InvalidMessage
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
)
from voicews.serializers.telnyx import TelnyxSerializer

STREAM = "32DE0DEA-53CB-4B21-89A4-9E1819C043BC"
CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"
CODES = bytes(range(160))


def start(encoding: str = "PCMU", rate: int = 8000, **fields: Any) -> str:
    body = {
        "user_id": "3E6F995F",
        "call_control_id": CALL,
        "call_session_id": "ff55a038-6f5d-11ef-9692-02420aeffb1f",
        "from": "+13122010094",
        "to": "+13122123456",
        "media_format": {"encoding": encoding, "sample_rate": rate, "channels": 1},
        **fields,
    }
    return json.dumps(
        {"event": "start", "sequence_number": "1", "stream_id": STREAM, "start": body}
    )


def media(codes: bytes = CODES, chunk: int | str | None = None, track: str = "inbound") -> str:
    body = {"track": track, "timestamp": "5", "payload": base64.b64encode(codes).decode()}
    if chunk is not None:
        body["chunk"] = str(chunk)
    return json.dumps({"event": "media", "stream_id": STREAM, "media": body})


def started(**options: Any) -> TelnyxSerializer:
    serializer = TelnyxSerializer(**options)
    serializer.deserialize(start())
    return serializer


def test_connected_says_nothing_whatever_it_carries() -> None:
    serializer = TelnyxSerializer()
    assert serializer.deserialize('{"event":"connected","version":"1.0.0"}') is None
    token = {"event": "connected", "connected": {"x-telnyx-streaming-auth-token": "t"}}
    assert serializer.deserialize(json.dumps(token)) is None


def test_start() -> None:
    assert TelnyxSerializer().deserialize(start()) == CallStartedFrame(
        provider="telnyx",
        call_id=CALL,
        stream_id=STREAM,
        account_id="3E6F995F",
        from_number="+13122010094",
        to_number="+13122123456",
        encoding="PCMU",
        sample_rate=8000,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"custom_parameters": {"token": "3f9c"}},
        {"customParameters": {"token": "3f9c"}},
        {"custom_parameters": [{"name": "token", "value": "3f9c"}, {"name": []}, 5]},
        {"client_state": base64.b64encode(b'{"token":"3f9c"}').decode()},
    ],
)
def test_parameters_wherever_they_come(fields: dict[str, Any]) -> None:
    frame = TelnyxSerializer().deserialize(start(**fields))
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {"token": "3f9c"}


@pytest.mark.parametrize("state", [None, "", "%%%", "aGF2ZSBhIG5pY2UgZGF5ID1d", "W10="])
def test_a_client_state_of_the_project_is_left_alone(state: str | None) -> None:
    frame = TelnyxSerializer().deserialize(start(client_state=state))
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {}


@pytest.mark.parametrize(
    ("encoding", "pcm"),
    [
        ("PCMU", decode_ulaw(CODES)),
        ("audio/x-mulaw", decode_ulaw(CODES)),
        ("PCMA", decode_alaw(CODES)),
    ],
)
def test_we_decode_what_the_start_says(encoding: str, pcm: bytes) -> None:
    serializer = TelnyxSerializer()
    serializer.deserialize(start(encoding))
    assert serializer.deserialize(media()) == InputAudioRawFrame(pcm, 8000)


def test_l16_in_the_order_that_is_set() -> None:
    orders: list[tuple[ByteOrder, bytes]] = [("big", b"\x02\x01"), ("little", b"\x01\x02")]
    for order, expected in orders:
        serializer = TelnyxSerializer(
            send_codec="L16", send_sample_rate=16000, l16_byte_order=order
        )
        serializer.deserialize(start("L16", 16000))
        assert serializer.deserialize(media(b"\x01\x02")) == InputAudioRawFrame(expected, 16000)
        sent = serializer.serialize(OutputAudioRawFrame(expected, 16000))
        assert isinstance(sent, str)
        assert base64.b64decode(json.loads(sent)["media"]["payload"]) == b"\x01\x02"


def test_g722_is_wideband() -> None:
    serializer = TelnyxSerializer()
    serializer.deserialize(start("G722"))
    frame = serializer.deserialize(media())
    assert isinstance(frame, InputAudioRawFrame)
    assert (frame.sample_rate, len(frame.audio)) == (16000, 640)


@pytest.mark.parametrize(("encoding", "rate"), [("OPUS", 8000), ("AMR-WB", 16000), ("L16", 7)])
def test_a_format_that_we_cannot_take_is_refused(encoding: str, rate: int) -> None:
    with pytest.raises(InvalidMessage):
        TelnyxSerializer().deserialize(start(encoding, rate))
    with pytest.raises(AudioFormatError):
        TelnyxSerializer(send_codec="OPUS")


def test_the_send_codec_is_independent() -> None:
    serializer = TelnyxSerializer(send_codec="PCMA")
    serializer.deserialize(start("PCMU"))
    pcm = bytes(range(160)) * 2
    sent = serializer.serialize(OutputAudioRawFrame(pcm, 8000))
    assert isinstance(sent, str)
    payload = base64.b64encode(encode_alaw(pcm)).decode()
    assert json.loads(sent) == {"event": "media", "media": {"payload": payload}}
    assert serializer.deserialize(media()) == InputAudioRawFrame(decode_ulaw(CODES), 8000)


def test_media_out_of_order_is_put_right() -> None:
    serializer = started()
    assert serializer.deserialize(media(b"\x01", 1)) is not None
    assert serializer.deserialize(media(b"\x03", 3)) is None
    frame = serializer.deserialize(media(b"\x02", 2))
    assert frame == InputAudioRawFrame(decode_ulaw(b"\x02\x03"), 8000)
    assert serializer.deserialize(media(b"\x02", 2)) is None
    assert serializer.reordering.dropped == 1


def test_media_of_the_other_track_is_not_the_caller() -> None:
    assert started().deserialize(media(track="outbound")) is None


def test_dtmf_mark_and_stop() -> None:
    serializer = started()

    def receive(event: str, **fields: Any) -> object:
        return serializer.deserialize(
            json.dumps({"event": event, "stream_id": STREAM, "sequence_number": "5", **fields})
        )

    assert receive("dtmf", dtmf={"digit": "1"}, occurred_at="2025-06-05") == InputDTMFFrame("1")
    assert receive("mark", mark={"name": "turn-7"}) == MarkPlayedFrame("turn-7")
    assert receive("stop", stop={"call_control_id": CALL}) == CallEndedFrame(CALL)


@pytest.mark.parametrize("key", ["payload", "error"])
@pytest.mark.parametrize("code", [100005, "100005"])
def test_errors_in_both_forms(key: str, code: object) -> None:
    body = {"title": "rate_limit_reached", "code": code, "detail": "Too many requests"}
    frame = started().deserialize(json.dumps({"event": "error", "stream_id": STREAM, key: body}))
    assert frame == ErrorFrame("Telnyx reports error 100005", processor="telnyx")


def test_mark_and_clear_name_no_stream() -> None:
    serializer = started()
    assert serializer.serialize(MarkFrame("m", 1.0)) == '{"event":"mark","mark":{"name":"m"}}'
    assert serializer.serialize(InterruptionFrame()) == '{"event":"clear"}'


def test_packets_of_20_ms() -> None:
    assert TelnyxSerializer().packet_bytes == 320
    wide = TelnyxSerializer(send_codec="L16", send_sample_rate=24000)
    assert (wide.sample_rate, wide.packet_bytes) == (24000, 960)
    silence = started().serialize(OutputAudioRawFrame(bytes(320), 8000))
    assert isinstance(silence, str)
    assert base64.b64decode(json.loads(silence)["media"]["payload"]) == b"\xff" * 160
    assert encode_ulaw(bytes(2)) == b"\xff"
