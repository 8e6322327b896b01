"""What flows through a pipeline.

Four kinds, by what may happen to them on the way:

* `SystemFrame` overtakes everything that waits in a queue.
* `ControlFrame` keeps its place and is never dropped.
* `InputFrame`, what the user did, keeps its place and is never dropped by an interruption.
* `DataFrame`, what the bot is about to say, keeps its place and is dropped by an interruption.

PCM is 16-bit little-endian, channels interleaved; sample rates are in Hz; times are in
milliseconds (`_ms`), seconds (`_secs`) or, for `pts`, nanoseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voicews.audio.pcm import BYTES_PER_SAMPLE
from voicews.close_codes import CloseCode

__all__ = [
    "AudioRawFrame",
    "BotInterruptedFrame",
    "BotOutputFrame",
    "BotStartedSpeakingFrame",
    "BotStoppedSpeakingFrame",
    "CallEndedFrame",
    "CallStartedFrame",
    "CancelFrame",
    "CancelTaskFrame",
    "CancelWorkerFrame",
    "ClientConnectedFrame",
    "ClientDisconnectedFrame",
    "ClientMessageFrame",
    "ControlFrame",
    "DataFrame",
    "Direction",
    "EndFrame",
    "EndRequestFrame",
    "EndTaskFrame",
    "EndWorkerFrame",
    "ErrorFrame",
    "FilterControlFrame",
    "FilterEnableFrame",
    "FilterUpdateSettingsFrame",
    "Frame",
    "ImagePieceFrame",
    "ImagePieceReceivedFrame",
    "ImageRawFrame",
    "ImageRefusedFrame",
    "ImageRequestFrame",
    "InputAudioRawFrame",
    "InputDTMFFrame",
    "InputFrame",
    "InputImageRawFrame",
    "InputTextFrame",
    "InputTextRawFrame",
    "InputTransportMessageFrame",
    "InputTransportMessageUrgentFrame",
    "InputTransportStartAudioStreamingFrame",
    "InterruptionFrame",
    "MarkFrame",
    "MarkPlayedFrame",
    "MetricsFrame",
    "MixerControlFrame",
    "MixerEnableFrame",
    "MixerUpdateSettingsFrame",
    "OutputAudioRawFrame",
    "OutputDTMFFrame",
    "OutputImageRawFrame",
    "OutputTranscriptionFrame",
    "OutputTransportMessageFrame",
    "OutputTransportMessageUrgentFrame",
    "PingFrame",
    "PlaybackPositionFrame",
    "PlayedFrame",
    "PongFrame",
    "ProtocolRequestFrame",
    "ServerResponseFrame",
    "SpriteFrame",
    "StartFrame",
    "StartInputFrame",
    "StartInterruptionFrame",
    "SystemFrame",
    "TextFrame",
    "TranscriptionFrame",
    "TransportMessageFrame",
    "TransportMessageUrgentFrame",
    "UserImageRawFrame",
    "UserImageRefusedFrame",
    "UserImageRequestFrame",
    "UserStartedSpeakingFrame",
    "UserStoppedSpeakingFrame",
    "VolumeFrame",
    "VolumeGainFrame",
]


class Direction(enum.Enum):
    """Downstream runs from the client's input to its output, upstream the other way."""

    DOWNSTREAM = enum.auto()
    UPSTREAM = enum.auto()


@dataclass(slots=True)
class Frame:
    """One piece of what flows.

    `transport_destination` names one of the output's `audio_out_destinations`; None is the one that
    every output has.
    """

    transport_destination: str | None = field(default=None, kw_only=True, repr=False)


@dataclass(slots=True)
class SystemFrame(Frame):
    """Overtakes queued frames; is never dropped."""


@dataclass(slots=True)
class ControlFrame(Frame):
    """Keeps its place among queued frames; is never dropped."""


@dataclass(slots=True)
class InputFrame(Frame):
    """What the user did: keeps its place, survives an interruption."""


@dataclass(slots=True)
class DataFrame(Frame):
    """What the bot is about to say or show: keeps its place, is dropped by an interruption."""


# --- life cycle -------------------------------------------------------------------------------


@dataclass(slots=True)
class StartFrame(SystemFrame):
    """The first frame: the rates (Hz) that the pipeline works at."""

    audio_in_sample_rate: int = 16000
    audio_out_sample_rate: int = 24000


@dataclass(slots=True)
class EndFrame(ControlFrame):
    """The last frame of a call that ends in order: what is queued before it is still played."""

    reason: str = ""
    close_code: int = CloseCode.NORMAL


@dataclass(slots=True)
class CancelFrame(SystemFrame):
    """The last frame of a call that ends at once: what is queued is dropped."""

    reason: str = ""
    close_code: int = CloseCode.NORMAL


