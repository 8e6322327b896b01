"""Exotel AgentStream (the Voicebot applet).

Source: developer.exotel.com/docs/agentstream/websocket-protocol.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, Final

import msgspec

from voicews.audio.codecs import Codec, get_codec
from voicews.exceptions import ConfigurationError, InvalidMessage
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
    read_codec,
    read_parameters,
    to_json,
)

#: Audio that is no multiple of this (bytes of PCM) is heard with clicks.
CHUNK_STEP = 320
MAX_CHUNK = 100_000

_EVENTS: Final = frozenset(["start", "media", "mark", "dtmf", "stop"])


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 on the wire


class _MediaFormat(msgspec.Struct):
    encoding: str = "audio/x-raw"
    sample_rate: int = 8000


class _Start(msgspec.Struct):
    call_sid: str
    stream_sid: str
    account_sid: str | None = None
    from_: str | int | None = msgspec.field(name="from", default=None)
    to: str | int | None = None
    custom_parameters: Any = None
    media_format: _MediaFormat = msgspec.field(default_factory=_MediaFormat)


class _DTMF(msgspec.Struct):
    digit: str | int


class _Mark(msgspec.Struct):
    name: str


class _Stop(msgspec.Struct):
    reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    event: str
    stream_sid: str = ""
    media: _Media | None = None
    mark: _Mark | None = None
    dtmf: _DTMF | None = None
    start: _Start | None = None
    stop: _Stop | None = None


# Lax: numbers come as strings here and as numbers there.
_decoder = msgspec.json.Decoder(_Message, strict=False)


class ExotelSerializer(TelephonySerializer):
    """JSON in text messages, PCM in base64 both ways at the rate that the start message names.

    `chunk_bytes` is the size of a media message's audio: 3200 by the reference, which is 200 ms at
    8000 Hz; a smaller one lets an interruption be heard sooner, but may leave gaps. Raises
    `ConfigurationError` unless it is a multiple of 320, up to 100,000.
    """

    provider = "exotel"

    def __init__(self, *, chunk_bytes: int = 3200) -> None:
        super().__init__()
        if not CHUNK_STEP <= chunk_bytes <= MAX_CHUNK or chunk_bytes % CHUNK_STEP:
            raise ConfigurationError(
                f"chunk_bytes: expected a multiple of {CHUNK_STEP} up to {MAX_CHUNK}, "
                f"found {chunk_bytes}"
            )
        self._chunk_bytes = chunk_bytes
        self._codec = get_codec("L16", 8000)
        self.sample_rate = 8000
        self.packet_bytes = chunk_bytes
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
            mark = to_json({"name": frame.name})
            return f'{{"event":"mark",{self._stream_json},"mark":{mark}}}'
        if isinstance(frame, InterruptionFrame):
            return f'{{"event":"clear",{self._stream_json}}}'
        return None

    def deserialize(self, data: str | bytes) -> Frame | None:
        message = parse_json(_decoder, data)
        event = message.event
        if event == "media" and message.media is not None:
            if not self._accepts(message.stream_sid):
                return None
            return decode_audio(self._codec, message.media.payload)
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
            return self._end((message.stop and message.stop.reason) or "")
        if event == "mark" and message.mark is not None:
            return MarkPlayedFrame(message.mark.name)
        if event == "dtmf" and message.dtmf is not None:
            return decode_dtmf(message.dtmf.digit)
        raise InvalidMessage(f"expected an object `{event}` in the event of that name")

    def _start_stream(self, start: _Start) -> CallStartedFrame:
        wire = start.media_format
        codec = read_codec(wire.encoding, wire.sample_rate)
        if codec.name == "G722":
            raise InvalidMessage("expected PCM or G.711, found G.722")
        stream_sid = check_id(start.stream_sid, "stream_sid")
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=check_id(start.call_sid, "call_sid"),
            stream_id=stream_sid,
            account_id=clip(start.account_sid or ""),
            from_number=clip(str(start.from_ or "")),
            to_number=clip(str(start.to or "")),
            parameters=read_parameters(start.custom_parameters),
            encoding=codec.name,
            sample_rate=codec.sample_rate,
        )
        self._start(frame)
        self._codec = codec
        self.sample_rate = codec.sample_rate
        # The rule is about bytes on the wire, of which G.711 makes half as many.
        self.packet_bytes = self._chunk_bytes * (1 if codec.name == "L16" else 2)
        self._stream_json = f'"stream_sid":"{stream_sid}"'
        self._media_prefix = f'{{"event":"media",{self._stream_json},"media":{{"payload":"'
        return frame
