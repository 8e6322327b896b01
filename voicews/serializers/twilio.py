"""Twilio Media Streams, bidirectional (`<Connect><Stream>`).

Source: twilio.com/docs/voice/media-streams/websocket-messages.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, Final

import msgspec

from voicews.audio.codecs import get_codec
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    CallStartedFrame,
    Frame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
)
from voicews.serializers.telephony import (
    StreamState,
    TelephonySerializer,
    check_id,
    clip,
    decode_audio,
    decode_dtmf,
    parse_json,
    read_parameters,
    to_json,
)

_PCMU = get_codec("PCMU", 8000)

_EVENTS: Final = frozenset(["start", "media", "mark", "dtmf", "stop"])


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 on the wire
    track: str = "inbound"


class _Start(msgspec.Struct, rename="camel"):
    call_sid: str
    stream_sid: str
    account_sid: str = ""
    custom_parameters: Any = None


class _DTMF(msgspec.Struct):
    digit: str | int


class _Mark(msgspec.Struct):
    name: str


class _Message(msgspec.Struct, rename="camel", gc=False):
    event: str
    stream_sid: str = ""
    media: _Media | None = None
    mark: _Mark | None = None
    dtmf: _DTMF | None = None
    start: _Start | None = None


_decoder = msgspec.json.Decoder(_Message)


class TwilioSerializer(TelephonySerializer):
    """JSON in text messages, mu-law of 8000 Hz in base64 both ways."""

    provider = "twilio"
    sample_rate = 8000
    _send_codec = _PCMU

    def __init__(self) -> None:
        super().__init__()
        self._media_prefix = ""
        self._stream_json = ""

    def serialize(self, frame: Frame) -> str | bytes | None:
        if self.state is not StreamState.STARTED:
            return None
        # Twilio refuses messages with a field too many or too few (31951).
        if type(frame) is OutputAudioRawFrame:
            payload = b2a_base64(self._encode(frame), newline=False).decode("ascii")
            return f'{self._media_prefix}{payload}"}}}}'
        if isinstance(frame, MarkFrame):
            mark = to_json({"name": frame.name})
            return f'{{"event":"mark",{self._stream_json},"mark":{mark}}}'
        if isinstance(frame, InterruptionFrame):
            return f'{{"event":"clear",{self._stream_json}}}'
        return None

    def deserialize(self, data: str | bytes) -> Frame | None:
        message = parse_json(_decoder, data)
        event = message.event
        if event == "media" and message.media is not None:
            if not self._accepts(message.stream_sid) or message.media.track != "inbound":
                return None
            return decode_audio(_PCMU, message.media.payload)
        return self._deserialize_event(event, message)

    def _deserialize_event(self, event: str, message: _Message) -> Frame | None:
        if event == "connected":
            return None
        if event == "start" and message.start is not None:
            return self._start_stream(message.start)
        if event not in _EVENTS:
            self.unknown_events += 1
            return None
        if not self._accepts(message.stream_sid):
            return None
        if event == "stop":
            return self._end()
        if event == "mark" and message.mark is not None:
            return MarkPlayedFrame(message.mark.name)
        if event == "dtmf" and message.dtmf is not None:
            return decode_dtmf(message.dtmf.digit)
        raise InvalidMessage(f"expected an object `{event}` in the event of that name")

    def _start_stream(self, start: _Start) -> CallStartedFrame:
        stream_sid = check_id(start.stream_sid, "streamSid")
        parameters = read_parameters(start.custom_parameters)
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=check_id(start.call_sid, "callSid"),
            stream_id=stream_sid,
            account_id=clip(start.account_sid),
            from_number=parameters.get("from", ""),
            to_number=parameters.get("to", ""),
            parameters=parameters,
            encoding=_PCMU.name,
            sample_rate=_PCMU.sample_rate,
        )
        self._start(frame)
        self._stream_json = f'"streamSid":"{stream_sid}"'
        self._media_prefix = f'{{"event":"media",{self._stream_json},"media":{{"payload":"'
        return frame
