"""What the media streams of all telephony providers have in common."""

from __future__ import annotations

import enum
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from voicews.audio.codecs import ByteOrder, Codec, find_codec_name, get_codec
from voicews.audio.pcm import check_sample_rate
from voicews.exceptions import AudioFormatError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
)
from voicews.serializers.base import FrameSerializer

logger = logging.getLogger(__name__)

T = TypeVar("T")

DTMF_BUTTONS: Final = frozenset("0123456789*#ABCD")
#: What one message of a call may carry beside its audio, so that hostile ones stay small.
MAX_PARAMETERS: Final = 64
MAX_TEXT_LENGTH: Final = 1024

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=+@~-]{0,255}")
_RATE = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*(k?)\s*(?:hz)?\s*", re.IGNORECASE)


class UnusableStart(InvalidMessage):
    """A start of a stream that can't become a call: without its ids, or in a format that we lack.

    The socket is of no use after it; the provider is notified.
    """


class StreamState(enum.Enum):
    """Where a media stream is; `TelephonySerializer` alone changes it."""

    WAITING = enum.auto()
    STARTED = enum.auto()
    #: Its start was not one that we can use; the provider has yet to take our refusal.
    REFUSED = enum.auto()
    ENDED = enum.auto()


class TelephonySerializer(FrameSerializer):
    """One call's media stream.

    The first message that matters gives a `CallStartedFrame`: only after it are `sample_rate` and
    `packet_bytes` certain and does `serialize` have anything to say. Messages before it and those
    of another stream raise `InvalidMessage`, events that we don't know are counted and ignored,
    and what comes after the end is ignored.
    """

    #: The provider's name, as in URLs and settings.
    provider: ClassVar[str]
    #: Whether `serialize` has a message for an `OutputDTMFFrame`. Where it hasn't, keys are
    #: pressed by a request to the provider, or as tones.
    #: Whether the peer answers our goodbye, which is to be waited for before the close.
    answers_goodbye: ClassVar[bool] = False
    #: Whether the goodbye carries `output_variables` for the flow that the call goes on in.
    takes_output_variables: ClassVar[bool] = False

    #: The size (bytes of PCM) that each `OutputAudioRawFrame` must have; None: any.
    packet_bytes: int | None = None
    sample_rate: int
    acknowledges_marks = True

    #: How audio is written, and read where it comes in the same way.
    _codec: Codec

    def __init__(self) -> None:
        self.state = StreamState.WAITING
        #: What the provider said about the call.
        self.call: CallStartedFrame | None = None
        #: Messages that this version doesn't know.
        self.unknown_events = 0
        self.output_variables: dict[str, str] = {}
        self._stream_id = ""

    # --- life cycle -----------------------------------------------------------------------------

    def _check_first_start(self) -> None:
        if self.state is not StreamState.WAITING:
            raise InvalidMessage("expected one start of the stream, found another one")

    def _start(self, frame: CallStartedFrame) -> CallStartedFrame:
        self.state = StreamState.STARTED
        self.call = frame
        self._stream_id = frame.stream_id
        return frame

    def _refuse(self, error: InvalidMessage) -> UnusableStart:
        """What to raise for a start that can't be used."""
        self.state = StreamState.REFUSED
        return UnusableStart(str(error))

    def _end(self, reason: object = "") -> CallEndedFrame:
        self.state = StreamState.ENDED
        return CallEndedFrame(self.call.call_id if self.call else "", describe(reason))

    def _accepts(self, stream_id: str = "") -> bool:
        """Whether a message of this stream counts: not after the end.

        Raises `InvalidMessage` for one that comes before the start or is another stream's.
        """
        if self.state is StreamState.WAITING:
            raise InvalidMessage("expected the start of the stream first")
        if self.state is not StreamState.STARTED:
            return False
        if stream_id and stream_id != self._stream_id:
            raise InvalidMessage("expected the id of the stream that has started, found another")
        return True

    # --- audio ----------------------------------------------------------------------------------

    def _encode(self, frame: OutputAudioRawFrame) -> bytes:
        if frame.sample_rate != self.sample_rate or frame.num_channels != 1:
            raise AudioFormatError(
                f"expected mono of {self.sample_rate} Hz for {self.provider}, found "
                f"{frame.num_channels} channel(s) of {frame.sample_rate} Hz"
            )
        return self._codec.encode(frame.audio)


