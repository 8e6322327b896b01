"""Voice activity detection: a plug-in that judges short windows, one state machine around it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

import numpy as np

from voicews.audio.pcm import (
    BYTES_PER_SAMPLE,
    INT16,
    SILENCE_DBFS,
    check_sample_rate,
    check_whole_frames,
    level_dbfs,
    rms_dbfs,
)
from voicews.exceptions import ConfigurationError, InvalidState

__all__ = [
    "EnergyVAD",
    "VADAnalyzer",
    "VADEvent",
    "VADParams",
    "VADState",
]

_WINDOWS_PER_SECOND: Final = 50
_HYSTERESIS: Final = 0.15


class VADState(Enum):
    """Where an analyzer is between silence and speech."""

    QUIET = "quiet"
    STARTING = "starting"
    """Voice has been heard, but not for `start_secs` yet."""
    SPEAKING = "speaking"
    STOPPING = "stopping"
    """Silence has been heard, but not for `stop_secs` yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VADParams:
    """When voice counts as speech. Times in seconds of media.

    Raises `ConfigurationError` for a value out of range.
    """

    #: Confidence (0 to 1) from which a window counts as voice; a little less keeps speech going.
    confidence: float = 0.5
    #: So much voice starts speech. Shorter: quicker barge-in; longer: fewer coughs.
    start_secs: float = 0.1
    #: So much silence ends it. Shorter: quicker answers; longer: speakers may think.
    stop_secs: float = 0.6
    #: Windows below this level (dBFS) are never voice, however confident the analyzer is.
    min_volume: float = -50.0

    def __post_init__(self) -> None:
        if not _HYSTERESIS < self.confidence < 1.0:
            raise ConfigurationError(
                f"confidence: expected more than {_HYSTERESIS} and less than 1, "
                f"found {self.confidence}"
            )
        for name in ("start_secs", "stop_secs"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name}: expected >= 0, found {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class VADEvent:
    """Speech has started (`speaking`) or stopped.

    `edge_secs` is the media time at which the voice itself began or ended, `detected_secs` the
    later one at which that became certain; both count from the start of the stream.
    """

    speaking: bool
    edge_secs: float
    detected_secs: float


class VADAnalyzer(ABC):
    """Finds where speech starts and stops in one stream of mono PCM16LE.

    A subclass judges windows: it overrides `voice_confidence`, and `window_samples` if it needs a
    window other than 20 ms. Time is media time, so the result doesn't depend on when or in which
    chunks the audio arrives. An analyzer serves one stream.
    """

    #: True: it takes more than a millisecond, and runs in a thread instead of on the event loop.
    #: One chunk of a stream at a time, in order.
    in_thread: ClassVar[bool] = False

    def __init__(self, params: VADParams | None = None) -> None:
        self.params = params or VADParams()
        self._sample_rate = 0
        self._state = VADState.QUIET

    @property
    def state(self) -> VADState:
        """The state after the last whole window."""
        return self._state

    @property
    def sample_rate(self) -> int:
        """Hz; 0 until `set_sample_rate`."""
        return self._sample_rate

    def set_sample_rate(self, sample_rate: int) -> None:
        """Begin a stream of `sample_rate` Hz; raises `AudioFormatError` for a bad rate."""
        check_sample_rate(sample_rate)
        self._sample_rate = sample_rate
        self._window_samples = self.window_samples(sample_rate)
        self._window_bytes = self._window_samples * BYTES_PER_SAMPLE
        self.reset()

    def reset(self) -> None:
        """Forget the stream: quiet, media time 0. What the subclass learned may stay."""
        self._state = VADState.QUIET
        self._pending = b""
        self._position = 0
        self._edge = 0
        self._voiced = 0

    def close(self) -> None:  # noqa: B027 - most share nothing
        """The call is over: release shared resources."""

    def window_samples(self, sample_rate: int) -> int:
        """Samples in one window: 20 ms here."""
        return sample_rate // _WINDOWS_PER_SECOND

    @abstractmethod
    def voice_confidence(self, window_pcm: bytes) -> float:
        """How sure it is, from 0 to 1, that this window has voice.

        Called with every window of the stream in turn, `window_samples` samples of PCM16LE.
        """

    def process(self, pcm: bytes) -> list[VADEvent]:
        """Take the next chunk, of any length; the events that it made certain, oldest first.

        Starts and stops alternate, beginning with a start. Raises `AudioFormatError` for a split
        sample and `InvalidState` before `set_sample_rate`.
        """
        if not self._sample_rate:
            raise InvalidState("VADAnalyzer: expected set_sample_rate() before process()")
        if len(pcm) % BYTES_PER_SAMPLE:
            check_whole_frames(pcm)
        pending = self._pending + pcm
        size = self._window_bytes
        used = len(pending) // size * size
        events: list[VADEvent] = []
        for start in range(0, used, size):
            event = self._advance(self._is_voice(pending[start : start + size]))
            if event is not None:
                events.append(event)
        self._pending = pending[used:]
        return events

    def _is_voice(self, window_pcm: bytes) -> bool:
        needed = self.params.confidence
        if self._state in (VADState.SPEAKING, VADState.STOPPING):
            needed -= _HYSTERESIS
        if self.voice_confidence(window_pcm) < needed:
            return False
        return rms_dbfs(window_pcm) >= self.params.min_volume

    def _advance(self, voice: bool) -> VADEvent | None:
        """Move the state on by one window."""
        window_start = self._position
        self._position += self._window_samples

        if self._state is VADState.QUIET and voice:
            self._state, self._edge, self._voiced = VADState.STARTING, window_start, 0
        elif self._state is VADState.SPEAKING and not voice:
            self._state, self._edge, self._voiced = VADState.STOPPING, window_start, 0

        if self._state is VADState.STARTING:
            # Unvoiced sounds are gaps in a word: they take back, but don't start over.
            self._voiced += self._window_samples if voice else -self._window_samples
            if self._voiced <= 0:
                self._state = VADState.QUIET
            elif self._voiced >= self.params.start_secs * self._sample_rate:
                self._state = VADState.SPEAKING
                return self._event(speaking=True)
        elif self._state is VADState.STOPPING:
            # Half of what starts speech resumes it; a click in the silence does not.
            self._voiced = self._voiced + self._window_samples if voice else 0
            if voice:
                if self._voiced > self.params.start_secs * self._sample_rate / 2:
                    self._state = VADState.SPEAKING
            elif self._position - self._edge >= self.params.stop_secs * self._sample_rate:
                self._state = VADState.QUIET
                return self._event(speaking=False)
        return None

    def _event(self, *, speaking: bool) -> VADEvent:
        return VADEvent(
            speaking, self._edge / self._sample_rate, self._position / self._sample_rate
        )


class EnergyVAD(VADAnalyzer):
    """Voice is what is well above the background, which is learned all the time.

    The background is the quietest window of the last second or so: it falls at once and rises
    only when nothing quieter has been heard for that long. Speech has a pause between syllables
    in every second, so it doesn't count as background; a hum or a fan does, after that second.
    The method follows R. Martin, Noise Power Spectral Density Estimation Based on Optimal
    Smoothing and Minimum Statistics (2001), reduced to one band.

    It knows loud from quiet, not voice from music: with a television in the room use an analyzer
    that was trained on speech.
    """

    # The lag turns the window into x[t] - x[t - lag], a comb that is deaf to 0 Hz (and so to a
    # DC offset), 12 dB down at 50 Hz and 6 dB up at 600 Hz, where most of the voice is.
    _LAG_SECS: Final = 1 / 1200
    _BLOCK_WINDOWS: Final = 10
    _BLOCKS: Final = 5
    # Above most rooms, below most voices: speech is heard from the first sample on, and only a
    # loud room is taken for it, for the second that it takes to learn.
    _FIRST_FLOOR_DBFS: Final = -42.0
    # With this slope the hysteresis of the state machine is 3 dB.
    _DB_PER_NEPER: Final = 4.8

    def __init__(self, params: VADParams | None = None, *, threshold_db: float = 9.0) -> None:
        """`threshold_db`: how far above the background a window is as likely voice as not."""
        super().__init__(params)
        if threshold_db <= 0:
            raise ConfigurationError(f"threshold_db: expected more than 0, found {threshold_db}")
        self.threshold_db = threshold_db
        self._lag = 1

    @property
    def noise_floor(self) -> float:
        """The background's level, in dBFS after the comb filter."""
        return min(self._older_minimum, self._block_minimum)

    def reset(self) -> None:
        """Forget the stream and its background noise."""
        super().reset()
        self._lag = max(1, round(self._sample_rate * self._LAG_SECS))
        self._older_minimum = self._FIRST_FLOOR_DBFS
        self._minima = deque([self._older_minimum] * self._BLOCKS, maxlen=self._BLOCKS)
        self._block_minimum = math.inf
        self._block_windows = 0

    def voice_confidence(self, window_pcm: bytes) -> float:
        """0.5 at `threshold_db` above the background, 0.65 at 3 dB more, 0.35 at 3 dB less."""
        samples = np.frombuffer(window_pcm, INT16).astype(np.float32)
        combed = samples[self._lag :] - samples[: -self._lag]
        level = level_dbfs(combed)
        if level <= SILENCE_DBFS:
            # A muted microphone or a lost packet, which says nothing about the room.
            return 0.0
        excess = level - self._learn(level) - self.threshold_db
        return 1.0 / (1.0 + math.exp(-excess / self._DB_PER_NEPER))

    def _learn(self, level: float) -> float:
        """Take the level of one more window; the background's level."""
        floor = self._older_minimum
        if level < self._block_minimum:
            self._block_minimum = level
        if self._block_minimum < floor:
            floor = self._block_minimum
        self._block_windows += 1
        if self._block_windows == self._BLOCK_WINDOWS:
            self._minima.append(self._block_minimum)
            self._older_minimum = min(self._minima)
            self._block_minimum = math.inf
            self._block_windows = 0
        return floor
