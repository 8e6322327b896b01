"""What waits to be played: pure, no clock and no socket."""

from __future__ import annotations

from collections import deque

from voicews.audio.pcm import BYTES_PER_SAMPLE
from voicews.frames import CueFrame, DataFrame, Frame, MarkFrame, OutputAudioRawFrame

#: Audio that may wait to be played, about 20 minutes of it: more is a bot out of control.
MAX_QUEUED_BYTES = 64 * 1024 * 1024

#: An utterance that was not sent to its end: name, duration_ms, ms not sent.
Unsent = tuple[str, float, float]


class PlayQueue:
    """Audio, which is taken in chunks, and the frames that keep their place among it."""

    __slots__ = ("_frames", "_offset", "audio_bytes")

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        #: How much of the first frame has been taken.
        self._offset = 0
        #: Audio that waits, with all of the frame that has been begun.
        self.audio_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def head(self) -> Frame:
        return self._frames[0]

    @property
    def waiting_secs(self) -> float:
        """How long the audio is that has not been taken."""
        secs = sum(f.duration_secs for f in self._frames if isinstance(f, OutputAudioRawFrame))
        return secs - self._taken_secs

    @property
    def _taken_secs(self) -> float:
        if not self._offset or not isinstance(self.head, OutputAudioRawFrame):
            return 0.0
        head = self.head
        return self._offset / (BYTES_PER_SAMPLE * head.num_channels * head.sample_rate)

    def put(self, frame: Frame) -> None:
        """Put a frame that is no audio behind all that waits."""
        self._frames.append(frame)

    def put_audio(self, frame: OutputAudioRawFrame) -> bool:
        """Put audio behind all that waits; False if that would be too much."""
        if self.audio_bytes + len(frame.audio) > MAX_QUEUED_BYTES:
            return False
        self.audio_bytes += len(frame.audio)
        self._frames.append(frame)
        return True

    def put_audio_first(self, frame: OutputAudioRawFrame) -> None:
        """Put audio before all that waits; nothing of the first may have been taken."""
        self.audio_bytes += len(frame.audio)
        self._frames.appendleft(frame)

    def take(self) -> Frame:
        """The first frame, which is no audio."""
        return self._frames.popleft()

    def take_chunk(self, frame: OutputAudioRawFrame, max_bytes: int) -> bytes:
        """The next so many bytes of the first frame, which is this one."""
        pcm = frame.audio
        if len(pcm) <= max_bytes:
            self._frames.popleft()
            self.audio_bytes -= len(pcm)
            return pcm
        start = self._offset
        self._offset += max_bytes
        if self._offset >= len(pcm):
            self._frames.popleft()
            self._offset = 0
            self.audio_bytes -= len(pcm)
        return pcm[start : start + max_bytes]

    def unsent(self) -> list[Unsent]:
        """The utterances whose ends wait here, and how much of each does."""
        utterances = []
        secs = -self._taken_secs
        for frame in self._frames:
            if isinstance(frame, OutputAudioRawFrame):
                secs += frame.duration_secs
            elif isinstance(frame, MarkFrame | CueFrame):
                utterances.append((frame.name, frame.duration_ms, secs * 1000))
        return utterances

    def drop_data(self) -> None:
        """Drop what an interruption drops."""
        self._frames = deque(f for f in self._frames if not isinstance(f, DataFrame))
        self._offset = self.audio_bytes = 0

    def clear(self) -> None:
        self._frames.clear()
        self._offset = self.audio_bytes = 0
