"""What is left out of a live stream that has fallen behind: pure, told how late it is.

A burst would otherwise delay all that follows it: what comes in real time never gets faster. So
while the stream is late, its pauses are left out, and what is no pause is shortened: a piece of a
few milliseconds is cut out where the waveform repeats, and its ends are blended (WSOLA: Verhelst
and Roelands, ICASSP 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voicews.audio.pcm import INT16
from voicews.frames import OutputAudioRawFrame

#: So late (seconds) a live stream may be: jitter makes it that anyway.
LIVE_DELAY_SECS = 0.1
#: What is later than this is shortened even where it is no pause.
MAX_UNSHORTENED_DELAY_SECS = 0.2
#: What would be later than this is of no use, whatever it is.
MAX_LIVE_DELAY_SECS = 2.0
#: No sample of a pause is louder than this (of 32767), and so much of it (seconds) is left alone:
#: there are quiet moments in words, too.
QUIET_PEAK = 512
QUIET_HOLD_SECS = 0.06
#: So much of what is no pause is cut out: speech that is a quarter faster is understood as well.
MAX_CUT_SHARE = 0.2

#: Long pieces are looked at in parts of this length.
_PART_SECS = 0.02
#: What is cut out at once (seconds): a period of a voice of 400 to 80 Hz.
_MIN_CUT_SECS, _MAX_CUT_SECS = 0.0025, 0.0125
#: How long (seconds) two ends are blended.
_BLEND_SECS = 0.005
#: So alike (correlation) two ends should be; after so long (seconds of cuts) any will do.
_MIN_LIKENESS = 0.7
_SAME_LIKENESS = 0.02
_MAX_POSTPONED_SECS = 0.02

_Samples = NDArray[np.int16]


class LiveTrim:
    """Shortens a live stream while it is late."""

    __slots__ = ("_format", "_postponed_secs", "_quiet_secs", "_skipped")

    def __init__(self) -> None:
        self._quiet_secs = 0.0
        #: What may be cut out of the next parts (seconds).
        self._postponed_secs = 0.0
        #: The first samples of what was left out: what the last that was kept would go on with.
        self._skipped: _Samples | None = None
        self._format = (0, 0)

    def shorten(self, frame: OutputAudioRawFrame, late_secs: float) -> bytes:
        """What is to be heard of the next piece, whose turn would come `late_secs` from now."""
        # The half of a millisecond: rounding.
        if late_secs <= LIVE_DELAY_SECS + 0.0005 and self._skipped is None:
            self._quiet_secs = self._postponed_secs = 0.0
            return frame.audio
        rate, channels = frame.sample_rate, frame.num_channels
        if self._format != (rate, channels):
            self._format = (rate, channels)
            self._skipped = None
        samples: _Samples = np.frombuffer(frame.audio, INT16).reshape(-1, channels)
        size = max(1, round(rate * _PART_SECS))
        kept: list[_Samples] = []
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            left = self._take(part, rate, late_secs)
            late_secs -= (len(part) - len(left)) / rate
            kept.append(left)
        return np.concatenate(kept).tobytes()

    def _take(self, part: _Samples, rate: int, late_secs: float) -> _Samples:
        secs = len(part) / rate
        is_quiet = int(part.min()) >= -QUIET_PEAK and int(part.max()) <= QUIET_PEAK
        is_late = late_secs > LIVE_DELAY_SECS + 0.0005
        self._quiet_secs = self._quiet_secs + secs if is_late and is_quiet else 0.0
        blend = round(rate * _BLEND_SECS)
        if late_secs > MAX_LIVE_DELAY_SECS or self._quiet_secs > QUIET_HOLD_SECS:
            if self._skipped is None:
                self._skipped = part[:blend]
            return part[:0]
        if self._skipped is not None:
            part = _blend(self._skipped, part)
            self._skipped = None
        elif not is_quiet and late_secs > MAX_UNSHORTENED_DELAY_SECS:
            self._postponed_secs += secs * MAX_CUT_SHARE
            left = _cut(part, rate, blend, self._postponed_secs)
            self._postponed_secs -= (len(part) - len(left)) / rate
            part = left
        return part


def _cut(part: _Samples, rate: int, blend: int, postponed_secs: float) -> _Samples:
    """A part without some milliseconds of it, `postponed_secs` at the most; its ends stay."""
    shortest = max(1, round(rate * _MIN_CUT_SECS))
    longest = min(int(rate * min(_MAX_CUT_SECS, postponed_secs)), len(part) - blend)
    if longest < shortest:
        return part
    mono = part.sum(axis=1, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(mono[shortest : longest + blend], blend)
    begin = mono[:blend]
    energies = np.einsum("ij,ij->i", windows, windows) * (begin @ begin)
    likeness = (windows @ begin) / np.sqrt(np.maximum(energies, 1.0))
    if likeness.max() < _MIN_LIKENESS and postponed_secs < _MAX_POSTPONED_SECS:
        return part
    # Of several periods that are as good, the most.
    best = int(np.flatnonzero(likeness >= likeness.max() - _SAME_LIKENESS)[-1])
    return _blend(part[:blend], part[shortest + best :])


def _blend(before: _Samples, after: _Samples) -> _Samples:
    """`after`, which begins as `before` does and becomes itself within its length."""
    count = min(len(before), len(after))
    weights = (np.arange(count) / count)[:, np.newaxis]
    blended = after.copy()
    mixed = before[:count] * (1.0 - weights) + after[:count] * weights
    blended[:count] = np.rint(mixed).astype(np.int16)
    return blended
