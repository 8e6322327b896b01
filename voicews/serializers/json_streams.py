"""Media streams in JSON with the audio in base64: Twilio's form, which others took over."""

from __future__ import annotations

from abc import abstractmethod
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from voicews.exceptions import InvalidMessage
from voicews.frames import CallStartedFrame, Frame, MarkPlayedFrame, OutputAudioRawFrame
from voicews.serializers.telephony import (
    StreamState,
    TelephonySerializer,
    check_id,
    decode_audio,
    decode_dtmf,
    describe,
    parse_json,
)


class Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 on the wire
    track: Any = None

    @property
    def is_inbound(self) -> bool:
        """Whether it is the caller's; in a stream that doesn't tell, it is."""
        return not isinstance(self.track, str) or self.track in _INBOUND


class Mark(msgspec.Struct):
    name: str


class Key(msgspec.Struct):
    digit: str | int


class StreamMessage(msgspec.Struct, gc=False):
    """Any message but `start`; a provider's own type says how the stream's id is called."""

    event: str
    stream_id: str = ""
    media: Media | None = None
    mark: Mark | None = None
    dtmf: Key | None = None


class StartMessage:
    """The message that starts a stream, whose `start` says which call it is.

    Strict about the ids. What else is said of the call is taken as far as it can be read, whether
    it stands in `start` or beside it. Of several names the first that has a value counts.
    """

    def __init__(self, envelope: Mapping[str, Any]) -> None:
        inner = envelope.get("start")
        self._places = (inner if isinstance(inner, dict) else {}, envelope)

    def id(self, *names: str) -> str:
        """An id; raises `InvalidMessage` unless there is one, and but one."""
        found = {place[name] for place in self._places for name in names if self._has(place, name)}
        if len(found) > 1:
            raise InvalidMessage(f"expected one {names[0]}, found two")
        return check_id(found.pop() if found else "", names[0])

    @staticmethod
    def _has(place: Mapping[str, Any], name: str) -> bool:
        return isinstance(place.get(name), str) and bool(place[name])

    def get(self, *names: str) -> Any:
        """Whatever the provider has sent."""
        values = (place.get(name) for place in self._places for name in names)
        return next((value for value in values if value is not None), None)

    def text(self, *names: str) -> str:
        """A text or a number."""
        return describe(self.get(*names))

    def media_format(self) -> tuple[object, object]:
        """Encoding and sample rate."""
        value = self.get("media_format", "mediaFormat")
        if not isinstance(value, dict):
            return value, None
        rate = value.get("sample_rate")
        return value.get("encoding"), value.get("sampleRate") if rate is None else rate


M = TypeVar("M", bound=StreamMessage)

EVENTS: Final = frozenset(["media", "mark", "dtmf", "stop"])
_INBOUND: Final = frozenset(["inbound", "inbound_track", ""])

_envelope_decoder = msgspec.json.Decoder(dict[str, Any])


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
            if not self._accepts(message.stream_id) or not message.media.is_inbound:
                return None
            return decode_audio(self._codec, message.media.payload)
        return self._deserialize_message(message, data)

    def _deserialize_message(self, message: M, data: str | bytes) -> Frame | None:
        if message.event == "connected":
            return None
        if message.event == "start":
            self._check_first_start()
            try:
                envelope = parse_json(_envelope_decoder, data)
                return self._start_stream(StartMessage(envelope))
            except InvalidMessage as error:
                raise self._refuse(error) from None
        if message.event not in self._events:
            self.unknown_events += 1
            return None
        return self._deserialize_event(message) if self._accepts(message.stream_id) else None

    @abstractmethod
    def _start_stream(self, start: StartMessage) -> CallStartedFrame:
        """Starts the stream as the message says; raises `InvalidMessage` if it can't be used."""

    def _deserialize_event(self, message: M) -> Frame | None:
        """What the event of a stream that has started says; for `_events` beside audio."""
        if message.event == "stop":
            return self._end()
        if message.event == "mark" and message.mark is not None:
            return MarkPlayedFrame(message.mark.name)
        if message.event == "dtmf" and message.dtmf is not None:
            return decode_dtmf(message.dtmf.digit)
        raise InvalidMessage(f"expected an object `{message.event}` in the event of that name")
