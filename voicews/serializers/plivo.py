"""Plivo Audio Streaming, bidirectional.

Source: plivo.com/docs/voice-agents/audio-streaming.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from typing import Any, Final

import msgspec

from voicews.audio.codecs import Codec, get_codec
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    CallStartedFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
)
from voicews.serializers.telephony import (
    StreamState,
    TelephonySerializer,
    check_buttons,
    check_id,
    clip,
    decode_audio,
    decode_dtmf,
    parse_json,
    read_codec,
    read_parameters,
    to_json,
)

_SEPARATORS = re.compile("[;,]")

_EVENTS: Final = frozenset(
    ["start", "media", "playedStream", "clearedAudio", "dtmf", "stop", "error", "playFailed"]
)


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 on the wire
    track: str = "inbound"


class _MediaFormat(msgspec.Struct, rename="camel"):
    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000


class _Start(msgspec.Struct, rename="camel"):
    call_id: str
    stream_id: str
    account_id: str = ""
    media_format: _MediaFormat = msgspec.field(default_factory=_MediaFormat)


class _DTMF(msgspec.Struct):
    digit: str | int


class _Message(msgspec.Struct, gc=False):
    event: str
    stream_id: str = msgspec.field(name="streamId", default="")
    media: _Media | None = None
    dtmf: _DTMF | None = None
    start: _Start | None = None
    name: str = ""
    extra_headers: Any = None


# Lax: numbers come as strings here and as numbers there.
_decoder = msgspec.json.Decoder(_Message, strict=False)


class PlivoSerializer(TelephonySerializer):
    """JSON in text messages; mu-law of 8000 Hz or L16 of 8000 or 16000 Hz in base64.

    Both ways are in the codec that the start message names, which is the `contentType` of our
    answer. The documents name no event for the end: the socket is closed.
    """

    provider = "plivo"
    sends_dtmf = True

    def __init__(self) -> None:
        super().__init__()
        self._codec = get_codec("PCMU", 8000)
        self.sample_rate = 8000
        self._media_prefix = ""
        self._stream_json = ""

    @property
    def _send_codec(self) -> Codec:
        return self._codec

    def serialize(self, frame: Frame) -> str | bytes | None:
        if self.state is not StreamState.STARTED:
            return None
        if type(frame) is OutputAudioRawFrame:
            payload = b2a_base64(self._encode(frame), newline=False).decode("ascii")
            return f'{self._media_prefix}{payload}"}}}}'
        if isinstance(frame, MarkFrame):
            return f'{{"event":"checkpoint",{self._stream_json},"name":{json.dumps(frame.name)}}}'
        if isinstance(frame, InterruptionFrame):
            return f'{{"event":"clearAudio",{self._stream_json}}}'
        if isinstance(frame, OutputDTMFFrame):
            return to_json({"event": "sendDTMF", "dtmf": check_buttons(frame.buttons)})
        return None

    def deserialize(self, data: str | bytes) -> Frame | None:
        message = parse_json(_decoder, data)
        event = message.event
        if event == "media" and message.media is not None:
            if not self._accepts(message.stream_id) or message.media.track != "inbound":
                return None
            return decode_audio(self._codec, message.media.payload)
        return self._deserialize_event(event, message)

    def _deserialize_event(self, event: str, message: _Message) -> Frame | None:
        if event == "start" and message.start is not None:
            return self._start_stream(message.start, message.extra_headers)
        if event not in _EVENTS:
            self.unknown_events += 1
            return None
        if not self._accepts(message.stream_id):
            return None
        if event == "playedStream":
            return MarkPlayedFrame(message.name)
        if event == "clearedAudio":
            return None
        if event == "dtmf" and message.dtmf is not None:
            return decode_dtmf(message.dtmf.digit)
        if event == "stop":
            return self._end()
        if event in ("error", "playFailed"):
            return ErrorFrame(f"Plivo reports {event}", processor=self.provider)
        raise InvalidMessage(f"expected an object `{event}` in the event of that name")

    def _start_stream(self, start: _Start, extra_headers: Any) -> CallStartedFrame:
        wire = start.media_format
        codec = read_codec(wire.encoding, wire.sample_rate)
        if codec.name not in ("PCMU", "L16") or codec.sample_rate not in (8000, 16000):
            raise InvalidMessage("expected mu-law of 8000 Hz or L16 of 8000 or 16000 Hz")
        parameters = _read_extra_headers(extra_headers)
        stream_id = check_id(start.stream_id, "streamId")
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=check_id(start.call_id, "callId"),
            stream_id=stream_id,
            account_id=clip(start.account_id),
            from_number=parameters.get("from", ""),
            to_number=parameters.get("to", ""),
            parameters=parameters,
            encoding=codec.name,
            sample_rate=codec.sample_rate,
        )
        self._start(frame)
        self._codec = codec
        self.sample_rate = codec.sample_rate
        content_type = "audio/x-mulaw" if codec.name == "PCMU" else "audio/x-l16"
        self._stream_json = f'"streamId":"{stream_id}"'
        self._media_prefix = (
            f'{{"event":"playAudio","media":{{"contentType":"{content_type}",'
            f'"sampleRate":{codec.sample_rate},"payload":"'
        )
        return frame


def _read_extra_headers(headers: Any) -> dict[str, str]:
    """`k=v;k=v` in the guide, `k=v,k=v` in the XML reference, a JSON object elsewhere."""
    if isinstance(headers, str):
        if headers.lstrip().startswith("{"):
            try:
                headers = json.loads(headers)
            except (ValueError, RecursionError):
                return {}
        else:
            pairs = (pair.partition("=") for pair in _SEPARATORS.split(headers))
            headers = {name.strip(): value.strip() for name, sep, value in pairs if sep}
    return read_parameters(headers)
