"""The play queue of one destination of an output, paced on media time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from copy import copy
from typing import TYPE_CHECKING, Protocol

from voicews.audio.dtmf import dtmf_tone
from voicews.audio.pcm import (
    BYTES_PER_SAMPLE,
    silence,
)
from voicews.frames import (
    CueFrame,
    Direction,
    EndFrame,
    FilterControlFrame,
    Frame,
    MarkFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputImageRawFrame,
    PlayedFrame,
    VolumeFrame,
    VolumeGainFrame,
)
from voicews.transports.effects import OutputEffects
from voicews.transports.live_trim import LIVE_DELAY_SECS, LiveTrim
from voicews.transports.output_format import OutputFormat
from voicews.transports.pacing import Pacer
from voicews.transports.params import TransportParams
from voicews.transports.play_queue import MAX_QUEUED_BYTES, PlayQueue, Unsent
from voicews.transports.playout import Playout
from voicews.transports.writer import SocketWriter

if TYPE_CHECKING:
    from voicews.audio.filters import AudioFilter
    from voicews.audio.mixers import AudioMixer
    from voicews.serializers.base import FrameSerializer

NS_PER_SEC = 1_000_000_000

#: The bot has stopped speaking when nothing followed what it said for so long.
SPEECH_HOLD_SECS = 0.2
#: Silence is filled in only after a pause that jitter can't explain, or it would tear speech.
SILENCE_HOLD_SECS = 0.1
#: The peer's own buffer: so long after the playhead an interruption may still cut something off.
PEER_BUFFER_SECS = 0.3
#: With a mixer, what is heard goes on through an interruption: so much (seconds) of what the bot
#: said may still be heard after it.
MIXED_LEAD_SECS = 0.1
#: How far ahead (seconds) a mixer's own sound is sent: what the bot says comes after it.
FILL_LEAD_SECS = 0.04
#: While the bot speaks its audio may come as late as this (seconds) before it is torn.
FILL_MARGIN_SECS = 0.01
#: A peer that has not taken so much (seconds) is behind, and has to be told to flush.
MAX_CONTINUOUS_BACKLOG_SECS = 0.5
#: A key played as a tone, and the silence after it (ms).
KEY_TONE_MS, KEY_PAUSE_MS = 120, 80


class TrackOwner(Protocol):
    """What a track asks of its output transport."""

    def send(self, frame: Frame, *, urgent: bool = True) -> None: ...
    def send_audio(self, frame: OutputAudioRawFrame) -> None: ...
    def push_frame(self, frame: Frame, direction: Direction = ...) -> None: ...
    def push_error(self, error: str) -> None: ...
    def report_exception(self, error: BaseException, doing: str) -> None: ...
    def press(self, buttons: str) -> bool:
        """Press keys other than by tones; False if that can't be done."""

    def show_now(self, frame: OutputImageRawFrame) -> None:
        """Show a picture, now that it is its turn among the audio."""

    def track_speaking(self, speaking: bool) -> None:
        """A track has begun or stopped to say something."""

    def track_ended(self, track: OutputTrack) -> None:
        """A track has played all that was queued before its end."""


