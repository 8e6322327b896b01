"""Plivo Audio Streaming, bidirectional.

Source: plivo.com/docs/voice-agents/audio-streaming.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from voicews.audio.codecs import get_codec
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    CallStartedFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputDTMFFrame,
)
from voicews.serializers.json_streams import (
    EVENTS,
    JSONStreamSerializer,
    StartMessage,
    StreamMessage,
)
from voicews.serializers.telephony import (
    check_buttons,
    read_codec,
    read_parameters,
    to_json,
)

_SEPARATORS = re.compile("[;,]")


class _Message(StreamMessage, gc=False):
    stream_id: str = msgspec.field(name="streamId", default="")
    name: str = ""


class PlivoSerializer(JSONStreamSerializer[_Message]):
    """JSON in text messages; mu-law of 8000 Hz or L16 of 8000 or 16000 Hz in base64.

    Both ways are in the codec that the start message names, which is the `contentType` of our
    answer: `content_type` is what that was. The documents name no event for the end: the socket is
    closed.
    """

    provider = "plivo"
    sends_dtmf = True
    # Lax: numbers come as strings here and as numbers there.
    _decoder = msgspec.json.Decoder(_Message, strict=False)
    _events = EVENTS | {"playedStream", "clearedAudio", "error", "playFailed"}

    def __init__(self, *, content_type: str = "audio/x-mulaw;rate=8000") -> None:
        super().__init__()
        encoding, _, rate = content_type.partition(";rate=")
        self._codec = get_codec(encoding, int(rate))
        self.sample_rate = self._codec.sample_rate

    def _serialize_event(self, frame: Frame) -> str | None:
        if isinstance(frame, MarkFrame):
            checkpoint = {"event": "checkpoint", "streamId": self._stream_id, "name": frame.name}
            return to_json(checkpoint)
        if isinstance(frame, InterruptionFrame):
            return to_json({"event": "clearAudio", "streamId": self._stream_id})
        if isinstance(frame, OutputDTMFFrame):
            return to_json({"event": "sendDTMF", "dtmf": check_buttons(frame.buttons)})
        return None

    def _deserialize_event(self, message: _Message) -> Frame | None:
        if message.event == "playedStream":
            return MarkPlayedFrame(message.name)
        if message.event == "clearedAudio":
            return None
        if message.event in ("error", "playFailed"):
            return ErrorFrame(f"Plivo reports {message.event}", processor=self.provider)
        return super()._deserialize_event(message)

    def _start_stream(self, start: StartMessage) -> CallStartedFrame:
        codec = read_codec(self.provider, *start.media_format(), default=self._codec)
        if codec.name not in ("PCMU", "L16") or codec.sample_rate not in (8000, 16000):
            raise InvalidMessage("expected mu-law of 8000 Hz or L16 of 8000 or 16000 Hz")
        parameters = _read_extra_headers(start.get("extra_headers", "extraHeaders"))
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=start.id("callId"),
            stream_id=start.id("streamId"),
            account_id=start.text("accountId"),
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
