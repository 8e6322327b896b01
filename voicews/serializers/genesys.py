"""Genesys Audio Connector: the AudioHook protocol, version 2, from the server's side.

Source: github.com/purecloudlabs/audiohook-reference-implementation and the AudioHook protocol
pages of developer.genesys.cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from voicews.audio.codecs import get_codec
from voicews.audio.pcm import INT16
from voicews.close_codes import CloseCode
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
    PingFrame,
    PongFrame,
    ProtocolRequestFrame,
)
from voicews.serializers.telephony import (
    StreamState,
    TelephonySerializer,
    check_id,
    clip,
    decode_audio,
    decode_dtmf,
    describe,
    parse_json,
    read_parameters,
    to_json,
)

#: A connection with these ids is a probe: Genesys tries out whether we are there.
NULL_UUID: Final = "00000000-0000-0000-0000-000000000000"
SAMPLE_RATE: Final = 8000
MAX_BINARY_BYTES: Final = 64_000
#: What Genesys lets a server send by default; beyond it the connection is closed with 429.
BINARY_MESSAGES_PER_SEC: Final = 5.0
BINARY_BURST: Final = 25

#: What an application may send by itself, and no answer of ours.
_APPLICATION_TYPES = frozenset(["pause", "resume", "event", "reconnect", "disconnect"])

_REQUEST_TYPES = frozenset(["close", "ping", "update", "dtmf", "error", "paused", "resumed"])
#: Known, and nothing that we would act on.
_REPORT_TYPES = frozenset(["discarded", "playback_started", "playback_completed"])


#: The reason of a `disconnect`, by close code; "error" for others.
_DISCONNECT_REASONS: dict[int, str] = {
    CloseCode.NORMAL: "completed",
    CloseCode.NOT_ALLOWED: "unauthorized",
}


class _Message(msgspec.Struct):
    version: str | int
    type: str
    id: str
    seq: int
    serverseq: int
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


_decoder = msgspec.json.Decoder(_Message)


class RateLimit:
    """A token bucket: a rate per second and a burst. Pure: callers pass the time in seconds."""

    __slots__ = ("_burst", "_left", "_per_sec", "_since")

    def __init__(self, per_sec: float, burst: float) -> None:
        self._per_sec = per_sec
        self._burst = burst
        self._left = burst
        self._since = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may leave at `now`; if so, it is counted."""
        self._left = min(self._burst, self._left + (now - self._since) * self._per_sec)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class GenesysSerializer(TelephonySerializer):
    """Audio in binary messages, mu-law (or L16, little-endian) of 8000 Hz; JSON in text messages.

    Genesys wants answers: the transport has them written by serializing what it was given, the
    `CallStartedFrame` to accept the call, `ProtocolRequestFrame` and `CallEndedFrame`, and a
    `PongFrame` for a `PingFrame`. An `EndFrame` or `CancelFrame` says goodbye before the close.
    Text messages are numbered as they are serialized, so they must leave in that order. The goodbye
    carries `output_variables` to the flow.

    `supported_languages` (such as `en-US`) are told to Genesys, which may then change the language
    in a call: the bot gets the one that it begins with as the parameter `language`, and a message
    `update` for each change. With `start_paused` Genesys sends nothing of the caller until the
    application sends `{"type": "resume"}`.

    `packet_secs` is the length of a binary message: Genesys takes 5 a second. Audio beyond that
    is held back and leaves with the next message, or with the mark that ends the utterance.
    Raises `ConfigurationError` for a length that the limits don't allow.
    """

    provider = "genesys"
    answers_goodbye = True
    takes_output_variables = True
    sample_rate = SAMPLE_RATE
    acknowledges_marks = False

    def __init__(
        self,
        *,
        packet_secs: float = 0.25,
        supported_languages: Sequence[str] = (),
        start_paused: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        if not 1 / BINARY_MESSAGES_PER_SEC <= packet_secs <= 3.0:
            raise ConfigurationError(f"packet_secs: expected 0.2 to 3, found {packet_secs}")
        self.packet_bytes = round(SAMPLE_RATE * packet_secs) * 2
        #: Whether Genesys sends nothing of the caller's audio.
        self.is_paused = start_paused
        self._supported_languages = list(supported_languages)
        self._codec = get_codec("PCMU", SAMPLE_RATE)
        self._media: dict[str, Any] = {}
        self._num_channels = 1
        self._channel = 0
        self._seq = 0
        self._client_seq = 0
        self._has_closed = False
        self._says_goodbye = True
        self._clock = clock
        self._rate_limit = RateLimit(BINARY_MESSAGES_PER_SEC, BINARY_BURST)
        self._held = bytearray()

    # --- to Genesys -----------------------------------------------------------------------------

    def serialize(self, frame: Frame) -> str | bytes | None:
        if self.state is not StreamState.STARTED:
            return self._serialize_last(frame)
        if type(frame) is OutputAudioRawFrame:
            return self._serialize_audio(self._encode(frame))
        if isinstance(frame, InterruptionFrame):
            self._held.clear()
            return self._text("event", {"entities": [{"type": "barge_in", "data": {}}]})
        if isinstance(frame, PongFrame):
            return self._text("pong")
        if isinstance(frame, MarkFrame):
            # The burst that the limit allows has room for what ends an utterance.
            self._rate_limit.take(self._clock())
            return self._take_held()
        if isinstance(frame, ProtocolRequestFrame) and frame.request == "update":
            return self._text("updated")
        if isinstance(frame, CallStartedFrame):
            return self._opened()
        if isinstance(frame, EndFrame | CancelFrame):
            return self._disconnect(frame)
        if isinstance(frame, OutputTransportMessageUrgentFrame):
            return self._application_message(frame.message)
        return None

    def _serialize_last(self, frame: Frame) -> str | None:
        if isinstance(frame, CallEndedFrame) and self._has_closed:
            self._has_closed = False
            return self._text("closed")
        if self.state is StreamState.REFUSED and isinstance(frame, EndFrame | CancelFrame):
            return self._disconnect(frame)
        return None

    def _opened(self) -> str:
        parameters: dict[str, Any] = {"startPaused": self.is_paused, "media": [self._media]}
        if self._supported_languages:
            parameters["supportedLanguages"] = self._supported_languages
        return self._text("opened", parameters)

    def _serialize_audio(self, audio: bytes) -> bytes | None:
        if self._rate_limit.take(self._clock()):
            self._held += audio
            return self._take_held()
        # More than one message holds is audio that is not paced: it would never be heard in time.
        if len(self._held) + len(audio) <= MAX_BINARY_BYTES:
            self._held += audio
        return None

    def _take_held(self) -> bytes | None:
        audio = bytes(self._held[:MAX_BINARY_BYTES])
        del self._held[:MAX_BINARY_BYTES]
        return audio or None

    def _disconnect(self, frame: EndFrame | CancelFrame) -> str | None:
        if not self._says_goodbye:
            return None
        self._says_goodbye = False
        reason = _DISCONNECT_REASONS.get(frame.close_code, "error")
        parameters: dict[str, Any] = {"reason": reason}
        if frame.reason:
            parameters["info"] = frame.reason
        if self.output_variables:
            parameters["outputVariables"] = dict(self.output_variables)
        return self._text("disconnect", parameters)

    def _application_message(self, message: dict[str, Any]) -> str | None:
        kind = message.get("type")
        if kind not in _APPLICATION_TYPES:
            return None
        parameters = message.get("parameters") or {}
        if kind == "disconnect":
            self._says_goodbye = False
            if self.output_variables:
                parameters = {"outputVariables": dict(self.output_variables), **parameters}
        return self._text(str(kind), parameters)

    def _text(self, kind: str, parameters: dict[str, Any] | None = None) -> str:
        self._seq += 1
        return to_json(
            {
                "version": "2",
                "type": kind,
                "id": self._stream_id,
                "seq": self._seq,
                "clientseq": self._client_seq,
                "parameters": parameters or {},
            }
        )

    # --- from Genesys ---------------------------------------------------------------------------

    def deserialize(self, data: str | bytes) -> Frame | None:
        if isinstance(data, bytes):
            return self._deserialize_audio(data)
        message = parse_json(_decoder, data)
        self._check_envelope(message)
        kind = message.type
        if kind == "open":
            self._check_first_start()
            try:
                return self._open(message)
            except InvalidMessage as error:
                raise self._refuse(error) from None
        if kind not in _REQUEST_TYPES:
            self.unknown_events += kind not in _REPORT_TYPES
            return None
        if self._accepts(message.id):
            return self._deserialize_request(kind, message)
        # The answer to our refusal.
        return self._close(message) if self._is_close_of_refused(message) else None

    def _is_close_of_refused(self, message: _Message) -> bool:
        return self.state is StreamState.REFUSED and message.type == "close"

    def _deserialize_audio(self, data: bytes) -> InputAudioRawFrame | None:
        if not self._accepts():
            return None
        frame = decode_audio(self._codec, data)
        if self._num_channels > 1:
            samples = np.frombuffer(frame.audio, INT16)
            frame.audio = samples[self._channel :: self._num_channels].tobytes()
        return frame

    def _check_envelope(self, message: _Message) -> None:
        if str(message.version) != "2":
            raise InvalidMessage("expected version 2 of the AudioHook protocol")
        if message.seq != self._client_seq + 1:
            raise InvalidMessage(f"expected seq {self._client_seq + 1}, found {message.seq}")
        if not 0 <= message.serverseq <= self._seq:
            raise InvalidMessage(f"expected serverseq up to {self._seq}, found {message.serverseq}")
        self._client_seq = message.seq

    def _deserialize_request(self, kind: str, message: _Message) -> Frame | None:
        parameters = message.parameters
        if kind == "ping":
            return PingFrame(str(message.seq))
        if kind == "update":
            language = parameters.get("language")
            is_told = bool(self._supported_languages) and isinstance(language, str)
            return ProtocolRequestFrame("update", {"language": language} if is_told else None)
        if kind == "dtmf":
            return decode_dtmf(str(parameters.get("digit")))
        if kind == "close":
            return self._close(message)
        if kind == "error":
            code = parameters.get("code")
            return ErrorFrame(
                f"Genesys reports error {code if isinstance(code, int) else 'without a code'}",
                processor=self.provider,
            )
        self.is_paused = kind == "paused"
        return None

    def _close(self, message: _Message) -> CallEndedFrame:
        self._has_closed = True
        return self._end(message.parameters.get("reason"))

    def _open(self, message: _Message) -> CallStartedFrame:
        parameters = message.parameters
        participant = parameters.get("participant")
        if not isinstance(participant, dict):
            participant = {}
        # First, for a refusal carries it.
        self._stream_id = session_id = check_id(message.id, "id")
        conversation_id = check_id(_text_of(parameters.get("conversationId")), "conversationId")
        media = _choose_media(parameters.get("media"))
        variables = read_parameters(parameters.get("inputVariables"))
        if self._supported_languages and isinstance(parameters.get("language"), str):
            variables.setdefault("language", clip(parameters["language"]))
        frame = CallStartedFrame(
            provider=self.provider,
            call_id=conversation_id,
            stream_id=session_id,
            account_id=describe(parameters.get("organizationId")),
            from_number=_number(participant.get("ani")),
            to_number=_number(participant.get("dnis")),
            parameters=variables,
            encoding=media["format"].upper(),
            sample_rate=SAMPLE_RATE,
            is_probe=conversation_id == NULL_UUID and participant.get("id") == NULL_UUID,
        )
        self._start(frame)
        self._media = media
        self._codec = get_codec(media["format"], SAMPLE_RATE)
        self._num_channels = len(media["channels"])
        self._channel = media["channels"].index("external")
        return frame


def _choose_media(offers: object) -> dict[str, Any]:
    """The offer to take: the caller alone and mu-law where there is a choice."""
    usable = [offer for offer in offers if _is_usable(offer)] if isinstance(offers, list) else []
    if not usable:
        raise InvalidMessage("expected an offer of PCMU or L16, 8000 Hz, with the external channel")
    offer = min(
        usable, key=lambda offer: (len(offer["channels"]), offer["format"].upper() != "PCMU")
    )
    return {name: offer[name] for name in ("type", "format", "channels", "rate")}


def _is_usable(offer: object) -> bool:
    return (
        isinstance(offer, dict)
        and offer.get("type") == "audio"
        and _text_of(offer.get("format")).upper() in ("PCMU", "L16")
        and offer.get("rate") in (SAMPLE_RATE, str(SAMPLE_RATE))
        and offer.get("channels")
        in (["external"], ["external", "internal"], ["internal", "external"])
    )


def _number(value: object) -> str:
    """A number as it is in `ani` and `dnis`: bare, or as a `tel:` URI."""
    return describe(value).removeprefix("tel:")


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else ""
