"""What can be set on a transport. Each field works, or is refused when it is set."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from voicews.audio.filters import AudioFilter
from voicews.audio.mixers import AudioMixer
from voicews.audio.pcm import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from voicews.audio.turns import TurnAnalyzer
from voicews.audio.vad import VADAnalyzer
from voicews.exceptions import ConfigurationError
from voicews.serializers.base import FrameSerializer
from voicews.transports.reconnect import ReconnectPolicy
from voicews.video.images import CODECS, COLOR_FORMATS, MAX_SIDE

#: The rates (Hz) that audio usually has: for these a resampler is made whatever a peer says.
SAMPLE_RATES = frozenset(
    [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000]
)

#: Refused by name as a video_out_codec.
VIDEO_CODECS = ("VP8", "VP9", "H264", "H265", "HEVC", "AV1")
#: Bits a second below which no picture would ever be sent.
MIN_VIDEO_BITRATE = 1000
MAX_FRAMERATE = 60
VIDEO_SOURCES = frozenset(["camera", "screen"])
#: What a field of this type takes.
_KINDS: dict[str, tuple[str, type[Any]]] = {
    "int": ("a whole number", numbers.Integral),
    "float": ("a number", numbers.Real),
    "bool": ("True or False", bool),
    "str": ("a name", str),
}


@dataclass(kw_only=True)
class TransportParams:
    """What every transport takes.

    Sample rates are in Hz; None takes the pipeline's. PCM is 16-bit little-endian.
    Raises `ConfigurationError` for a value that can't be honoured.
    """

    #: Off: no audio leaves, whatever the bot pushes.
    audio_out_enabled: bool = False
    audio_out_sample_rate: int | None = None
    audio_out_channels: int = 1
    #: Bits per second for a serializer that compresses (`OpusFrameSerializer`); unused for PCM.
    audio_out_bitrate: int = 96000
    #: A frame longer than n x 10 ms leaves in chunks of that length.
    audio_out_10ms_chunks: int = 4
    #: What is heard under and between the bot's speech: a mixer, or one for each destination (None
    #: is the one that every output has). While there is one, audio never stops.
    audio_out_mixer: AudioMixer | Mapping[str | None, AudioMixer] | None = None
    #: Names for further audio, each with a play queue of its own: frames go there by their
    #: `transport_destination`. Refused where the protocol can't tell them apart.
    audio_out_destinations: Sequence[str] = field(default_factory=list)
    #: Changes all that the bot says, before volume and mixer.
    audio_out_filter: AudioFilter | None = None
    #: Silence (seconds) between the last audio and the close at an orderly end.
    audio_out_end_silence_secs: float = 2.0
    #: Send silence in real time while the bot has nothing to say.
    audio_out_auto_silence: bool = True
    #: How far (seconds) audio is sent ahead of the moment at which it is heard.
    audio_out_lead_secs: float = 0.2
    #: Gain on everything that leaves: 1.0 leaves it alone.
    audio_out_volume: float = 1.0
    #: A write that makes no progress for so long (seconds) ends the call.
    audio_out_write_timeout_secs: float = 10.0

    #: Off: incoming audio is dropped before the pipeline.
    audio_in_enabled: bool = False
    audio_in_sample_rate: int | None = None
    audio_in_channels: int = 1
    #: Changes all that the user says, before voice activity is looked for.
    audio_in_filter: AudioFilter | None = None
    #: False: audio waits outside until a processor pushes a `StartInputFrame` upstream.
    audio_in_stream_on_start: bool = True
    #: False: voice activity is reported, the audio itself goes no further.
    audio_in_passthrough: bool = True
    #: A peer whose audio is so much (seconds) longer than the time since it began is closed with
    #: 1008; None: it may be as fast as it likes.
    audio_in_max_ahead_secs: float | None = None
    #: Finds speech; one analyzer serves one transport.
    vad_analyzer: VADAnalyzer | None = None
    #: Tells the end of a turn from a pause in it, and an answer from a nod; goes with a
    #: `vad_analyzer`. One analyzer serves one transport.
    turn_analyzer: TurnAnalyzer | None = None
    #: Speech of the user silences the bot.
    allow_interruptions: bool = True

    #: Pictures from the user reach the pipeline: JPEG, PNG or WEBP files, as they came.
    video_in_enabled: bool = False
    #: Where they may come from: "camera", "screen".
    video_in_sources: Sequence[str] = field(default_factory=lambda: ["camera", "screen"])
    #: What our browser client is asked for: size (pixels), pictures a second, JPEG quality (1-100).
    video_in_width: int = 640
    video_in_height: int = 480
    video_in_framerate: float = 1.0
    video_in_quality: int = 75
    #: A larger picture (bytes) is refused.
    video_in_max_bytes: int = 1024 * 1024

    #: The bot's pictures reach the user.
    video_out_enabled: bool = False
    #: False: the last picture is repeated, or a sprite's, in turns. True: each is sent once.
    video_out_is_live: bool = False
    #: Pictures are scaled to this size (pixels); a thin link makes them smaller.
    video_out_width: int = 1024
    video_out_height: int = 768
    #: A ceiling, in bits a second; None: as much as the link takes. Quality and rate follow.
    video_out_bitrate: int | None = None
    #: Pictures leave at no more than this rate (a second).
    video_out_framerate: int = 30
    #: The order of raw pixels in pictures that don't say it: RGB, BGR, RGBA, BGRA or L.
    video_out_color_format: str = "RGB"
    #: How pictures are coded: JPEG (None too), PNG or WEBP.
    video_out_codec: str | None = None
    #: Names for further pictures: frames go there by their `transport_destination`.
    video_out_destinations: Sequence[str] = field(default_factory=list)

    #: Turns wire messages into frames; None speaks protobuf.
    serializer: FrameSerializer | None = None
    #: Wrap each outgoing chunk in a WAV header of its own.
    add_wav_header: bool = False
    #: Bad messages in a row after which the peer is closed with 1007.
    max_invalid_messages: int = 10

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("audio_in_sample_rate", "audio_out_sample_rate"):
            rate = getattr(self, name)
            if rate is not None and not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
                raise ConfigurationError(
                    f"expected {name} from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, found {rate}"
                )
        for name in ("audio_in_channels", "audio_out_channels"):
            if getattr(self, name) not in (1, 2):
                raise ConfigurationError(f"expected {name} 1 or 2, found {getattr(self, name)}")
        for name in ("audio_out_10ms_chunks", "audio_out_bitrate", "max_invalid_messages"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, found {getattr(self, name)}")
        for name in ("audio_out_end_silence_secs", "audio_out_lead_secs", "audio_out_volume"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"expected {name} >= 0, found {getattr(self, name)}")
        ahead_secs = self.audio_in_max_ahead_secs
        if ahead_secs is not None and not ahead_secs > 0:
            raise ConfigurationError(f"expected audio_in_max_ahead_secs > 0, found {ahead_secs}")
        self._check_parts()
        self._check_video()
        if self.audio_out_write_timeout_secs <= 0:
            raise ConfigurationError(
                "expected audio_out_write_timeout_secs > 0, "
                f"found {self.audio_out_write_timeout_secs}"
            )

    def _check_types(self) -> None:
        for one in fields(self):
            kind, _, optional = str(one.type).partition(" | ")
            value = getattr(self, one.name)
            if kind not in _KINDS or (optional and value is None):
                continue
            expected, kind_type = _KINDS[kind]
            is_right = isinstance(value, kind_type) and (kind == "bool" or type(value) is not bool)
            if not is_right or (kind == "float" and not math.isfinite(value)):
                raise ConfigurationError(f"{one.name}: expected {expected}, found {value!r}")

    def _check_video(self) -> None:
        codec = self.video_out_codec
        if codec in VIDEO_CODECS:
            raise ConfigurationError(
                f"video_out_codec: expected a picture codec ({', '.join(CODECS)}), found the "
                f"video codec {codec}: a WebSocket carries pictures, one after the other"
            )
        if codec is not None and codec not in CODECS:
            raise ConfigurationError(
                f"video_out_codec: expected one of {', '.join(CODECS)}, found {codec!r}"
            )
        if self.video_out_color_format not in COLOR_FORMATS:
            raise ConfigurationError(
                f"video_out_color_format: expected one of {', '.join(COLOR_FORMATS)}, "
                f"found {self.video_out_color_format!r}"
            )
        for name in ("video_out_width", "video_out_height", "video_in_width", "video_in_height"):
            if not 0 < getattr(self, name) <= MAX_SIDE:
                raise ConfigurationError(
                    f"expected {name} from 1 to {MAX_SIDE}, found {getattr(self, name)}"
                )
        for name in ("video_out_framerate", "video_in_framerate"):
            rate = getattr(self, name)
            if not 0 < rate <= MAX_FRAMERATE:
                raise ConfigurationError(
                    f"expected {name} above 0, at most {MAX_FRAMERATE}, found {rate}"
                )
        if self.video_out_bitrate is not None and self.video_out_bitrate < MIN_VIDEO_BITRATE:
            raise ConfigurationError(
                f"expected video_out_bitrate >= {MIN_VIDEO_BITRATE}, found {self.video_out_bitrate}"
            )
        if not 1 <= self.video_in_quality <= 100:
            raise ConfigurationError(
                f"expected video_in_quality from 1 to 100, found {self.video_in_quality}"
            )
        if self.video_in_max_bytes < 1:
            raise ConfigurationError(
                f"expected video_in_max_bytes >= 1, found {self.video_in_max_bytes}"
            )
        _check_names("video_out_destinations", self.video_out_destinations)
        if not VIDEO_SOURCES.issuperset(_check_names("video_in_sources", self.video_in_sources)):
            raise ConfigurationError(
                f"video_in_sources: expected camera or screen, found {list(self.video_in_sources)}"
            )

    def mixer_of(self, destination: str | None) -> AudioMixer | None:
        """The mixer of one of `audio_out_destinations`, or with None of all other audio."""
        if isinstance(self.audio_out_mixer, Mapping):
            return self.audio_out_mixer.get(destination)
        return self.audio_out_mixer if destination is None else None

    def _check_parts(self) -> None:
        if self.turn_analyzer is not None and self.vad_analyzer is None:
            raise ConfigurationError("turn_analyzer: expected a vad_analyzer too, found none")
        destinations = _check_names("audio_out_destinations", self.audio_out_destinations)
        mixers = self.audio_out_mixer
        if not isinstance(mixers, Mapping):
            mixers = {} if mixers is None else {None: mixers}
        for destination, mixer in mixers.items():
            if destination is not None and destination not in destinations:
                raise ConfigurationError(
                    "audio_out_mixer: expected the names of audio_out_destinations, "
                    f"found {destination!r}"
                )
            _check_methods("audio_out_mixer", mixer, "mix")
        for name in ("audio_out_filter", "audio_in_filter"):
            if getattr(self, name) is not None:
                _check_methods(name, getattr(self, name), "filter")


def _check_names(owner: str, names: Sequence[str]) -> list[str]:
    if not isinstance(names, Iterable):
        raise ConfigurationError(f"{owner}: expected a list of names, found {names!r}")
    found = list(names)
    if isinstance(names, str) or not all(
        isinstance(name, str) and name  # type: ignore[redundant-expr]  # whatever was given
        for name in found
    ):
        raise ConfigurationError(f"{owner}: expected a list of names, found {found!r}")
    if len(set(found)) < len(found):
        raise ConfigurationError(f"{owner}: expected each name once, found {found!r}")
    return found


def _are_headers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(part, str) and not {"\r", "\n", "\0"} & {*part}
        for header in value.items()
        for part in header
    )


def _check_methods(owner: str, value: object, method: str) -> None:
    missing = [
        name
        for name in ("start", "stop", "process_frame", method)
        if not callable(getattr(value, name, None))
    ]
    if missing:
        raise ConfigurationError(
            f"{owner}: expected an object with start, stop, process_frame and {method}, "
            f"found a {type(value).__name__} without {', '.join(missing)}"
        )


@dataclass(kw_only=True)
class WebsocketServerParams(TransportParams):
    """For the server transports."""

    #: A recording of two minutes may come at once.
    audio_in_max_ahead_secs: float | None = 120.0
    #: Total length (seconds) after which a call is closed with 4000; None: no limit.
    session_timeout: float | None = None
    #: A client that is connected and says nothing for so long (seconds) ends the call with 4000;
    #: None: no limit.
    idle_timeout: float | None = None
    #: How long (seconds) a session-scoped transport waits for a client that lost its socket, before
    #: it ends the call; None: no limit. A client that closes with 1000 or 1001 is not waited for.
    reconnect_grace: float | None = None
    #: Origins that browsers may call from; None takes the setting `ALLOWED_ORIGINS`.
    allowed_origins: Sequence[str] | None = None
    #: How long (seconds) the peer gets to answer a close.
    ws_close_timeout: float = 0.5
    #: Raw PCM leaves in packets of exactly so many bytes (640: 20 ms of 16 kHz mono); a rest
    #: waits for the next audio, and is dropped by an interruption.
    fixed_audio_packet_size: int | None = None
    #: The rest leaves at an utterance's end, padded with silence, instead of waiting for the next.
    pad_last_audio_packet: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("session_timeout", "idle_timeout"):
            timeout = getattr(self, name)
            if timeout is not None and timeout <= 0:
                raise ConfigurationError(f"expected {name} > 0 or None, found {timeout}")
        if self.reconnect_grace is not None and self.reconnect_grace < 0:
            raise ConfigurationError(
                f"expected reconnect_grace >= 0 or None, found {self.reconnect_grace}"
            )
        if self.ws_close_timeout <= 0:
            raise ConfigurationError(
                f"expected ws_close_timeout > 0, found {self.ws_close_timeout}"
            )
        if self.allowed_origins is not None:
            _check_names("allowed_origins", self.allowed_origins)
        size = self.fixed_audio_packet_size
        if size is not None and (size < 2 or size % (2 * self.audio_out_channels)):
            raise ConfigurationError(
                "expected fixed_audio_packet_size to hold whole 16-bit samples of "
                f"{self.audio_out_channels} channel(s), found {size}"
            )


@dataclass(kw_only=True)
class WebsocketClientParams(TransportParams):
    """For the transport that connects out."""

    add_wav_header: bool = True
    #: HTTP headers of the handshake.
    additional_headers: Mapping[str, str] | None = None
    #: How long (seconds) the server gets to let us in.
    open_timeout_secs: float = 10.0
    #: The server is pinged this often (seconds), and lost if its answer takes longer; None: never.
    ping_interval_secs: float | None = 20.0
    #: How long (seconds) the server gets to answer a close.
    ws_close_timeout: float = 0.5
    #: A longer message closes the socket with 1009.
    max_message_bytes: int = 1024 * 1024
    #: When to connect again; None: a call whose socket is lost is over.
    reconnect: ReconnectPolicy | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("open_timeout_secs", "ping_interval_secs", "ws_close_timeout"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"expected {name} > 0, found {value}")
        if self.additional_headers is not None and not _are_headers(self.additional_headers):
            # Without the values: they are secrets.
            raise ConfigurationError(
                "additional_headers: expected a mapping of names to texts of one line each"
            )
        if self.max_message_bytes < 1:
            raise ConfigurationError(
                f"expected max_message_bytes >= 1, found {self.max_message_bytes}"
            )


@dataclass(kw_only=True)
class ChannelsWebsocketParams(WebsocketServerParams):
    """For the transport over a Channels consumer."""