@dataclass(slots=True)
class EndRequestFrame(SystemFrame):
    """Travels upstream: a processor asks the task to end the call, in order or `at_once`."""

    reason: str = ""
    close_code: int = CloseCode.NORMAL
    at_once: bool = False


#: The same by the field's names.
EndWorkerFrame = EndTaskFrame = EndRequestFrame


@dataclass(slots=True)
class CancelWorkerFrame(EndRequestFrame):
    """Travels upstream: a processor asks the task to end the call at once."""

    at_once: bool = True


#: The same by the name that it had before.
CancelTaskFrame = CancelWorkerFrame


@dataclass(slots=True)
class ErrorFrame(SystemFrame):
    """A processor failed. `error` is safe to show to a client; `fatal` ends the call."""

    error: str
    fatal: bool = False
    processor: str = ""


@dataclass(slots=True)
class InterruptionFrame(SystemFrame):
    """The bot stops talking: queued `DataFrame`s are dropped, the client flushes its player."""


#: The same by the name that it had before.
StartInterruptionFrame = InterruptionFrame


# --- the client -------------------------------------------------------------------------------


@dataclass(slots=True)
class ClientConnectedFrame(SystemFrame):
    """A client has sent its first valid message; `resumed` when it isn't the call's first."""

    resumed: bool = False


@dataclass(slots=True)
class ClientDisconnectedFrame(SystemFrame):
    """The client's socket is gone; in a session-scoped transport the call goes on for a while."""

    close_code: int = CloseCode.ABNORMAL


@dataclass(slots=True)
class InputTransportStartAudioStreamingFrame(SystemFrame):
    """Audio that `audio_in_stream_on_start` held back may flow; comes to the input either way."""


#: The same by our own name.
StartInputFrame = InputTransportStartAudioStreamingFrame


@dataclass(slots=True)
class PingFrame(SystemFrame):
    """The client asks for a sign of life; the transport answers with the same id."""

    id: str


@dataclass(slots=True)
class PongFrame(SystemFrame):
    """The answer to a `PingFrame`."""

    id: str


@dataclass(slots=True)
class PlaybackPositionFrame(SystemFrame):
    """The client's report of what it has really played.

    `pts` is the position (ns) of the last sample heard; `state` is `playing`, `idle` (ran dry)
    or `flushed` (after an interruption).
    """

    pts: int
    state: str = "playing"


# --- phone calls ------------------------------------------------------------------------------


@dataclass(slots=True)
class CallStartedFrame(SystemFrame):
    """The stream of a phone call begins; what the provider says about the call.

    Ids and numbers are as the provider writes them, empty where it doesn't say them here.
    `encoding` and `sample_rate` (Hz) are those of the caller's audio on the wire. A `is_probe` is
    no call: the provider tries the connection, and wants the protocol answered but no bot.

    Serialized, it is the message that accepts the call, for a protocol that has one.
    """

    provider: str
    call_id: str
    stream_id: str = ""
    account_id: str = ""
    from_number: str = ""
    to_number: str = ""
    #: What our own answer to the webhook gave the stream to carry: the token is among it.
    parameters: dict[str, str] = field(default_factory=dict, repr=False)
    encoding: str = ""
    sample_rate: int = 8000
    is_probe: bool = False


@dataclass(slots=True)
class CallEndedFrame(SystemFrame):
    """The provider ends the stream of a phone call; `reason` is its word for why, if it has one.

    Serialized, it is the message that says goodbye, for a protocol that has one.
    """

    call_id: str
    reason: str = ""


@dataclass(slots=True)
class ProtocolRequestFrame(SystemFrame):
    """The peer asks for something that only the protocol is concerned with.

    The transport has the serializer write the answer: it serializes this very frame. What the bot
    should know of it is `data`: it gets a `ClientMessageFrame` of the request's name.
    """

    request: str
    data: dict[str, Any] | None = None


# --- audio ------------------------------------------------------------------------------------


@dataclass(slots=True)
class AudioRawFrame(Frame):
    """PCM; `pts` is the position (ns) of its first sample in its stream, if known."""

    audio: bytes
    sample_rate: int
    num_channels: int = 1
    pts: int | None = None

    @property
    def num_frames(self) -> int:
        """Samples per channel."""
        return len(self.audio) // (BYTES_PER_SAMPLE * self.num_channels)

    @property
    def duration_secs(self) -> float:
        return len(self.audio) / (BYTES_PER_SAMPLE * self.num_channels * self.sample_rate)


@dataclass(slots=True)
class InputAudioRawFrame(AudioRawFrame, InputFrame):
    """Audio from the user."""


@dataclass(slots=True)
class OutputAudioRawFrame(AudioRawFrame, DataFrame):
    """Audio for the user; `live` if it comes in real time, and is of no use when it is late."""

    live: bool = False


