"""From the pipeline to the socket, paced on media time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from voicews.audio.wav import wrap_wav
from voicews.exceptions import ConfigurationError
from voicews.frames import (
    BotInterruptedFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    DataFrame,
    Direction,
    EndFrame,
    FilterControlFrame,
    Frame,
    InputFrame,
    InterruptionFrame,
    MarkFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    PlayedFrame,
    SpriteFrame,
    StartFrame,
    VolumeFrame,
    VolumeGainFrame,
)
from voicews.serial_queue import SerialQueue
from voicews.transports.ends import (
    LAST_METHODS_SECS,
    SerializerQueues,
    TransportEnd,
    finished,
    overrides,
)
from voicews.transports.params import TransportParams
from voicews.transports.pictures import PictureOutput
from voicews.transports.track import OutputTrack
from voicews.transports.writer import SocketWriter

if TYPE_CHECKING:
    from voicews.serializers.base import FrameSerializer


#: What changes the sound of one destination.
SoundControl = FilterControlFrame | MixerControlFrame | VolumeFrame | VolumeGainFrame


class OutputTransport(TransportEnd):
    """The last processor but for those that want to see what was sent.

    What the bot says waits in an `OutputTrack`; whatever else the protocol has a message for leaves
    at once. `on_ended` is called with the frame that ended the call when nothing is left to play.

    `write_audio_frame` and `send_message` may be overridden, and may wait; then what leaves waits
    in a queue, in order, as it does for a serializer that waits.
    """

    def __init__(
        self,
        params: TransportParams,
        serializer: FrameSerializer,
        *,
        packet_size: int | None = None,
        pads_last_packet: bool = False,
        on_ended: Callable[[EndFrame | CancelFrame], None],
        serializer_queues: SerializerQueues | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or "output")
        self._params = params
        self._serializer = serializer
        #: What leaves by methods that may wait; None if none does.
        self._leaving: SerialQueue | None = None
        self._leaving_to: SocketWriter | None = None
        if serializer_queues is not None:
            self._leaving = serializer_queues.outgoing
        elif overrides(self, OutputTransport, "write_audio_frame", "send_message"):
            self._leaving = SerialQueue(on_error=self._method_failed)
        #: Presses keys where the serializer has no message for it; None: they are played as tones.
        self.press_keys: Callable[[str], None] | None = None
        self._on_ended = on_ended
        #: Set when either a client or a cancel will come for certain: then the end waits for it.
        self.awaits_client = False
        self._writer: SocketWriter | None = None
        if params.audio_out_destinations and not serializer.carries_destinations:
            raise ConfigurationError(
                "audio_out_destinations: expected none with the protocol of "
                f"{type(serializer).__name__}, found {len(params.audio_out_destinations)}"
            )
        has_video = params.video_in_enabled or params.video_out_enabled
        if has_video and not serializer.carries_pictures:
            raise ConfigurationError(
                f"video: expected none with the protocol of {type(serializer).__name__}"
            )
        self.pictures = PictureOutput(params, self.send, self.push_frame, self._report_picture)
        self._by_destination = {
            destination: OutputTrack(
                self,
                params,
                serializer,
                destination,
                packet_size=packet_size,
                pads_last_packet=pads_last_packet,
            )
            for destination in (None, *params.audio_out_destinations)
        }
        self._track = self._by_destination[None]
        self._tracks = list(self._by_destination.values())
        self._unknown_destinations: set[str] = set()
        self._speaking_tracks = 0
        self._ending = False
        self._end_frame: EndFrame | None = None
        self._playing: set[OutputTrack] = set()

    # --- from the transport ---------------------------------------------------------------------

    def connect(self, writer: SocketWriter) -> None:
        """A client listens: go on with what waits."""
        self._writer = writer
        for track in self._tracks:
            track.connect(writer)
        self.pictures.connect()

    def disconnect(self) -> None:
        """No client: audio that was sent but not played is lost, queued audio stays queued."""
        writer, self._writer = self._writer, None
        self.pictures.disconnect()
        for track in self._tracks:
            track.disconnect(writer)
        if self._end_frame is not None:
            self._give_up(self._end_frame)

    def send(self, frame: Frame, *, urgent: bool = True) -> None:
        """Send a frame past the play queue, if the protocol has a message for it."""
        if self._leaving is None:
            self._write(frame, urgent=urgent)
        elif self._writer is not None:
            leave = partial(self._leave, self._writer, frame, urgent=urgent)
            self._leaving.put(f"to send {type(frame).__name__}", leave)

    def send_audio(self, frame: OutputAudioRawFrame) -> None:
        """Send audio whose turn it is."""
        if self._leaving is None:
            self._write(self._with_header(frame), urgent=False)
        else:
            self.send(frame, urgent=False)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write audio, past the play queue, with its WAV header if there is to be one.

        True if it was written: False if nobody is there, or the protocol has no message for it.
        """
        return await self._write_in_turn(self._with_header(frame), urgent=False)

    async def send_message(
        self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
    ) -> None:
        """Write a message, past the play queue."""
        urgent = isinstance(frame, OutputTransportMessageUrgentFrame)
        await self._write_in_turn(frame, urgent=urgent)

    def _with_header(self, frame: OutputAudioRawFrame) -> OutputAudioRawFrame:
        if not self._params.add_wav_header:
            return frame
        return replace(frame, audio=wrap_wav(frame.audio, frame.sample_rate, frame.num_channels))

    def _write(self, frame: Frame, *, urgent: bool) -> bool:
        writer = self._writer
        if writer is None:
            return False
        try:
            data = self._serializer.serialize(frame)
        except Exception as error:  # noqa: BLE001 - a project's own serializer, or its data
            # Whatever comes after it in the queue must go on.
            self.report_exception(error, f"to serialize {type(frame).__name__}")
            return False
        if data is None:
            return False
        writer.put(data, urgent=urgent)
        return writer.error is None

    async def _write_in_turn(self, frame: Frame, *, urgent: bool) -> bool:
        writer = self._leaving_to or self._writer
        if writer is None:
            return False
        try:
            data = await finished(self._serializer.serialize(frame))
        except Exception as error:  # noqa: BLE001 - a project's own serializer, or its data
            self.report_exception(error, f"to serialize {type(frame).__name__}")
            return False
        if data is None or writer.error is not None:
            return False
        writer.put(data, urgent=urgent)
        return writer.error is None

    async def _leave(self, writer: SocketWriter, frame: Frame, *, urgent: bool) -> None:
        # Whoever was there when it was sent gets it, even if that is a goodbye.
        self._leaving_to = writer
        try:
            if isinstance(frame, OutputAudioRawFrame):
                await self.write_audio_frame(frame)
            elif isinstance(frame, OutputTransportMessageFrame | OutputTransportMessageUrgentFrame):
                await self.send_message(frame)
            else:
                await self._write_in_turn(frame, urgent=urgent)
        finally:
            self._leaving_to = None

    async def wait_sent(self, timeout_secs: float) -> None:
        """Wait until all that was sent is with the writer, for so long at most."""
        if self._leaving is not None:
            await self._leaving.join(timeout_secs)

    def acknowledge_mark(self, name: str) -> None:
        """The client says that it has played up to the mark `name`."""
        for track in self._tracks:
            track.acknowledge_mark(name)

    def report_playback(self, pts: int, state: str) -> None:
        """The client says that it has played up to `pts` (ns)."""
        self._track.report_playback(pts, state)

    # --- from the pipeline ----------------------------------------------------------------------

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if self._lane is not None and self._holds(frame, direction):
            return
        kind = type(frame)
        if kind is OutputAudioRawFrame:
            assert isinstance(frame, OutputAudioRawFrame)
            track = self._track if frame.transport_destination is None else self._track_of(frame)
            if track is not None:
                track.play(frame)
        elif isinstance(frame, InputFrame) and direction is Direction.DOWNSTREAM:
            # What the user did is for the bot: sent back, it would be the user's once more.
            return
        elif direction is Direction.UPSTREAM:
            self.push_frame(frame, direction)
        elif isinstance(frame, OutputImageRawFrame | SpriteFrame):
            self._show(frame)
        elif isinstance(frame, DataFrame | SoundControl):
            track = self._track_of(frame)
            if track is not None:
                track.put(frame)
        else:
            self._obey(frame)

    def _obey(self, frame: Frame) -> None:
        if isinstance(frame, InterruptionFrame):
            self._interrupt()
            self.push_frame(frame)
        elif isinstance(frame, EndFrame):
            self._end(frame)
        elif isinstance(frame, CancelFrame):
            self._cancel(frame)
        elif isinstance(frame, StartFrame):
            self._start(frame)
        else:
            self.send(frame)
            self.push_frame(frame)

    def _start(self, frame: StartFrame) -> None:
        rate = (
            self._params.audio_out_sample_rate
            or self._serializer.sample_rate
            or frame.audio_out_sample_rate
        )
        for track in self._tracks:
            track.start(rate)
        self.push_frame(frame)

    def _track_of(self, frame: Frame) -> OutputTrack | None:
        destination = frame.transport_destination
        track = self._by_destination.get(destination)
        if track is None and destination is not None:
            if destination not in self._unknown_destinations:
                self._unknown_destinations.add(destination)
                self.push_error(f"{destination!r} is not one of audio_out_destinations")
            if isinstance(frame, MarkFrame):
                self.push_frame(PlayedFrame(frame.name, 0.0, interrupted=True), Direction.UPSTREAM)
        return track

    def _show(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        if isinstance(frame, OutputImageRawFrame) and frame.sync_with_audio:
            self._track.put(frame)
        else:
            self.show_now(frame)

    def _report_picture(self, error: Exception) -> None:
        self.report_exception(error, "to show a picture")

    def _interrupt(self) -> None:
        now = asyncio.get_running_loop().time()
        dropped = [(track, track.drop_queued(now)) for track in self._tracks]
        audible = [(track, unsent) for track, unsent in dropped if unsent is not None]
        if not audible:
            return
        flushed = {track: not track.is_continuous for track, _ in audible}
        if self._writer is not None and any(flushed.values()):
            self._writer.drop_pending()
            for track in filter(flushed.__getitem__, flushed):
                self.send(InterruptionFrame(transport_destination=track.destination))
        cut: list[PlayedFrame] = []
        for track, unsent in audible:
            cut += track.cut(unsent, now, flushed=flushed[track])
        self.push_frame(BotInterruptedFrame(), Direction.UPSTREAM)
        for track, _ in audible:
            track.stop_speaking()
        for played in cut:
            self.push_frame(played, Direction.UPSTREAM)
        for track, _ in audible:
            track.pump()

    def _end(self, frame: EndFrame) -> None:
        if self._ending:
            return
        self._ending = True
        self._end_frame = frame
        self._playing = set(self._tracks)
        listens = self._writer is not None or self.awaits_client
        for track in self._tracks:
            track.end(frame, self._params.audio_out_end_silence_secs if listens else 0.0)
        if listens:
            for track in self._tracks:
                track.pump()
        else:
            self._give_up(frame)

    def _cancel(self, frame: CancelFrame) -> None:
        self._ending = True
        for track in self._tracks:
            track.disconnect(self._writer)
        if self._writer is not None:
            self._writer.drop_pending()
        self._give_up(frame)

    def _give_up(self, frame: EndFrame | CancelFrame) -> None:
        for track in self._tracks:
            track.give_up()
        self._finish(frame)

    def _finish(self, frame: EndFrame | CancelFrame) -> None:
        self._end_frame = None
        for track in self._tracks:
            track.close()
        self.pictures.stop()
        # For a protocol that says goodbye before the close.
        self.send(frame, urgent=False)
        self._on_ended(frame)
        self.push_frame(frame)

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._leaving is not None:
            await self._leaving.join(LAST_METHODS_SECS)
            await self._leaving.cancel()
        for track in self._tracks:
            await track.cleanup()

    # --- from the tracks ------------------------------------------------------------------------

    def show_now(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        self.pictures.show(frame)

    def press(self, buttons: str) -> bool:
        if self.press_keys is None:
            return False
        self.press_keys(buttons)
        return True

    def track_speaking(self, speaking: bool) -> None:
        before = self._speaking_tracks
        self._speaking_tracks += 1 if speaking else -1
        if not before:
            self.push_frame(BotStartedSpeakingFrame(), Direction.UPSTREAM)
        elif not self._speaking_tracks:
            self.push_frame(BotStoppedSpeakingFrame(), Direction.UPSTREAM)

    def track_ended(self, track: OutputTrack) -> None:
        self._playing.discard(track)
        if not self._playing and self._end_frame is not None:
            self._finish(self._end_frame)