def parse_json(decoder: msgspec.json.Decoder[T], data: str | bytes) -> T:
    """One text message. Raises `InvalidMessage` that says where it is wrong, without its text."""
    if not isinstance(data, str):
        raise InvalidMessage("expected a text message, found a binary one")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        # Made of our own field names and JSON's type names.
        raise InvalidMessage(str(error)) from None
    except (ValueError, RecursionError):
        raise InvalidMessage(f"expected JSON in {len(data)} characters of text") from None


def read_codec(
    provider: str,
    encoding: object,
    sample_rate: object,
    *,
    default: Codec,
    byte_order: ByteOrder = "little",
) -> Codec:
    """The codec that a peer describes, as far as it does: `default` has what it leaves open.

    An unknown name or rate is replaced by the default, with a line in the log. Raises
    `InvalidMessage` for a format that is known and that we can't play.
    """
    try:
        name = find_codec_name(encoding) if isinstance(encoding, str) else None
        rate = _read_sample_rate(sample_rate)
        if (name is None and encoding is not None) or (rate is None and sample_rate is not None):
            logger.warning(
                "%s: a stream says %.40r at %.20r, read as %s at %d Hz",
                provider,
                encoding,
                sample_rate,
                name or default.name,
                rate or default.sample_rate,
            )
        if rate is None:
            rate = default.sample_rate
        check_sample_rate(rate)
        return get_codec(name or default.name, rate, byte_order)
    except AudioFormatError as error:
        raise InvalidMessage(str(error)) from None


def _read_sample_rate(value: object) -> int | None:
    """Hz, from 8000, "8000", "8000Hz", "8 kHz"; None for what says nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _RATE.fullmatch(str(value)) if isinstance(value, float | str) else None
    return round(float(match[1]) * (1000 if match[2] else 1)) if match else None


def decode_audio(codec: Codec, payload: bytes) -> InputAudioRawFrame:
    """The caller's audio."""
    try:
        return InputAudioRawFrame(codec.decode(payload), codec.sample_rate)
    except AudioFormatError as error:
        raise InvalidMessage(str(error)) from None


def decode_dtmf(digit: str | int) -> InputDTMFFrame:
    """A key; raises `InvalidMessage` for what isn't on a telephone."""
    button = str(digit).upper()
    if button not in DTMF_BUTTONS:
        raise InvalidMessage("expected a digit of 0-9, *, #, A-D")
    return InputDTMFFrame(button)


def check_buttons(buttons: str) -> str:
    """The keys, if a telephone has them all; raises `ValueError` otherwise."""
    if not buttons or not DTMF_BUTTONS.issuperset(buttons):
        raise ValueError("buttons: expected one or more of 0-9, *, #, A-D")
    return buttons


def check_id(value: str, what: str) -> str:
    """An id that a provider has given; raises `InvalidMessage` unless it looks like one."""
    if not _ID.fullmatch(value):
        raise InvalidMessage(f"expected an id as {what}")
    return value


def read_parameters(values: object) -> dict[str, str]:
    """Custom parameters, from an object or from a list of `{name, value}`; others are left out."""
    if isinstance(values, list):
        values = {
            value["name"]: value.get("value")
            for value in values
            if isinstance(value, dict) and isinstance(value.get("name"), str)
        }
    if not isinstance(values, Mapping):
        return {}
    return {
        name: clip(value if isinstance(value, str) else json.dumps(value))
        for name, value in list(values.items())[:MAX_PARAMETERS]
        if isinstance(name, str) and isinstance(value, str | int | float)
    }


def clip(text: str) -> str:
    """No more of a peer's text than a log line or a database column takes."""
    return text[:MAX_TEXT_LENGTH]


def describe(value: object) -> str:
    """A peer's text or number; empty for anything else."""
    return clip(str(value)) if isinstance(value, str | int) else ""


def to_json(message: Mapping[str, Any]) -> str:
    """One text message."""
    return json.dumps(message, separators=(",", ":"))
