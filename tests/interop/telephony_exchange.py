"""Pipecat's telephony serializers and ours read and write the same calls.

Runs in the environment that has Pipecat; test_telephony_serializers.py starts it there.
"""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: disable-error-code=import-untyped

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pipecat.frames import frames as pipecat
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

from voicews.audio.g711 import encode_alaw, encode_ulaw
from voicews.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame
from voicews.frames import OutputAudioRawFrame as OurAudio
from voicews.serializers.exotel import ExotelSerializer
from voicews.serializers.plivo import PlivoSerializer
from voicews.serializers.telephony import TelephonySerializer
from voicews.serializers.telnyx import TelnyxSerializer
from voicews.serializers.twilio import TwilioSerializer
from voicews.serializers.vonage import VonageSerializer

STREAM = "MZ00000000000000000000000000000000"
CALL = "CA00000000000000000000000000000000"
#: Speech-like: every value of a codec's, loud and soft.
SAMPLES = (np.sin(np.arange(1600) / 7) * np.linspace(0, 32000, 1600)).astype("<i2").tobytes()

Message = str | bytes


def no_hang_up(serializer: Any) -> Any:
    return serializer.InputParams(auto_hang_up=False)


@dataclass(frozen=True)
class Provider:
    """How both speak with one provider."""

    theirs: Callable[[], Any]
    ours: Callable[[], TelephonySerializer]
    start: str
    #: The caller's audio and keys, as messages.
    media: Callable[[int, bytes], Message]
    key: Callable[[str], str]
    encode: Callable[[bytes], bytes]
    packet_bytes: int = 320


def twilio_media(number: int, audio: bytes) -> str:
    media = {"track": "inbound", "chunk": str(number), "payload": b64encode(audio).decode()}
    return json.dumps({"event": "media", "streamSid": STREAM, "media": media})


def telnyx_media(number: int, audio: bytes) -> str:
    media = {"track": "inbound", "chunk": str(number), "payload": b64encode(audio).decode()}
    return json.dumps({"event": "media", "stream_id": STREAM, "media": media})


def plivo_media(number: int, audio: bytes) -> str:
    media = {"track": "inbound", "chunk": number, "payload": b64encode(audio).decode()}
    return json.dumps({"event": "media", "streamId": STREAM, "media": media})


def exotel_media(number: int, audio: bytes) -> str:
    media = {"chunk": str(number), "payload": b64encode(audio).decode()}
    return json.dumps({"event": "media", "stream_sid": STREAM, "media": media})


def telnyx(codec: str) -> Provider:
    return Provider(
        theirs=lambda: TelnyxFrameSerializer(
            STREAM,
            codec,
            codec,
            params=TelnyxFrameSerializer.InputParams(auto_hang_up=False),
        ),
        ours=lambda: TelnyxSerializer(send_codec=codec),
        start=json.dumps(
            {
                "event": "start",
                "stream_id": STREAM,
                "start": {
                    "call_control_id": "v3:abc",
                    "media_format": {"encoding": codec, "sample_rate": 8000, "channels": 1},
                },
            }
        ),
        media=telnyx_media,
        key=lambda digit: json.dumps(
            {"event": "dtmf", "stream_id": STREAM, "dtmf": {"digit": digit}}
        ),
        encode=encode_ulaw if codec == "PCMU" else encode_alaw,
    )


