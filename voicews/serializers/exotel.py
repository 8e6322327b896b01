"""Exotel AgentStream (the Voicebot applet).

Source: developer.exotel.com/docs/agentstream/websocket-protocol.
"""

from __future__ import annotations

from typing import Any

import msgspec

from voicews.audio.codecs import get_codec
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import CallStartedFrame, Frame, InterruptionFrame, MarkFrame
from voicews.serializers.json_streams import JSONStreamSerializer, StreamMessage
from voicews.serializers.telephony import check_id, clip, read_codec, read_parameters, to_json

#: Audio that is no multiple of this (bytes of PCM) is heard with clicks.
CHUNK_STEP = 320
MAX_CHUNK = 100_000


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


class _Stop(msgspec.Struct):
    reason: str | None = None


class _Message(StreamMessage, gc=False):
    stream_id: str = msgspec.field(name="stream_sid", default="")
    start: _Start | None = None
    stop: _Stop | None = None


class ExotelSerializer(JSONStreamSerializer[_Message]):
    """JSON in text messages, PCM in base64 both ways at the rate that the start message names.

    `chunk_bytes` is the size of a media message's audio: 3200 by the reference, which is 200 ms at
    8000 Hz; a smaller one lets an interruption be heard sooner, but may leave gaps. Raises
    `ConfigurationError` unless it is a multiple of 320, up to 100,000.
    """

    provider = "exotel"
    # Lax: numbers come as strings here and as numbers there.
    _decoder = msgspec.json.Decoder(_Message, strict=False)

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

    def _serialize_event(self, frame: Frame) -> str | None:
        if isinstance(frame, MarkFrame):
            mark = {"name": frame.name}
            return to_json({"event": "mark", "stream_sid": self._stream_id, "mark": mark})
        if isinstance(frame, InterruptionFrame):
            return to_json({"event": "clear", "stream_sid": self._stream_id})
        return None

    def _deserialize_event(self, message: _Message) -> Frame | None:
        if message.event == "stop":
            return self._end((message.stop and message.stop.reason) or "")
        return super()._deserialize_event(message)

    def _start_stream(self, start: _Start, message: _Message) -> CallStartedFrame:
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
        self._media_prefix = f'{{"event":"media","stream_sid":"{stream_sid}","media":{{"payload":"'
        return frame
