"""Which parts of a late live stream are dropped. Pure: callers pass the delay."""

from __future__ import annotations

import sys
from array import array

from voicews.frames import OutputAudioRawFrame

#: So late (seconds) a live stream may be: jitter makes it that anyway.
LIVE_DELAY_SECS = 0.1
#: What would be later than this is of no use, whatever it is.
MAX_LIVE_DELAY_SECS = 2.0
#: No sample of a pause is louder than this (of 32767), and so much of it (seconds) is left alone:
#: there are quiet moments in words, too.
QUIET_PEAK = 512
QUIET_HOLD_SECS = 0.06


class LiveTrim:
    """Shortens the pauses in a live stream while it is late.

    A burst would otherwise delay all that follows it: what comes in real time never gets faster.
    """

    __slots__ = ("_quiet_secs",)

    def __init__(self) -> None:
        self._quiet_secs = 0.0

    def leaves_out(self, frame: OutputAudioRawFrame, late_secs: float) -> bool:
        """Whether to drop the next piece, which would be heard `late_secs` from now."""
        if late_secs > MAX_LIVE_DELAY_SECS:
            return True
        # The half of a millisecond: rounding.
        if late_secs <= LIVE_DELAY_SECS + 0.0005 or not _is_quiet(frame.audio):
            self._quiet_secs = 0.0
            return False
        self._quiet_secs += frame.duration_secs
        return self._quiet_secs > QUIET_HOLD_SECS


def _is_quiet(pcm: bytes) -> bool:
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return min(samples) >= -QUIET_PEAK and max(samples) <= QUIET_PEAK