PROVIDERS = {
    "twilio": Provider(
        theirs=lambda: TwilioFrameSerializer(STREAM, params=no_hang_up(TwilioFrameSerializer)),
        ours=TwilioSerializer,
        start=json.dumps(
            {
                "event": "start",
                "streamSid": STREAM,
                "start": {"callSid": CALL, "streamSid": STREAM, "tracks": ["inbound"]},
            }
        ),
        media=twilio_media,
        key=lambda digit: json.dumps(
            {
                "event": "dtmf",
                "streamSid": STREAM,
                "dtmf": {"track": "inbound_track", "digit": digit},
            }
        ),
        encode=encode_ulaw,
    ),
    "telnyx PCMU": telnyx("PCMU"),
    "telnyx PCMA": telnyx("PCMA"),
    "plivo": Provider(
        theirs=lambda: PlivoFrameSerializer(STREAM, params=no_hang_up(PlivoFrameSerializer)),
        ours=PlivoSerializer,
        start=json.dumps({"event": "start", "start": {"callId": CALL, "streamId": STREAM}}),
        media=plivo_media,
        key=lambda digit: json.dumps(
            {"event": "dtmf", "streamId": STREAM, "dtmf": {"digit": digit}}
        ),
        encode=encode_ulaw,
    ),
    "exotel": Provider(
        theirs=lambda: ExotelFrameSerializer(STREAM),
        ours=ExotelSerializer,
        start=json.dumps(
            {
                "event": "start",
                "stream_sid": STREAM,
                "start": {"call_sid": CALL, "stream_sid": STREAM},
            }
        ),
        media=exotel_media,
        key=lambda digit: json.dumps(
            {"event": "dtmf", "stream_sid": STREAM, "dtmf": {"digit": digit, "duration": "100"}}
        ),
        encode=bytes,
        packet_bytes=3200,
    ),
    "vonage": Provider(
        theirs=lambda: VonageFrameSerializer(
            VonageFrameSerializer.InputParams(vonage_sample_rate=8000)
        ),
        ours=VonageSerializer,
        start=json.dumps(
            {
                "event": "websocket:connected",
                "content-type": "audio/l16;rate=8000",
                "call_uuid": "u",
            }
        ),
        media=lambda number, audio: audio,
        key=lambda digit: json.dumps({"event": "websocket:dtmf", "digit": digit, "duration": 260}),
        encode=bytes,
    ),
}

EACH = pytest.mark.parametrize("name", PROVIDERS)


async def pair(name: str) -> tuple[Any, TelephonySerializer, Provider]:
    """Theirs and ours, in a call that has started."""
    provider = PROVIDERS[name]
    theirs, ours = provider.theirs(), provider.ours()
    await theirs.setup(SimpleNamespace(audio_in_sample_rate=8000, audio_out_sample_rate=8000))
    assert await theirs.deserialize(provider.start) is None
    assert ours.deserialize(provider.start) is not None
    return theirs, ours, provider


def packets(pcm: bytes, size: int) -> list[bytes]:
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


@EACH
async def test_the_callers_audio(name: str) -> None:
    theirs, ours, provider = await pair(name)
    for number, packet in enumerate(packets(SAMPLES, 320), 1):
        message = provider.media(number, provider.encode(packet))
        expected = await theirs.deserialize(message)
        found = ours.deserialize(message)
        assert isinstance(found, InputAudioRawFrame)
        assert (found.audio, found.sample_rate) == (expected.audio, expected.sample_rate)


@EACH
async def test_the_callers_keys(name: str) -> None:
    theirs, ours, provider = await pair(name)
    for digit in "0123456789*#":
        message = provider.key(digit)
        expected = await theirs.deserialize(message)
        found = ours.deserialize(message)
        assert isinstance(found, InputDTMFFrame)
        assert found.button == expected.button.value == digit


def plain(message: Message) -> Any:
    """What a message says, whatever the order and the spaces."""
    if isinstance(message, bytes):
        return message
    content = json.loads(message)
    if content.get("event") == "playAudio":
        # Theirs has the stream's id here, which the reference doesn't.
        content.pop("streamId", None)
    return content


@EACH
async def test_the_bots_audio(name: str) -> None:
    theirs, ours, provider = await pair(name)
    for packet in packets(SAMPLES, provider.packet_bytes):
        expected = await theirs.serialize(
            pipecat.OutputAudioRawFrame(audio=packet, sample_rate=8000, num_channels=1)
        )
        found = ours.serialize(OurAudio(packet, 8000))
        assert found is not None
        assert plain(found) == plain(expected)


@EACH
async def test_an_interruption(name: str) -> None:
    theirs, ours, _ = await pair(name)
    expected = await theirs.serialize(pipecat.InterruptionFrame())
    found = ours.serialize(InterruptionFrame())
    assert found is not None
    assert plain(found) == plain(expected)


@EACH
async def test_messages_that_neither_makes_audio_of(name: str) -> None:
    theirs, ours, _ = await pair(name)
    for message in ('{"event":"clearedAudio"}', '{"event":"something:new"}'):
        assert await theirs.deserialize(message) is None
        assert ours.deserialize(message) is None
