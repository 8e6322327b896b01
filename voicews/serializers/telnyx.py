"""Telnyx media streaming, with `stream_bidirectional_mode` `rtp`.

Source: developers.telnyx.com/docs/voice/programmable-voice/media-streaming.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec

from voicews.audio.codecs import ByteOrder, get_codec
from voicews.frames import CallStartedFrame, ErrorFrame, Frame, InterruptionFrame, MarkFrame
from voicews.serializers.json_streams import EVENTS, JSONStreamSerializer, Media, StreamMessage
from voicews.serializers.reordering import ReorderWindow
from voicews.serializers.telephony import (
    check_id,
    clip,
    decode_audio,
    parse_json,
    read_codec,
    read_parameters,
    to_json,
)

#: Telnyx takes chunks of 20 ms to 30 s.
PACKET_SECS = 0.02


class _Media(Media, gc=False):
    chunk: int | None = None


class _MediaFormat(msgspec.Struct):
    encoding: str = "PCMU"
    sample_rate: int = 8000


class _Start(msgspec.Struct):
    call_control_id: str
    user_id: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    client_state: str | None = None
    media_format: _MediaFormat = msgspec.field(default_factory=_MediaFormat)
    custom_parameters: Any = None
    camel_parameters: Any = msgspec.field(name="customParameters", default=None)


class _Error(msgspec.Struct):
    code: int = 0


class _Message(StreamMessage, gc=False):
    media: _Media | None = None
    start: _Start | None = None
    # The guide has the one, the older reference the other.
    payload: _Error | None = None
    error: _Error | None = None


_state_decoder = msgspec.json.Decoder(dict[str, Any])


class TelnyxSerializer(JSONStreamSerializer[_Message]):
    """JSON in text messages, audio in base64, in one codec from Telnyx and in another one to it.

    What we receive is what the start message says. `send_codec` (PCMU, PCMA, G722 or L16) and, for
    L16, `send_sample_rate` (Hz) must be the `stream_bidirectional_codec` and
    `stream_bidirectional_sampling_rate` that the stream was asked for. The documents don't tell the
    byte order of L16: `l16_byte_order` is for both ways. Raises `ConfigurationError` or
    `AudioFormatError` for a codec that we don't have.
    """

    provider = "telnyx"
    # Lax: numbers come as strings here and as numbers there.
    _decoder = msgspec.json.Decoder(_Message, strict=False)
    _events = EVENTS | {"error"}
    _media_prefix = '{"event":"media","media":{"payload":"'

    def __init__(
        self,
        *,
        send_codec: str = "PCMU",
        send_sample_rate: int = 8000,
        l16_byte_order: ByteOrder = "big",
        max_held_chunks: int = 5,
    ) -> None:
        super().__init__()
        self._codec = get_codec(send_codec, send_sample_rate, l16_byte_order)
        self._l16_byte_order = l16_byte_order
        self.sample_rate = self._codec.sample_rate
        self.packet_bytes = int(self.sample_rate * PACKET_SECS) * 2
        self._receive_codec = self._codec
        #: The order of media messages is not guaranteed.
        self.reordering = ReorderWindow(max_held_chunks)

    def _serialize_event(self, frame: Frame) -> str | None:
        if isinstance(frame, MarkFrame):
            return to_json({"event": "mark", "mark": {"name": frame.name}})
        return '{"event":"clear"}' if isinstance(frame, InterruptionFrame) else None

    def deserialize(self, data: str | bytes) -> Frame | None:
        message = parse_json(self._decoder, data)
        media = message.media
        if message.event != "media" or media is None:
            return self._deserialize_message(message)
        if not self._accepts(message.stream_id) or media.track != "inbound":
            return None
        payload = media.payload
        if media.chunk is not None:
            payload = self.reordering.put(media.chunk, payload)
            if not payload:
                return None
        return decode_audio(self._receive_codec, payload)

    def _deserialize_event(self, message: _Message) -> Frame | None:
        if message.event == "error":
            code = (message.payload or message.error or _Error()).code
            return ErrorFrame(f"Telnyx reports error {code}", processor=self.provider)
        return super()._deserialize_event(message)

    def _start_stream(self, start: _Start, message: _Message) -> CallStartedFrame:
        wire = start.media_format
        codec = read_codec(wire.encoding, wire.sample_rate, self._l16_byte_order)
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=check_id(start.call_control_id, "call_control_id"),
            stream_id=check_id(message.stream_id, "stream_id"),
            account_id=clip(start.user_id or ""),
            from_number=clip(start.from_ or ""),
            to_number=clip(start.to or ""),
            parameters=_read_client_state(start.client_state)
            | read_parameters(start.custom_parameters)
            | read_parameters(start.camel_parameters),
            encoding=codec.name,
            sample_rate=codec.sample_rate,
        )
        self._start(frame)
        self._receive_codec = codec
        return frame


def _read_client_state(client_state: str | None) -> dict[str, str]:
    """What our own commands put there: a JSON object. Anything else is the project's."""
    try:
        return read_parameters(_state_decoder.decode(b64decode(client_state or "", validate=True)))
    except (ValueError, RecursionError):
        return {}
