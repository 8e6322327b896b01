"""From the socket into the pipeline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from voicews.audio.pcm import mix_channels
from voicews.audio.resampling import Resampler
from voicews.audio.wav import is_wav, split_wav
from voicews.exceptions import AudioFormatError, InvalidMessage
from voicews.frames import (
    CallEndedFrame,
    ClientConnectedFrame,
    Direction,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    MarkPlayedFrame,
    PingFrame,
    PlaybackPositionFrame,
    ProtocolRequestFrame,
    StartFrame,
    StartInputFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.pipeline.processor import FrameProcessor
from voicews.transports.params import SAMPLE_RATES, TransportParams

if TYPE_CHECKING:
    from voicews.serializers.base import FrameSerializer

logger = logging.getLogger(__name__)

INVALID_LOG_INTERVAL_SECS = 1.0

#: What concerns the transport alone.
ControlInput = (
    PingFrame | PlaybackPositionFrame | MarkPlayedFrame | ProtocolRequestFrame | CallEndedFrame
)


class InputTransport(FrameProcessor):
    """The first processor: turns messages into frames, audio into the pipeline's format.

    `on_invalid` is called when the peer has sent too many bad messages in a row, `on_control` with
    frames that concern the transport alone.
    """

    def __init__(
        self,
        params: TransportParams,
        serializer: FrameSerializer,
        *,
        on_started: Callable[[StartFrame], None],
        on_control: Callable[[ControlInput], None],
        on_invalid: Callable[[], None],
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or "input")
        self._params = params
        self._serializer = serializer
        self._on_started = on_started
        self._on_control = on_control
        self._on_invalid = on_invalid
        self._rate = params.audio_in_sample_rate or 16000
        self._channels = params.audio_in_channels
        self._resampler: Resampler | None = None
        self._resampler_format = (0, 0)
        self._streaming = params.audio_in_stream_on_start
        self._greeted = False
        self._had_client = False
        self._invalid_in_a_row = 0
        self._invalid_logged_at = float("-inf")
        self._invalid_unlogged = 0
        #: Messages that were not what the protocol says, since the call began.
        self.invalid_messages = 0

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, StartInputFrame):
            self._streaming = True
            return
        if isinstance(frame, StartFrame):
            self._rate = self._params.audio_in_sample_rate or frame.audio_in_sample_rate
            if self._params.vad_analyzer is not None:
                self._params.vad_analyzer.set_sample_rate(self._rate)
            self.push_frame(frame, direction)
            self._on_started(frame)
            return
        self.push_frame(frame, direction)

    def new_client(self) -> None:
        """The next valid message is the first of another client."""
        self._greeted = False
        self._invalid_in_a_row = 0
        self._resampler = None

    def check_message(self, data: str | bytes) -> None:
        """Raise `InvalidMessage` if this is not a message of the protocol."""
        try:
            self._serializer.deserialize(data)
        except InvalidMessage:
            raise
        except Exception as error:  # noqa: BLE001 - a project's own serializer
            self.report_exception(error, "to deserialize a message")
            raise InvalidMessage("expected a message that the serializer can take") from None

    def receive(self, data: str | bytes) -> None:
        """Take one message from the socket."""
        try:
            frame = self._serializer.deserialize(data)
            if type(frame) is InputAudioRawFrame:
                frame = self._convert(frame)
        except (InvalidMessage, AudioFormatError) as error:
            self._reject(str(error))
            return
        except Exception as error:  # noqa: BLE001 - a project's own serializer
            self.report_exception(error, "to deserialize a message")
            self._reject("the serializer failed")
            return
        self._invalid_in_a_row = 0
        if not self._greeted:
            self.greet()
        if frame is None:
            return
        if type(frame) is InputAudioRawFrame:
            self._push_audio(frame)
        elif isinstance(frame, ControlInput):
            self._on_control(frame)
        else:
            self.push_frame(frame)

    def greet(self) -> None:
        """The client has said something valid: tell the pipeline that it is there, once."""
        if not self._greeted:
            self._greeted = True
            resumed, self._had_client = self._had_client, True
            self.push_frame(ClientConnectedFrame(resumed))

    def _convert(self, frame: InputAudioRawFrame) -> InputAudioRawFrame | None:
        """The frame in the pipeline's format; None if audio is not wanted."""
        if not self._params.audio_in_enabled or not self._streaming:
            return None
        pcm, rate, channels = frame.audio, frame.sample_rate, frame.num_channels
        if is_wav(pcm):
            wav = split_wav(pcm)
            pcm, rate, channels = wav.audio, wav.sample_rate, wav.num_channels
        elif rate == self._rate and channels == self._channels:
            return frame
        if rate != self._rate and rate not in SAMPLE_RATES:
            raise InvalidMessage(f"expected one of the usual sample rates, found {rate} Hz")
        if channels != self._channels:
            pcm = mix_channels(pcm, channels, self._channels)
        if rate != self._rate:
            if self._resampler is None or self._resampler_format != (rate, self._channels):
                self._resampler = Resampler(rate, self._rate, self._channels)
                self._resampler_format = (rate, self._channels)
            pcm = self._resampler.process(pcm)
        return InputAudioRawFrame(pcm, self._rate, self._channels, frame.pts)

    def _push_audio(self, frame: InputAudioRawFrame) -> None:
        vad = self._params.vad_analyzer
        if vad is None:
            if self._params.audio_in_passthrough:
                self.push_frame(frame)
            return
        pcm = frame.audio if self._channels == 1 else mix_channels(frame.audio, self._channels, 1)
        try:
            events = vad.process(pcm)
        except Exception as error:  # noqa: BLE001 - a project's own analyzer
            self.report_exception(error, "to detect voice activity")
            events = []
        for event in events:
            if event.speaking:
                self.push_frame(UserStartedSpeakingFrame(event.edge_secs, event.detected_secs))
                if self._params.allow_interruptions:
                    self.push_frame(InterruptionFrame())
        if self._params.audio_in_passthrough:
            self.push_frame(frame)
        for event in events:
            if not event.speaking:
                self.push_frame(UserStoppedSpeakingFrame(event.edge_secs, event.detected_secs))

    def _reject(self, error: str) -> None:
        self.invalid_messages += 1
        self._invalid_in_a_row += 1
        now = asyncio.get_running_loop().time()
        if now - self._invalid_logged_at >= INVALID_LOG_INTERVAL_SECS:
            logger.warning(
                "call %s: bad message: %s%s",
                self.call_id,
                error,
                f" ({self._invalid_unlogged} more before it)" if self._invalid_unlogged else "",
            )
            self._invalid_logged_at = now
            self._invalid_unlogged = 0
        else:
            self._invalid_unlogged += 1
        if self._invalid_in_a_row == self._params.max_invalid_messages:
            self._on_invalid()
