"""Whose turn it is: what tells an answer from a nod, and the end of a turn from a pause in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16, check_sample_rate
from voicews.audio.resampling import Resampler
from voicews.audio.vad import VADEvent
from voicews.exceptions import ConfigurationError

__all__ = [
    "PitchTurnAnalyzer",
    "TurnAnalyzer",
    "TurnParams",
    "TurnTracker",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnParams:
    """When voice is a turn. Times in seconds of media.

    Raises `ConfigurationError` for a value out of range.
    """

    #: While the bot speaks, less voice than this is a nod ("mm-hm") and does not interrupt. Longer:
    #: fewer nods taken for an answer, and real interruptions come later by as much. 0: none are.
    min_interruption_secs: float = 0.6
    #: After so much silence a turn is over, whatever the analyzer thinks.
    max_pause_secs: float = 2.0

    def __post_init__(self) -> None:
        for name in ("min_interruption_secs", "max_pause_secs"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name}: expected >= 0, found {getattr(self, name)}")


class TurnAnalyzer(ABC):
    """Says, each time the voice has stopped, whether the speaker is done.

    Goes with a `vad_analyzer` whose `stop_secs` is short (0.3): the pauses between words are this
    analyzer's business. An analyzer serves one stream of mono PCM16LE.
    """

    #: True: `is_complete` takes more than a millisecond, and runs in a thread.
    in_thread: ClassVar[bool] = False
    #: How much of the turn (seconds, up to now) `is_complete` gets to hear.
    window_secs: ClassVar[float] = 8.0

    def __init__(self, params: TurnParams | None = None) -> None:
        self.params = params or TurnParams()

    @abstractmethod
    def is_complete(self, pcm: bytes, sample_rate: int) -> bool:
        """Whether the turn, of which `pcm` is the latest part, is over.

        It ends with the silence that the voice activity detection needed to be certain.
        """


class TurnTracker:
    """Makes turns of what the voice activity detection says: pure, in media time.

    Give it each chunk with the events that it led to. Then, while `asks`, tell it with `answer`
    what the analyzer makes of `turn_audio`.
    """

    def __init__(self, params: TurnParams, window_secs: float, sample_rate: int) -> None:
        check_sample_rate(sample_rate)
        self._params = params
        self._rate = sample_rate
        self._window_bytes = round(window_secs * sample_rate) * BYTES_PER_SAMPLE
        self._audio = bytearray()
        self._position = 0
        #: Whether the user speaks, and since when.
        self._voice: VADEvent | None = None
        #: The end of the voice in a turn that may go on.
        self._pause: VADEvent | None = None
        self._in_turn = False
        self.bot_speaks = False
        #: Whether `answer` is expected.
        self.asks = False

    @property
    def turn_audio(self) -> bytes:
        """The latest part of the turn."""
        return bytes(self._audio)

    def take(self, pcm: bytes, events: list[VADEvent], *, voiced: bool) -> list[VADEvent]:
        """The next chunk of the stream: the turns that it begins or ends, in order.

        `voiced` says whether there is voice at its end, and no silence that may prove to be an end.
        """
        self._position += len(pcm) // BYTES_PER_SAMPLE
        self._audio += pcm
        del self._audio[: max(0, len(self._audio) - self._window_bytes)]
        turns: list[VADEvent] = []
        for event in events:
            if event.speaking:
                self._voice, self._pause = event, None
                self.asks = False
            else:
                self._begin(turns, event.edge_secs)
                self._voice = None
                if self._in_turn:
                    self._pause, self.asks = event, True
        now = self._position / self._rate
        if voiced:
            self._begin(turns, now)
        if self._pause is not None and now - self._pause.edge_secs >= self._params.max_pause_secs:
            turns.append(self._end(now))
        return turns

    def answer(self, *, complete: bool) -> list[VADEvent]:
        """What the analyzer thinks."""
        if not self.asks:
            return []
        self.asks = False
        return [self._end(self._position / self._rate)] if complete else []

    def _begin(self, turns: list[VADEvent], until_secs: float) -> None:
        """Begin a turn if there has been enough voice up to `until_secs`."""
        if self._in_turn or self._voice is None:
            return
        start = self._voice
        if self.bot_speaks and until_secs - start.edge_secs < self._params.min_interruption_secs:
            return
        self._in_turn = True
        turns.append(VADEvent(True, start.edge_secs, self._position / self._rate))

    def _end(self, now_secs: float) -> VADEvent:
        assert self._pause is not None
        ended = VADEvent(False, self._pause.edge_secs, now_secs)
        self._in_turn = self.asks = False
        self._pause = None
        return ended


class PitchTurnAnalyzer(TurnAnalyzer):
    """Listens to how the voice ends, whatever the language; takes 2 ms and needs no package.

    A sound that is held ("uhm", "and...") and a voice that stays up or rises a little, as at a
    comma, say that more is to come; a voice that falls, is at the speaker's low end, or rises
    steeply, as in a question, says that this was all. What has no pitch counts as the end. It knows
    no words. The cues: S. Duncan, Some signals and rules for taking speaking turns in conversations
    (1972); A. Gravano, J. Hirschberg, Turn-taking cues in task-oriented dialogue (2011).
    """

    in_thread: ClassVar[bool] = True
    window_secs: ClassVar[float] = 6.0

    def is_complete(self, pcm: bytes, sample_rate: int) -> bool:
        pitch = _pitch(pcm, sample_rate)
        voiced = np.flatnonzero(np.isfinite(pitch))
        if len(voiced) < _MIN_VOICED:
            return True
        last = voiced[-1]
        # The last stretch of voice without a gap, and its end.
        gaps = np.flatnonzero(np.diff(voiced) > _MAX_GAP)
        start = voiced[gaps[-1] + 1] if len(gaps) else voiced[0]
        tail = pitch[max(start, last - _TAIL + 1) : last + 1]
        tail = tail[np.isfinite(tail)]
        if len(tail) < _MIN_TAIL:
            return True
        slope = float(np.polyfit(np.arange(len(tail)) * _STEP_SECS, tail, 1)[0])
        low, middle = np.percentile(pitch[voiced], (10, 50))
        moves = float(np.ptp(pitch[start : last + 1][np.isfinite(pitch[start : last + 1])]))
        held = (last - start + 1) * _STEP_SECS >= _HELD_SECS and moves < _LEVEL_SEMITONES
        if held:
            return False
        if slope <= -_FALL or slope >= _RISE:
            return True
        end = float(np.median(tail[-_MIN_TAIL:]))
        return bool(end <= low + _LOW_SEMITONES and middle - low > _LOW_SEMITONES)


_STEP_SECS: Final = 0.02
_PITCH_RATE: Final = 8000
_LOWEST_HZ, _HIGHEST_HZ = 70.0, 400.0
#: A window of 40 ms holds almost three periods of the lowest voice.
_PITCH_WINDOW: Final = 320
#: How alike two periods have to be to be voice.
_PERIODICITY: Final = 0.6
#: And how much of the power of the loudest: what is softer is noise, or too short to matter.
_LOUD: Final = 0.04
#: Windows of voice in the whole turn and in its tail below which there is nothing to go by.
_MIN_VOICED, _MIN_TAIL = 6, 5
#: How much (windows) of the end is looked at, and which gap in the voice is none.
_TAIL, _MAX_GAP = 12, 3
#: Semitones per second from which a voice falls; from which it asks: a smaller rise goes on.
_FALL, _RISE = 8.0, 20.0
#: A sound this long that moves less than this is held.
_HELD_SECS, _LEVEL_SEMITONES = 0.34, 1.0
#: So near the lowest of the turn is its low end.
_LOW_SEMITONES: Final = 1.5


def _pitch(pcm: bytes, sample_rate: int) -> NDArray[np.float64]:
    """The pitch in semitones, every 20 ms; NaN where there is none.

    From the autocorrelation of each window, as P. Boersma, Accurate short-term analysis of the
    fundamental frequency (1993) divides it by that of the window itself.
    """
    if sample_rate != _PITCH_RATE:
        resampler = Resampler(sample_rate, _PITCH_RATE)
        pcm = resampler.process(pcm) + resampler.flush()
    samples = np.frombuffer(pcm, INT16).astype(np.float64)
    step = round(_STEP_SECS * _PITCH_RATE)
    if len(samples) < _PITCH_WINDOW:
        return np.full(0, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(samples, _PITCH_WINDOW)[::step]
    shape = np.hanning(_PITCH_WINDOW)
    shaped = (windows - windows.mean(axis=1, keepdims=True)) * shape
    size = 2 * _PITCH_WINDOW
    power = np.abs(np.fft.rfft(shaped, size, axis=1)) ** 2
    # Voices lie below 1 kHz with what makes their pitch; noise and hiss above it do not.
    power[:, round(1000 / _PITCH_RATE * size) :] = 0.0
    power[:, : round(_LOWEST_HZ / _PITCH_RATE * size)] = 0.0
    correlation = np.fft.irfft(power, axis=1)[:, :_PITCH_WINDOW]
    own = np.fft.irfft(np.abs(np.fft.rfft(shape, size)) ** 2)[:_PITCH_WINDOW]
    energy = correlation[:, :1]
    shortest, longest = int(_PITCH_RATE / _HIGHEST_HZ), int(_PITCH_RATE / _LOWEST_HZ)
    lags = slice(shortest, longest + 1)
    alike = correlation[:, lags] / np.maximum(energy, 1e-9) * (own[0] / own[lags])
    # Twice the period fits as well as the period: the shorter is meant.
    alike *= 1.0 - 0.002 * np.arange(longest + 1 - shortest)
    best = alike.argmax(axis=1)
    loud = energy[:, 0] > _LOUD * np.percentile(energy[:, 0], 95)
    voiced = (alike[np.arange(len(alike)), best] > _PERIODICITY) & loud
    exact = _peak(alike, best) + shortest
    pitch: NDArray[np.float64] = np.where(voiced, 12.0 * np.log2(_PITCH_RATE / exact), np.nan)
    return _without_jumps(pitch)


def _peak(rows: NDArray[np.float64], best: NDArray[np.intp]) -> NDArray[np.float64]:
    """Where each row has its maximum, between its samples: that of a parabola through three."""
    middle = np.clip(best, 1, rows.shape[1] - 2)
    at = np.arange(len(rows))
    before, here, after = rows[at, middle - 1], rows[at, middle], rows[at, middle + 1]
    curve = before - 2 * here + after
    shift = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, -1.0), 0.0)
    peak: NDArray[np.float64] = middle + np.clip(shift, -1, 1)
    return peak


def _without_jumps(pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Octave errors last for a window or two: a window far from its neighbours is none."""
    padded = np.pad(pitch, 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 5)
    known = np.isfinite(around).sum(axis=1) > 0
    median = np.full(len(pitch), np.nan)
    median[known] = np.nanmedian(around[known], axis=1)
    cleaned: NDArray[np.float64] = np.where(np.abs(pitch - median) > 5.0, np.nan, pitch)
    return cleaned
