"""DTMF tones, for peers that take touch-tone digits as audio only. Frequencies: ITU-T Q.23."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from voicews.audio.pcm import INT16, check_sample_rate

__all__ = [
    "dtmf_tone",
]

DTMF_FREQUENCIES: Final = {
    button: (low, high)
    for low, buttons in ((697, "123A"), (770, "456B"), (852, "789C"), (941, "*0#D"))
    for button, high in zip(buttons, (1209, 1336, 1477, 1633), strict=True)
}
"""Each button's low and high frequency, in Hz."""

# Both levels add up to half of full scale. The high tone is 2 dB louder, as Q.24 lets it be,
# because lines lose more of it; the ramps keep the ends from clicking.
_LOW_AMPLITUDE: Final = 7_200.0
_HIGH_AMPLITUDE: Final = 9_000.0
_RAMP_SECS: Final = 0.003


@lru_cache(maxsize=128)
def dtmf_tone(button: str, duration_ms: int = 100, sample_rate: int = 8000) -> bytes:
    """The tone pair of one button (0-9, *, #, A-D), as mono PCM16LE.

    Exchanges need 40 ms or more of tone, and as much silence before the next one. Raises
    `ValueError` for another button or a negative duration, `AudioFormatError` for a bad rate.
    """
    check_sample_rate(sample_rate)
    if button not in DTMF_FREQUENCIES:
        raise ValueError(f"button: expected one of 0-9, *, #, A-D, found {button!r}")
    if duration_ms < 0:
        raise ValueError(f"duration_ms: expected 0 or more, found {duration_ms}")
    low, high = DTMF_FREQUENCIES[button]
    times = np.arange(sample_rate * duration_ms // 1000) / sample_rate
    tone = _LOW_AMPLITUDE * np.sin(2 * np.pi * low * times)
    tone += _HIGH_AMPLITUDE * np.sin(2 * np.pi * high * times)
    to_an_end = np.minimum(times, times[::-1])
    tone *= np.minimum(1.0, to_an_end / _RAMP_SECS)
    return np.rint(tone).astype(INT16).tobytes()
