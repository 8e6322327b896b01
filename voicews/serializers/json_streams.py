"""Media streams in JSON with the audio in base64: Twilio's form, which others took over."""

from __future__ import annotations

from abc import abstractmethod
from binascii import b2a_base64
from typing import Any, Final, Generic, TypeVar

import msgspec

from voicews.exceptions import InvalidMessage
from voicews.frames import CallStartedFrame, Frame, MarkPlayedFrame, OutputAudioRawFrame
from voicews.serializers.telephony import (
    StreamState,
    TelephonySerializer,
    decode_audio,
    decode_dtmf,
    parse_json,
)


class Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 on the wire
    track: str = "inbound"


class Mark(msgspec.Struct):
    name: str


class Key(msgspec.Struct):
    digit: str | int


class StreamMessage(msgspec.Struct, gc=False):
    """Any message; a provider's own type says how the stream's id is called, and how it starts."""

    event: str
    stream_id: str = ""
    media: Media | None = None
    mark: Mark | None = None
    dtmf: Key | None = None
    start: Any = None


M = TypeVar("M", bound=StreamMessage)

EVENTS: Final = frozenset(["start", "media", "mark", "dtmf", "stop"])


class JSONStreamSerializer(TelephonySerializer, Generic[M]):
    """JSON in text messages, with the audio in base64."""

    _decoder: msgspec.json.Decoder[M]
    #: Those that we know; others are counted and ignored.
    _events = EVENTS
    #: A message of audio as far as its payload, after which come a quote and two braces.
    _media_prefix = ""

    def serialize(self, frame: Frame) -> str | bytes | None:
        if self.state is not StreamState.STARTED:
            return None
        if type(frame) is OutputAudioRawFrame:
            payload = b2a_base64(self._encode(frame), newline=False).decode("ascii")
            return f'{self._media_prefix}{payload}"}}}}'
        return self._serialize_event(frame)

    @abstractmethod
    def _serialize_event(self, frame: Frame) -> str | None:
        """The message for a frame that isn't audio."""

    def deserialize(self, data: str | bytes) -> Frame | None:
        message = parse_json(self._decoder, data)
        if message.event == "media" and message.media is not None:
            if not self._accepts(message.stream_id) or message.media.track != "inbound":
                return None
            return decode_audio(self._codec, message.media.payload)
        return self._deserialize_message(message)

    def _deserialize_message(self, message: M) -> Frame | None:
        if message.event == "connected":
            return None
        if message.event == "start" and message.start is not None:
            return self._start_stream(message.start, message)
        if message.event not in self._events:
            self.unknown_events += 1
            return None
        return self._deserialize_event(message) if self._accepts(message.stream_id) else None

    @abstractmethod
    def _start_stream(self, start: Any, message: M) -> CallStartedFrame:
        """Starts the stream as the `start` of the message says."""

    def _deserialize_event(self, message: M) -> Frame | None:
        """What the event of a stream that has started says; for `_events` beside audio."""
        if message.event == "stop":
            return self._end()
        if message.event == "mark" and message.mark is not None:
            return MarkPlayedFrame(message.mark.name)
        if message.event == "dtmf" and message.dtmf is not None:
            return decode_dtmf(message.dtmf.digit)
        raise InvalidMessage(f"expected an object `{message.event}` in the event of that name")
