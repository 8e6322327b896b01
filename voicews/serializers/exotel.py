"""Exotel AgentStream (the Voicebot applet).

Source: developer.exotel.com/docs/agentstream/websocket-protocol.
"""

from __future__ import annotations

from typing import Any

import msgspec

from voicews.audio.codecs import get_codec
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import CallStartedFrame, Frame, InterruptionFrame, MarkFrame
from voicews.serializers.json_streams import JSONStreamSerializer, StartMessage, StreamMessage
from voicews.serializers.telephony import read_codec, read_parameters, to_json

#: Audio that is no multiple of this (bytes of PCM) is heard with clicks.
CHUNK_STEP = 320
MAX_CHUNK = 100_000


class _Message(StreamMessage, gc=False):
    stream_id: str = msgspec.field(name="stream_sid", default="")
    stop: Any = None


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
            stop = message.stop
            return self._end(stop.get("reason") if isinstance(stop, dict) else stop)
        return super()._deserialize_event(message)

    def _start_stream(self, start: StartMessage) -> CallStartedFrame:
        codec = read_codec(self.provider, *start.media_format(), default=self._codec)
        if codec.name == "G722":
            raise InvalidMessage("expected PCM or G.711, found G.722")
        stream_sid = start.id("stream_sid", "streamSid")
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=start.id("call_sid", "callSid"),
            stream_id=stream_sid,
            account_id=start.text("account_sid", "accountSid"),
            from_number=start.text("from"),
            to_number=start.text("to"),
            parameters=read_parameters(start.get("custom_parameters", "customParameters")),
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
