"""Vonage Voice API WebSocket endpoints.

Source: developer.vonage.com/voice/voice-api/concepts/websockets.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from voicews.audio.codecs import get_codec
from voicews.audio.pcm import check_sample_rate
from voicews.exceptions import AudioFormatError, InvalidMessage
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
    clip,
    decode_audio,
    decode_dtmf,
    parse_json,
    read_codec,
    read_parameters,
    to_json,
)

#: Every message of audio to Vonage is one frame of exactly this length.
PACKETS_PER_SEC: Final = 50

_RATE = re.compile(r';\s*rate\s*=\s*"?([^";\s]*)', re.IGNORECASE)
_OWN_FIELDS = frozenset(["event", "content-type", "headers"])

_decoder = msgspec.json.Decoder(dict[str, Any])


class VonageSerializer(TelephonySerializer):
    """Audio in binary messages, L16 little-endian at the rate of our NCCO; events in JSON.

    `sample_rate` (Hz) is what the NCCO asked for; what Vonage says when the stream starts counts.
    The socket's end is the stream's end: there is no event for it. The call's id and everything
    else about the call is what the NCCO put into the endpoint's `headers`.
    """

    provider = "vonage"

    def __init__(self, *, sample_rate: int = 16000) -> None:
        super().__init__()
        check_sample_rate(sample_rate)
        self._set_rate(sample_rate)

    def _set_rate(self, sample_rate: int) -> None:
        self._codec = get_codec("L16", sample_rate)
        self.sample_rate = sample_rate
        self.packet_bytes = sample_rate // PACKETS_PER_SEC * 2

    def serialize(self, frame: Frame) -> str | bytes | None:
        if self.state is not StreamState.STARTED:
            return None
        if type(frame) is OutputAudioRawFrame:
            return self._packet(self._encode(frame))
        if isinstance(frame, MarkFrame):
            return to_json({"action": "notify", "payload": {"mark": frame.name}})
        if isinstance(frame, InterruptionFrame):
            return '{"action":"clear"}'
        return None

    def _packet(self, pcm: bytes) -> bytes:
        size = self.sample_rate // PACKETS_PER_SEC * 2
        if len(pcm) > size:
            raise AudioFormatError(
                f"audio for Vonage: expected packets of {size} bytes, found {len(pcm)}"
            )
        return pcm.ljust(size, b"\0")

    def deserialize(self, data: str | bytes) -> Frame | None:
        if isinstance(data, bytes):
            return decode_audio(self._codec, data) if self._accepts() else None
        message = parse_json(_decoder, data)
        event = message.get("event")
        if event == "websocket:connected":
            self._check_first_start()
            try:
                return self._start_stream(message)
            except InvalidMessage as error:
                raise self._refuse(error) from None
        if event == "websocket:dtmf":
            return decode_dtmf(str(message.get("digit"))) if self._accepts() else None
        if event == "websocket:notify":
            return self._played(message.get("payload")) if self._accepts() else None
        if event == "websocket:disconnected":
            return self._end() if self._accepts() else None
        if not isinstance(event, str):
            raise InvalidMessage("expected a string as `event`")
        if event != "websocket:cleared":
            self.unknown_events += 1
        return None

    def _played(self, payload: object) -> MarkPlayedFrame | None:
        mark = payload.get("mark") if isinstance(payload, dict) else None
        # A project may send notifications of its own.
        return MarkPlayedFrame(mark) if isinstance(mark, str) else None

    def _start_stream(self, message: dict[str, Any]) -> CallStartedFrame:
        content_type = message.get("content-type")
        found = _RATE.search(content_type) if isinstance(content_type, str) else None
        codec = read_codec(
            self.provider, content_type, found[1] if found else None, default=self._codec
        )
        rate = codec.sample_rate
        if codec.name != "L16" or rate % PACKETS_PER_SEC:
            raise InvalidMessage("expected L16 in packets of 20 ms, found another format")
        # Beside the event in today's messages, in an object of their own in older ones.
        flat = {name: value for name, value in message.items() if name not in _OWN_FIELDS}
        parameters = read_parameters(message.get("headers")) | read_parameters(flat)
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=clip(parameters.get("call_uuid", "")),
            from_number=parameters.get("from", ""),
            to_number=parameters.get("to", ""),
            parameters=parameters,
            encoding="L16",
            sample_rate=rate,
        )
        self._start(frame)
        self._set_rate(rate)
        return frame