class OutputTrack:
    """Audio leaves in chunks, no more than `audio_out_lead_secs` ahead of the moment at which it is
    heard; what comes in real time leaves at once. While no client is there, everything waits but
    what is live.
    """

    def __init__(
        self,
        owner: TrackOwner,
        params: TransportParams,
        serializer: FrameSerializer,
        destination: str | None = None,
        *,
        packet_size: int | None = None,
        pads_last_packet: bool = False,
    ) -> None:
        self._owner = owner
        self._params = params
        self.destination = destination
        self._enabled = params.audio_out_enabled
        #: What filter or mixer are busy with; the chunk that came of it, and whether it is speech.
        self._processing: asyncio.Task[None] | None = None
        self._processed = b""
        self._processed_speech = False
        #: Grows with what is dropped.
        self._epoch = 0
        self._serializer = serializer
        self._pads_last_packet = pads_last_packet
        self._writer: SocketWriter | None = None
        self._queue = PlayQueue()
        rate = params.audio_out_sample_rate or 24000
        self._format = OutputFormat(rate, params.audio_out_channels, packet_size)
        self._bytes_per_sec = self._format.bytes_per_sec
        mixer = params.mixer_of(destination)
        filter_ = params.audio_out_filter if destination is None else None
        #: None: audio leaves as it is.
        self._effects: OutputEffects | None = None
        if mixer is not None or filter_ is not None or params.audio_out_volume != 1.0:
            self._effects = self._make_effects(filter_, mixer)
        self._mixes = mixer is not None
        lead_secs = params.audio_out_lead_secs
        self._pacer = Pacer(min(lead_secs, MIXED_LEAD_SECS) if self._mixes else lead_secs)
        #: The playhead's place after the last that the bot said.
        self._speech_end = float("-inf")
        self._live_trim = LiveTrim()
        self._playout = Playout(acknowledges_marks=serializer.acknowledges_marks)
        self._sent_pts = 0
        self._speaking = False
        #: Nothing more is taken; then, whether the end has yet to be played.
        self._ending = False
        self._end_frame: EndFrame | None = None
        self._end_silence: OutputAudioRawFrame | None = None
        #: The timer, and when (loop time) it rings: uvloop's handles for what is due don't know.
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- from the transport ---------------------------------------------------------------------

    def start(self, sample_rate: int) -> None:
        """The pipeline runs: audio leaves at `sample_rate` Hz."""
        self._loop = asyncio.get_running_loop()
        self._format.sample_rate = sample_rate
        self._bytes_per_sec = self._format.bytes_per_sec
        starting = self._effects.start(sample_rate) if self._effects is not None else None
        if starting is not None:
            self._wait_for(starting)

    def connect(self, writer: SocketWriter) -> None:
        """A client listens: go on with what waits."""
        self._writer = writer
        self.pump()

    def disconnect(self, writer: SocketWriter | None) -> None:
        """No client: audio that was sent but not played is lost, queued audio stays queued."""
        self._writer = None
        self.stop_timer()
        now = asyncio.get_running_loop().time()
        # A peer that took no more has not played what was sent since.
        until = now if writer is None or writer.stalled_since is None else writer.stalled_since
        ahead_secs = self._pacer.ahead_secs(until)
        self._pacer.flush(now)
        self._speech_end = min(self._speech_end, now)
        self._push_played(self._playout.lose_peer(self._sent_pts, ahead_secs))

    def acknowledge_mark(self, name: str) -> None:
        """The client says that it has played up to the mark `name`."""
        self._push_played(self._playout.acknowledge(name))
        self._end_if_played()

    def report_playback(self, pts: int, state: str) -> None:
        """The client says that it has played up to `pts` (ns)."""
        if self._loop is not None and self._writer is not None:
            self._push_played(self._playout.report(pts, state, self._sent_pts, self._loop.time()))
            self._end_if_played()

    def play(self, frame: OutputAudioRawFrame) -> None:
        """Play audio after what waits. Raises `AudioFormatError` for what can't be converted."""
        if not self._enabled or self._ending:
            return
        frame = self._format.whole(frame)
        if frame.live and frame.audio:
            frame = self._trimmed(frame)
        size = len(frame.audio)
        if not size:
            return
        if not self._queue and self._is_free() and size <= self._chunk_bytes(frame):
            # The steady stream of a real-time source: no need to pass through the queue.
            assert self._loop is not None
            now = self._loop.time()
            if self._pacer.due_at() <= now:
                self._send_chunk(frame, frame.audio, now)
                self._schedule()
                return
        if not self._queue.put_audio(frame):
            self._owner.push_error(f"more than {MAX_QUEUED_BYTES} bytes of audio wait to be played")
            return
        self.pump()

    def put(self, frame: Frame) -> None:
        """Send a frame that keeps its place among the audio; a mixer gets its own at once."""
        if isinstance(frame, MixerControlFrame):
            self._control_mixer(frame)
            return
        if isinstance(frame, MarkFrame):
            self._format.end_stream()
        self._queue.put(frame)
        self.pump()

    def drop_queued(self, now: float) -> list[Unsent] | None:
        """Drop what waits to be played; None if nothing was to be heard, of this or of what was
        sent: then there is nothing to `cut`.
        """
        utterances = self._queue.unsent()
        audible = bool(
            self._queue.audio_bytes
            or utterances
            or self._speaking
            or self._playout
            or self._speech_end + PEER_BUFFER_SECS > now
        )
        self._drop_data()
        return utterances if audible else None

    @property
    def is_continuous(self) -> bool:
        """Whether the peer must not throw away what it has not played: the mixer's sound."""
        backlog_secs = 0.0
        if self._writer is not None:
            backlog_secs = self._writer.pending_bytes / self._bytes_per_sec
        return self._mixes and backlog_secs < MAX_CONTINUOUS_BACKLOG_SECS

    def cut(self, unsent: list[Unsent], now: float, *, flushed: bool) -> list[PlayedFrame]:
        """What was dropped is over: returns those utterances.

        If `flushed`, the peer throws away what it has not played, else it plays that.
        """
        self._speech_end = min(self._speech_end, now - PEER_BUFFER_SECS)
        if not flushed:
            return self._playout.interrupt(unsent, self._sent_pts, 0.0, now, flushed=False)
        cut = self._playout.interrupt(unsent, self._sent_pts, self._pacer.ahead_secs(now), now)
        # The peer's buffer is empty too: another interruption right now would find nothing.
        self._pacer.flush(now - PEER_BUFFER_SECS)
        self.stop_timer()
        return cut

    def end(self, frame: EndFrame, silence_secs: float) -> None:
        """Play what waits, then so much silence, and take nothing more."""
        self._ending = True
        self._end_frame = frame
        if self._enabled and silence_secs:
            rate, channels = self._format.sample_rate, self._format.num_channels
            pcm = silence(silence_secs, rate, channels)
            self._end_silence = OutputAudioRawFrame(pcm, rate, channels)
            self._queue.put_audio(self._end_silence)
        self._queue.put(frame)

    def give_up(self) -> None:
        """Nothing of what waits will ever be sent."""
        unsent = self._queue.unsent()
        self._drop_data()
        self._queue.clear()
        self._push_played(self._playout.interrupt(unsent, self._sent_pts, 0.0, 0.0))

    def close(self) -> None:
        """The call is over."""
        self.stop_timer()
        self._ending = True
        if self._processing is not None:
            self._processing.cancel()
        self._end_frame = None

    async def cleanup(self) -> None:
        """Stop filter and mixer."""
        if self._processing is not None:
            await asyncio.wait([self._processing])
        if self._effects is not None:
            await self._effects.stop()

    # --- what waits -----------------------------------------------------------------------------

    def _trimmed(self, frame: OutputAudioRawFrame) -> OutputAudioRawFrame:
        """What is to be heard of a piece of a live stream; it may be empty."""
        audio = b""
        if self._writer is not None and self._loop is not None:
            now = self._loop.time()
            pending_secs = self._writer.pending_bytes / self._bytes_per_sec
            if pending_secs > LIVE_DELAY_SECS:
                # The socket is blocked: the peer will play this first, when it gets it.
                self._pacer.hold(now + pending_secs)
            late_secs = self._queue.waiting_secs + self._pacer.ahead_secs(now)
            audio = self._live_trim.shorten(frame, late_secs)
        if audio is not frame.audio:
            frame = copy(frame)
            frame.audio = audio
        return frame

    def _drop_data(self) -> None:
        self._queue.drop_data()
        self._format.reset()
        if not self._mixes:
            self._epoch += 1
            self._processed = b""

    def _end_if_played(self) -> None:
        """End, if the end was waiting for the report that the client has just sent."""
        if self._end_frame is not None:
            self.pump()

    # --- the play queue -------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what is due."""
        if self._writer is None or self._loop is None:
            return
        now = self._loop.time()
        pacer = self._pacer
        if self._processed:
            pcm, self._processed = self._processed, b""
            self._send_audio(pcm, now)
            if self._processed_speech:
                self._speech_end = pacer.playhead
        # Receivers of what is pushed here may interrupt, and a write may fail: both change these.
        while self._queue and self._is_free():
            frame = self._queue.head
            if type(frame) is OutputAudioRawFrame:
                if pacer.due_at() > now:
                    break
                self._send_next_chunk(frame, now)
            elif isinstance(frame, EndFrame):
                self._send_last_packet(now)
                if self._pacer.playhead > now or self._playout or self._end_frame is None:
                    break
                self._queue.take()
                self.stop_speaking()
                self._owner.track_ended(self)
                return
            elif isinstance(frame, MarkFrame) and self._send_tail(now):
                continue
            else:
                self._queue.take()
                self._send_other(frame, now)
        self._schedule()

    def _send_other(self, frame: Frame, now: float) -> None:
        """Send what is no audio, now that it is its turn."""
        if isinstance(frame, MarkFrame):
            self._end_utterance(frame, now)
            self._owner.send(frame, urgent=False)
        elif isinstance(frame, CueFrame):
            self._end_part(frame)
        elif isinstance(frame, FilterControlFrame | VolumeFrame | VolumeGainFrame):
            self._control(frame)
        elif isinstance(frame, OutputDTMFFrame) and not self._serializer.sends_dtmf:
            self._press(frame.buttons)
        elif isinstance(frame, OutputImageRawFrame):
            self._owner.show_now(frame)
        else:
            self._owner.send(frame, urgent=False)
            self._owner.push_frame(frame)

    def _send_tail(self, now: float) -> bool:
        """Send what the resampler still holds of an utterance; False if that was nothing."""
        tail = self._format.tail()
        if tail:
            self._process(tail, now, speech=True)
        return bool(tail)

    def _press(self, buttons: str) -> None:
        if self._owner.press(buttons) or not self._enabled:
            return
        rate = self._format.sample_rate
        pause = silence(KEY_PAUSE_MS / 1000, rate)
        tones = b"".join(dtmf_tone(one, KEY_TONE_MS, rate) + pause for one in buttons)
        self._queue.put_audio_first(OutputAudioRawFrame(tones, rate))

    def _chunk_bytes(self, frame: OutputAudioRawFrame) -> int:
        per_10_ms = frame.sample_rate // 100 * BYTES_PER_SAMPLE * frame.num_channels
        return per_10_ms * self._params.audio_out_10ms_chunks

    def _send_next_chunk(self, frame: OutputAudioRawFrame, now: float) -> None:
        pcm = self._queue.take_chunk(frame, self._chunk_bytes(frame))
        self._send_chunk(frame, pcm, now)

    def _send_chunk(self, frame: OutputAudioRawFrame, pcm: bytes, now: float) -> None:
        """Send a piece of `frame`."""
        leaves = self._format
        if frame.sample_rate != leaves.sample_rate or frame.num_channels != leaves.num_channels:
            pcm = leaves.convert(pcm, frame.sample_rate, frame.num_channels)
        is_speech = frame is not self._end_silence
        if self._effects is not None:
            self._process(pcm, now, speech=is_speech)
        elif leaves.packet_size is not None:
            self._send_audio(pcm, now)
        elif pcm:
            self._send_packet(pcm, now)
        if is_speech:
            self._speech_end = self._pacer.playhead
            if not self._speaking:
                self._speaking = True
                self._owner.track_speaking(True)

    def _end_utterance(self, mark: MarkFrame, now: float) -> None:
        if not self._enabled:
            self._push_played([PlayedFrame(mark.name, 0.0, interrupted=True)])
            return
        if self._pads_last_packet:
            self._send_last_packet(now)
        self._playout.mark(mark.name, mark.duration_ms, self._sent_pts, self._pacer.playhead)

    def _end_part(self, cue: CueFrame) -> None:
        if not self._enabled:
            self._push_played([PlayedFrame(cue.name, 0.0, interrupted=True)])
            return
        self._playout.cue(cue.name, cue.duration_ms, self._sent_pts, self._pacer.playhead)

    def _send_audio(self, pcm: bytes, now: float) -> None:
        """Send PCM in the output's format."""
        for packet in self._format.packets(pcm):
            self._send_packet(packet, now)

    def _send_last_packet(self, now: float) -> None:
        self._send_audio(self._format.padding(), now)

    def _send_packet(self, pcm: bytes, now: float) -> None:
        duration_ns = len(pcm) * NS_PER_SEC // self._bytes_per_sec
        rate, channels = self._format.sample_rate, self._format.num_channels
        frame = OutputAudioRawFrame(pcm, rate, channels, self._sent_pts)
        if self.destination is not None:
            frame.transport_destination = self.destination
        # Counted first: if the write fails, this is lost like all that the peer did not play.
        self._sent_pts += duration_ns
        self._pacer.sent(duration_ns / NS_PER_SEC, now)
        self._owner.send_audio(frame)
        self._owner.push_frame(frame)

    # --- filter, volume and mixer ---------------------------------------------------------------

    def _make_effects(
        self, filter_: AudioFilter | None = None, mixer: AudioMixer | None = None
    ) -> OutputEffects:
        return OutputEffects(
            filter_,
            mixer,
            self._params.audio_out_volume,
            self._format.num_channels,
            self._owner.report_exception,
        )

    def _is_free(self) -> bool:
        """Whether something can be sent now."""
        return self._writer is not None and self._processing is None

    def _process(self, pcm: bytes, now: float, *, speech: bool) -> None:
        """Send PCM in the output's format through filter, volume and mixer."""
        effects = self._effects
        if effects is None:
            self._send_audio(pcm, now)
        elif not effects.waits:
            self._send_audio(effects.process(pcm), now)
        else:
            self._processed_speech = speech
            self._wait_for(self._process_later(effects, pcm, self._epoch))

    async def _process_later(self, effects: OutputEffects, pcm: bytes, epoch: int) -> None:
        processed = await effects.process_later(pcm)
        if epoch == self._epoch:
            # Sent by the pump: the client may be away by now, and come back.
            self._processed = processed

    def _control(self, frame: FilterControlFrame | VolumeFrame | VolumeGainFrame) -> None:
        if self._effects is None:
            if isinstance(frame, FilterControlFrame):
                return
            self._effects = self._make_effects()
        if isinstance(frame, VolumeFrame):
            self._effects.set_volume(frame.volume)
        elif isinstance(frame, VolumeGainFrame):
            self._effects.set_gain(frame.gain)
        elif self._effects.filter is not None:
            waiting = self._effects.filter.control(frame)
            if waiting is not None:
                self._wait_for(waiting)

    def _control_mixer(self, frame: MixerControlFrame) -> None:
        if self._effects is not None and self._effects.mixer is not None:
            waiting = self._effects.mixer.control(frame)
            if waiting is not None:
                asyncio.ensure_future(waiting)  # noqa: RUF006 - reports its own failure

    def _wait_for(self, awaitable: Awaitable[object]) -> None:
        """Send nothing until this is over: what comes after it keeps its place."""
        assert self._loop is not None
        self._processing = self._loop.create_task(self._wait(awaitable))

    async def _wait(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        finally:
            self._processing = None
        self.pump()

    # --- the clock ------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """See to it that `_on_timer` comes in time for whatever is due next.

        A timer that rings too early is left alone: it looks again, and that is cheaper than a new
        timer for each packet of a steady stream.
        """
        if self._timer is not None and not self._queue and not self._playout:
            return
        due = self._due_at()
        if due is None or self._loop is None or self._writer is None:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)
        self._timer_at = due

    def _due_at(self) -> float | None:
        times: list[float] = []
        playhead = self._pacer.playhead
        if self._processing is not None:
            pass  # looks again when it is over
        elif self._queue:
            if not isinstance(self._queue.head, EndFrame):
                times.append(self._pacer.due_at())
            elif not self._playout:
                times.append(playhead)
        else:
            if self._speaking:
                times.append(self._speech_end + SPEECH_HOLD_SECS)
            if self._fills():
                times.append(self._fill_at())
        played = self._playout.due_at()
        if played is not None:
            times.append(played)
        return min(times, default=None)

    def _fills(self) -> bool:
        """Whether something is sent while the bot has nothing to say."""
        if self._ending or not self._enabled:
            return False
        return self._mixes or self._params.audio_out_auto_silence

    def _fill_at(self) -> float:
        playhead = self._pacer.playhead
        if self._mixes:
            return playhead - (FILL_MARGIN_SECS if self._speaking else FILL_LEAD_SECS)
        return playhead + (SILENCE_HOLD_SECS if self._speaking else 0.0)

    def _on_timer(self) -> None:
        self._timer = None
        assert self._loop is not None
        now = self._loop.time()
        over = self._playout.completed(now)
        if not self._queue and self._is_free():
            hold = 0.0 if over and not self._playout else SPEECH_HOLD_SECS
            if now >= self._speech_end + hold:
                self.stop_speaking()
            if self._fills() and now >= self._fill_at():
                secs = self._params.audio_out_10ms_chunks / 100
                pcm = silence(secs, self._format.sample_rate, self._format.num_channels)
                self._process(pcm, now, speech=False)
        self._push_played(over)
        self.pump()

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop_speaking(self) -> None:
        if self._speaking:
            self._speaking = False
            self._owner.track_speaking(False)

    def _push_played(self, played: list[PlayedFrame]) -> None:
        for frame in played:
            self._owner.push_frame(frame, Direction.UPSTREAM)
