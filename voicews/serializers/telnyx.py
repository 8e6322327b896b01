"""Telnyx media streaming, with `stream_bidirectional_mode` `rtp`.

Source: developers.telnyx.com/docs/voice/programmable-voice/media-streaming.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import msgspec

from voicews.audio.codecs import ByteOrder, get_codec
from voicews.frames import CallStartedFrame, ErrorFrame, Frame, InterruptionFrame, MarkFrame
from voicews.serializers.json_streams import (
    EVENTS,
    JSONStreamSerializer,
    Media,
    StartMessage,
    StreamMessage,
)
from voicews.serializers.reordering import ReorderWindow
from voicews.serializers.telephony import (
    decode_audio,
    describe,
    parse_json,
    read_codec,
    read_parameters,
    to_json,
)

#: Telnyx takes chunks of 20 ms to 30 s.
PACKET_SECS = 0.02


class _Media(Media, gc=False):
    chunk: int | None = None


class _Message(StreamMessage, gc=False):
    media: _Media | None = None
    # The guide has the one, the older reference the other.
    payload: Any = None
    error: Any = None


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
            return self._deserialize_message(message, data)
        if not self._accepts(message.stream_id) or not media.is_inbound:
            return None
        payload = media.payload
        if media.chunk is not None:
            payload = self.reordering.put(media.chunk, payload)
            if not payload:
                return None
        return decode_audio(self._receive_codec, payload)

    def _deserialize_event(self, message: _Message) -> Frame | None:
        if message.event == "error":
            found = message.payload or message.error
            code = describe(found.get("code")) if isinstance(found, dict) else ""
            return ErrorFrame(f"Telnyx reports error {code[:40]}", processor=self.provider)
        return super()._deserialize_event(message)

    def _start_stream(self, start: StartMessage) -> CallStartedFrame:
        codec = read_codec(
            self.provider,
            *start.media_format(),
            default=self._receive_codec,
            byte_order=self._l16_byte_order,
        )
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=start.id("call_control_id"),
            stream_id=start.id("stream_id"),
            account_id=start.text("user_id"),
            from_number=start.text("from"),
            to_number=start.text("to"),
            parameters=_read_client_state(start.text("client_state"))
            | read_parameters(start.get("custom_parameters"))
            | read_parameters(start.get("customParameters")),
            encoding=codec.name,
            sample_rate=codec.sample_rate,
        )
        self._start(frame)
        self._receive_codec = codec
        return frame


def _read_client_state(client_state: str) -> dict[str, str]:
    """What our own commands put there: a JSON object. Anything else is the project's."""
    try:
        return read_parameters(_state_decoder.decode(b64decode(client_state, validate=True)))
    except (ValueError, RecursionError):
        return {}