@dataclass(slots=True)
class MarkFrame(DataFrame):
    """Ends the utterance `name`: the last `duration_ms` of audio that were pushed before it.

    The output transport answers upstream with one `PlayedFrame` of the same name.
    """

    name: str
    duration_ms: float


@dataclass(slots=True)
class CueFrame(DataFrame):
    """Ends a part of an utterance, the last `duration_ms` of audio that were pushed before it.

    The output transport answers it like a `MarkFrame`, without telling the peer.
    """

    name: str
    duration_ms: float


@dataclass(slots=True)
class MarkPlayedFrame(SystemFrame):
    """The peer says that it has played everything up to the mark `name`."""

    name: str


@dataclass(slots=True)
class PlayedFrame(SystemFrame):
    """Travels upstream: the utterance `name` is over.

    `heard_ms` is how much of it the user heard, `interrupted` whether that was cut short. Of what
    was, a bot that knows its words adds those that were heard.
    """

    name: str
    heard_ms: float
    interrupted: bool = False
    heard_text: str | None = None


@dataclass(slots=True)
class UserStartedSpeakingFrame(InputFrame):
    """Speech began at `edge_secs` of the input stream, which was certain at `detected_secs`."""

    edge_secs: float = 0.0
    detected_secs: float = 0.0


@dataclass(slots=True)
class UserStoppedSpeakingFrame(InputFrame):
    """Speech ended at `edge_secs` of the input stream, which was certain at `detected_secs`."""

    edge_secs: float = 0.0
    detected_secs: float = 0.0


@dataclass(slots=True)
class BotStartedSpeakingFrame(SystemFrame):
    """Travels upstream: the first audio of what the bot says has left."""


@dataclass(slots=True)
class BotStoppedSpeakingFrame(SystemFrame):
    """Travels upstream: what the bot said has been played, or was interrupted."""


@dataclass(slots=True)
class BotInterruptedFrame(SystemFrame):
    """Travels upstream: an interruption really cut something off."""


# --- sound on its way out or in ---------------------------------------------------------------


@dataclass(slots=True)
class VolumeFrame(ControlFrame):
    """From here on the output's audio is multiplied by `volume`: 1.0 leaves it alone."""

    volume: float


@dataclass(slots=True)
class VolumeGainFrame(ControlFrame):
    """Multiplies the output's volume by `gain`, until the next of these: for some of the audio."""

    gain: float


@dataclass(slots=True)
class MixerControlFrame(ControlFrame):
    """For the mixer of the output; taken at once."""


@dataclass(slots=True)
class MixerUpdateSettingsFrame(MixerControlFrame):
    """New settings for the mixer; which it has, it says itself."""

    settings: Mapping[str, Any]


@dataclass(slots=True)
class MixerEnableFrame(MixerControlFrame):
    """Switches the mixer on or off."""

    enable: bool


@dataclass(slots=True)
class FilterControlFrame(ControlFrame):
    """For the first filter on its way: upstream the input's, downstream the output's."""


@dataclass(slots=True)
class FilterUpdateSettingsFrame(FilterControlFrame):
    """New settings for the filter; which it has, it says itself."""

    settings: Mapping[str, Any]


@dataclass(slots=True)
class FilterEnableFrame(FilterControlFrame):
    """Switches the filter on or off."""

    enable: bool


# --- pictures ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ImageRawFrame(Frame):
    """A picture.

    `format` says how `image` is coded: "JPEG", "PNG" or "WEBP", or how raw pixels are ordered:
    "RGB", "BGR", "RGBA", "BGRA" or "L", row by row without padding. `size` is (width, height).
    None: raw, in the transport's `video_out_color_format`. `pts` is in nanoseconds.
    """

    image: bytes
    size: tuple[int, int]
    format: str | None = None
    pts: int | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class InputImageRawFrame(ImageRawFrame, InputFrame):
    """A picture from the user; `source` is "camera" or "screen"."""

    source: str = field(default="camera", kw_only=True)


@dataclass(slots=True)
class OutputImageRawFrame(ImageRawFrame, DataFrame):
    """A picture for the user. With `sync_with_audio` it keeps its place among the audio."""

    sync_with_audio: bool = field(default=False, kw_only=True)


@dataclass(slots=True)
class SpriteFrame(DataFrame):
    """Pictures that are shown one after the other, again and again, until another one comes."""

    images: list[OutputImageRawFrame]


@dataclass(slots=True)
class UserImageRequestFrame(SystemFrame):
    """Travels upstream: asks the client for one picture.

    The answer comes downstream: a `UserImageRawFrame`, or a `UserImageRefusedFrame`.
    """

    user_id: str = ""
    text: str | None = None
    video_source: str = "camera"


@dataclass(slots=True)
class UserImageRawFrame(InputImageRawFrame):
    """The picture that a `UserImageRequestFrame` asked for."""

    request: UserImageRequestFrame | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class UserImageRefusedFrame(InputFrame):
    """There is no picture for a `UserImageRequestFrame`; `reason` is safe to show."""

    request: UserImageRequestFrame
    reason: str


