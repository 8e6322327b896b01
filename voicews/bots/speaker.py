"""The order in which a bot says things, and what became of each."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from voicews.audio.formats import audio_format, not_pcm
from voicews.audio.joining import SampleJoiner
from voicews.audio.pcm import (
    BYTES_PER_SAMPLE,
    Pcm,
    check_sample_rate,
    check_whole_frames,
)
from voicews.audio.stream import PcmStream
from voicews.audio.wav import is_wav, split_wav
from voicews.bots.playback import Playback
from voicews.bots.script import Script
from voicews.bots.speech import Pieces, Speech, feed
from voicews.exceptions import AudioFormatError
from voicews.frames import (
    AudioRawFrame,
    BotOutputFrame,
    BotOutputProgressFrame,
    CueFrame,
    Direction,
    MarkFrame,
    OutputAudioRawFrame,
    PlayedFrame,
)

if TYPE_CHECKING:
    from voicews.pipeline.processor import FrameProcessor

#: How often (ms) it is told how much was heard; a multiple of what chunks usually are.
CUE_MS: Final = 240
#: A piece that goes on in the middle of a sample is checked for other formats if it has so many
#: bytes: a few samples may look like text.
_MIN_NAMED_BYTES: Final = 16


class Speaker:
    """Pushes what a bot says in order; a stream that is still coming holds back what follows it.

    `on_interrupted` is called with each thing that was cut off, once its figures are final.
    """

    def __init__(
        self, bot: FrameProcessor, sample_rate: int, on_interrupted: Callable[[Playback], None]
    ) -> None:
        #: Whether it is worth telling how far what is said was heard.
        self.shows_progress = False
        self._bot = bot
        self._sample_rate = sample_rate
        self._on_interrupted = on_interrupted
        self._names = itertools.count()
        self._playing: dict[str, Playback] = {}
        #: What each cue ends: of what, from when to when (ms).
        self._cues: dict[str, tuple[Playback, float, float]] = {}
        #: The sentences of what is being said, and how much of each it has been told was heard.
        self._segments: dict[str, list[list[int]]] = {}
        #: What is not pushed whole: streams, and what waits for them; the first is being said.
        self._waiting: deque[tuple[Playback, Pcm | None]] = deque()
        self._when_written: list[Callable[[], None]] = []
        self._feeding: set[asyncio.Task[None]] = set()
        self._joiner = SampleJoiner()
        self._over = False

    # --- from the bot ---------------------------------------------------------------------------

    def play(
        self, audio: object, text: str, sample_rate: int | None, num_channels: int
    ) -> Playback:
        pcm = self._pcm(audio, sample_rate, num_channels)
        script = Script()
        script.add(text, 0.0)
        playback = Playback(self, f"{next(self._names)}", script)
        playback.duration_ms = pcm.duration_secs * 1000
        if self._over:
            playback._finish(0.0, interrupted=True)
            return playback
        self._playing[playback.name] = playback
        if self._waiting:
            self._waiting.append((playback, pcm))
        else:
            self._push(playback, pcm)
        return playback

    def speak(
        self, text: str, sample_rate: int | None, num_channels: int, ahead_secs: float
    ) -> Speech:
        stream = PcmStream(sample_rate or self._sample_rate, num_channels)
        script = Script()
        script.add(text, 0.0)
        return Speech(self, f"{next(self._names)}", stream, script, ahead_secs)

    def enqueue(self, speech: Speech) -> None:
        """It is said after what is being said now."""
        if self._over:
            speech._cut_off()
            speech._finish(0.0, interrupted=True)
        elif speech.name not in self._playing:
            self._playing[speech.name] = speech
            self._waiting.append((speech, None))

    def play_pieces(self, pieces: Pieces, speech: Speech) -> None:
        self.enqueue(speech)
        task = asyncio.get_running_loop().create_task(feed(speech, pieces))
        self._feeding.add(task)
        task.add_done_callback(self._fed)

    def when_written(self, then: Callable[[], None]) -> None:
        """Call `then` when everything is pushed; at once if nothing is still coming."""
        if self._waiting:
            self._when_written.append(then)
        else:
            then()

    def interrupt(self) -> None:
        """An interruption is about to be pushed: nothing that is said now goes on."""
        self._joiner.clear()
        waiting, self._waiting = list(self._waiting), deque()
        for index, (playback, _pcm) in enumerate(waiting):
            playback._cut_off()
            if index == 0:
                # What was pushed of the stream ends here.
                self._announce(playback, is_over=True)
                self._bot.push_frame(MarkFrame(playback.name, playback.duration_ms))
            else:
                self._finish(playback, 0.0, interrupted=True)
        self._written()

    def joined(self, frame: AudioRawFrame) -> bytes:
        """The whole samples of a piece of a stream that is passed on, with what was left of the
        one before.
        """
        return self._whole(frame.audio, frame.sample_rate, frame.num_channels)

    def played(self, frame: PlayedFrame) -> bool:
        """The output tells what was heard; whether anybody else should know."""
        cue = self._cues.pop(frame.name, None)
        if cue is not None:
            playback, start_ms, end_ms = cue
            playback._consumed(end_ms)
            if frame.heard_ms > 0 and not playback.done:
                playback._heard(start_ms + frame.heard_ms)
                self._show_progress(playback)
            return False
        playback_or_none = self._playing.get(frame.name)
        if playback_or_none is not None:
            self._finish(playback_or_none, frame.heard_ms, interrupted=frame.interrupted)
            if frame.interrupted:
                frame.heard_text = playback_or_none.heard_text
        return True

    async def close(self) -> None:
        """The call is over: what was not heard by now never will be."""
        self._over = True
        for playback, _pcm in list(self._waiting):
            playback._cut_off()
        self._waiting.clear()
        self._when_written.clear()
        for playback in list(self._playing.values()):
            playback._finish(playback.heard_ms, interrupted=True)
        self._playing.clear()
        self._cues.clear()
        if self._feeding:
            await asyncio.wait(self._feeding, timeout=1)

    # --- from a speech --------------------------------------------------------------------------

    def has_floor(self, speech: Speech) -> bool:
        return bool(self._waiting) and self._waiting[0][0] is speech

    def push_pieces(self, speech: Speech, pieces: list[Pcm]) -> None:
        self._announce(speech, is_over=False)
        for pcm in pieces:
            check_whole_frames(pcm.audio, pcm.num_channels)
            self._push_audio(speech, pcm, speech.duration_ms, with_cues=True)
            speech.duration_ms += pcm.duration_secs * 1000

    def end_speech(self, speech: Speech, last: list[Pcm]) -> None:
        if not self.has_floor(speech):
            self._waiting = deque(item for item in self._waiting if item[0] is not speech)
            self._finish(speech, 0.0, interrupted=True)
            return
        self.push_pieces(speech, last)
        self._announce(speech, is_over=True)
        self._bot.push_frame(MarkFrame(speech.name, speech.duration_ms))
        self._waiting.popleft()
        while self._waiting and (pcm := self._waiting[0][1]) is not None:
            self._push(self._waiting[0][0], pcm)
            self._waiting.popleft()
        self._written()

    # --- the machinery --------------------------------------------------------------------------

    def _written(self) -> None:
        if self._waiting:
            self._waiting[0][0]._consumed(0.0)
            return
        then, self._when_written = self._when_written, []
        for call in then:
            call()

    def _push(self, playback: Playback, pcm: Pcm) -> None:
        self._announce(playback, is_over=True)
        self._push_audio(playback, pcm, 0.0, with_cues=bool(playback.text) and self.shows_progress)
        self._bot.push_frame(MarkFrame(playback.name, playback.duration_ms))

    def _push_audio(
        self, playback: Playback, pcm: Pcm, start_ms: float, *, with_cues: bool
    ) -> None:
        if not pcm.audio:
            return
        frame_bytes = BYTES_PER_SAMPLE * pcm.num_channels
        if not with_cues:
            self._bot.push_frame(OutputAudioRawFrame(*pcm))
            return
        per_ms = pcm.sample_rate * frame_bytes / 1000
        offset = 0
        while offset < len(pcm.audio):
            # The next cue is so long after the last one, whatever the pieces are.
            until_cue_ms = max(playback.cued_ms + CUE_MS - start_ms, 1.0)
            size = max(int(until_cue_ms * per_ms) // frame_bytes, 1) * frame_bytes
            audio = pcm.audio[offset : offset + size]
            self._bot.push_frame(OutputAudioRawFrame(audio, pcm.sample_rate, pcm.num_channels))
            offset += size
            start_ms += len(audio) / per_ms
            if len(audio) == size:
                name = f"cue {next(self._names)}"
                self._cues[name] = (playback, playback.cued_ms, start_ms)
                self._bot.push_frame(CueFrame(name, start_ms - playback.cued_ms))
                playback.cued_ms = start_ms

    def _announce(self, playback: Playback, *, is_over: bool) -> None:
        for start, end in playback._script.sentences(is_over=is_over):
            segments = self._segments.setdefault(playback.name, [])
            segments.append([start, end, 0])
            text = playback.text[start:end].strip()
            self._bot.broadcast_frame(
                BotOutputFrame(text, playback=playback.name, segment=len(segments) - 1)
            )

    def _show_progress(self, playback: Playback) -> None:
        heard = playback._heard_chars()
        for number, segment in enumerate(self._segments.get(playback.name, ())):
            start, end, told = segment
            text = playback.text[start:end].strip()
            length = len(playback.text[start : min(heard, end)].strip()) if heard > start else 0
            if length <= told:
                continue
            segment[2] = length
            self._bot.push_frame(
                BotOutputProgressFrame(playback.name, number, text, length), Direction.UPSTREAM
            )

    def _finish(self, playback: Playback, heard_ms: float, *, interrupted: bool) -> None:
        self._playing.pop(playback.name, None)
        playback._finish(heard_ms, interrupted=interrupted)
        self._show_progress(playback)
        self._segments.pop(playback.name, None)
        if interrupted and not self._over:
            self._on_interrupted(playback)

    def report(self, error: Exception) -> None:
        """What a stream comes from has failed, and no caller awaits the speech."""
        self._bot.report_exception(error, "to get what it says")

    def _fed(self, task: asyncio.Task[None]) -> None:
        self._feeding.discard(task)
        if not task.cancelled():
            task.exception()  # the speech has it

    def _pcm(self, audio: object, sample_rate: int | None, num_channels: int) -> Pcm:
        if isinstance(audio, bytes | bytearray | memoryview):
            audio = bytes(audio)
            if is_wav(audio):
                audio = split_wav(audio)
            else:
                rate = self._sample_rate if sample_rate is None else sample_rate
                check_sample_rate(rate)
                check_whole_frames(b"", num_channels)
                return Pcm(self._whole(audio, rate, num_channels), rate, num_channels)
        elif not isinstance(audio, Pcm | AudioRawFrame):
            raise AudioFormatError(
                "expected bytes, Pcm, an audio frame or an iterator of pieces, "
                f"found {type(audio).__name__}"
            )
        check_sample_rate(audio.sample_rate)
        check_whole_frames(audio.audio, audio.num_channels)
        # A frame says that it is PCM: a sound of few values may look like text.
        name = audio_format(audio.audio)
        if name not in (None, "text"):
            raise not_pcm(name)
        return Pcm(audio.audio, audio.sample_rate, audio.num_channels)

    def _whole(self, piece: bytes, sample_rate: int, num_channels: int) -> bytes:
        continues = self._joiner.continues(piece, sample_rate, num_channels)
        if not continues or len(piece) >= _MIN_NAMED_BYTES:
            _check_is_pcm(piece)
        return self._joiner.join(piece, sample_rate, num_channels)


def _check_is_pcm(data: bytes) -> None:
    name = audio_format(data)
    if name is not None:
        raise not_pcm(name)