@dataclass(slots=True)
class ImagePieceFrame(SystemFrame):
    """A piece of a picture on the wire: from `offset` on, of `total` bytes. It may be all of it.

    Pieces are acknowledged one by one, so that audio never waits behind a whole picture.
    `name` is the source or the destination, `request` the id of what it answers, or 0.
    """

    id: int
    name: str
    piece: bytes
    offset: int
    total: int
    size: tuple[int, int]
    format: str
    pts: int | None = None
    request: int = 0


@dataclass(slots=True)
class ImagePieceReceivedFrame(SystemFrame):
    """The peer has received `num_bytes` of the picture `id`."""

    id: int
    name: str
    num_bytes: int


@dataclass(slots=True)
class ImageRequestFrame(SystemFrame):
    """On the wire: asks the peer for one picture from `source`, to be answered with `id`."""

    id: int
    source: str


@dataclass(slots=True)
class ImageRefusedFrame(SystemFrame):
    """On the wire: there is no picture for the `ImageRequestFrame` of that `id`."""

    id: int
    reason: str


# --- text, messages, keys ---------------------------------------------------------------------


@dataclass(slots=True)
class TextFrame(DataFrame):
    """Text for the user."""

    text: str


@dataclass(slots=True)
class InputTextFrame(InputFrame):
    """Text from the user, typed rather than spoken."""

    text: str
    id: str = ""


#: The same by the field's name.
InputTextRawFrame = InputTextFrame


@dataclass(slots=True)
class TranscriptionFrame(InputFrame):
    """What the user said; `timestamp` is ISO 8601; not `final` while it may still change."""

    text: str
    user_id: str = ""
    timestamp: str = ""
    final: bool = True


@dataclass(slots=True)
class OutputTranscriptionFrame(DataFrame):
    """What was said, for the peer: a `TranscriptionFrame` on its way to another server."""

    text: str
    user_id: str = ""
    timestamp: str = ""


@dataclass(slots=True)
class BotOutputFrame(SystemFrame):
    """What the bot says, as text; `spoken` if it is also heard.

    `playback` names the utterance (see `MarkFrame`) that these are the words of, if it is known,
    `segment` is the number of this text in it.
    """

    text: str
    spoken: bool = True
    aggregated_by: str = "sentence"
    playback: str = ""
    segment: int = 0


@dataclass(slots=True)
class BotOutputProgressFrame(SystemFrame):
    """Travels upstream: so many characters of a text, a `segment` of `playback`, were heard."""

    playback: str
    segment: int
    text: str
    heard: int
    aggregated_by: str = "sentence"


@dataclass(slots=True)
class ClientReadyFrame(SystemFrame):
    """The client speaks RTVI, in this version, and has been told that the bot is ready."""

    version: tuple[int, int, int] = (0, 0, 0)


@dataclass(slots=True)
class InputTransportMessageFrame(InputFrame):
    """A message from the client's application: any JSON object."""

    message: dict[str, Any]


#: The same by the name that it had before.
InputTransportMessageUrgentFrame = InputTransportMessageFrame


@dataclass(slots=True)
class OutputTransportMessageFrame(DataFrame):
    """A message to the client that keeps its place among the audio."""

    message: dict[str, Any]


#: The same by the name that it had before.
TransportMessageFrame = OutputTransportMessageFrame


@dataclass(slots=True)
class OutputTransportMessageUrgentFrame(SystemFrame):
    """A message to the client that leaves at once."""

    message: dict[str, Any]


#: The same by the name that it had before.
TransportMessageUrgentFrame = OutputTransportMessageUrgentFrame


@dataclass(slots=True)
class ClientMessageFrame(InputFrame):
    """An RTVI `client-message`: `type` and `data` are the application's own.

    A message with an `id` expects one answer; one that is `one_way` only if it is refused.
    """

    type: str
    data: Any = None
    id: str = ""
    one_way: bool = False


@dataclass(slots=True)
class ServerResponseFrame(SystemFrame):
    """Travels upstream to RTVI: the answer to a `ClientMessageFrame`; `error` refuses it."""

    request: ClientMessageFrame
    data: Any = None
    error: str | None = None


@dataclass(slots=True)
class InputDTMFFrame(InputFrame):
    """A key that the user pressed: one of `0123456789*#ABCD`."""

    button: str


@dataclass(slots=True)
class OutputDTMFFrame(DataFrame):
    """Keys to press for the bot, in this order: any of `0123456789*#ABCD`."""

    buttons: str


@dataclass(slots=True)
class MetricsFrame(SystemFrame):
    """Figures for the client, as RTVI's `metrics` message carries them."""

    data: dict[str, Any] = field(default_factory=dict)
