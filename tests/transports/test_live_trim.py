from __future__ import annotations

import pytest

from voicews.frames import OutputAudioRawFrame
from voicews.transports.live_trim import LIVE_DELAY_SECS, MAX_LIVE_DELAY_SECS, QUIET_PEAK, LiveTrim


def piece(peak: int, secs: float = 0.02) -> OutputAudioRawFrame:
    loudest = peak.to_bytes(2, "little", signed=True)
    return OutputAudioRawFrame(bytes(round(secs * 8000) * 2 - 2) + loudest, 8000)


@pytest.mark.parametrize("peak", [QUIET_PEAK, -QUIET_PEAK, 0])
def test_pauses_but_for_their_first_moment(peak: int) -> None:
    catch_up = LiveTrim()
    assert [catch_up.leaves_out(piece(peak), 0.3) for _ in range(6)] == [False] * 3 + [True] * 3
    # A word, and another pause.
    assert not catch_up.leaves_out(piece(20000), 0.3)
    assert [catch_up.leaves_out(piece(peak), 0.3) for _ in range(4)] == [False] * 3 + [True]


@pytest.mark.parametrize("peak", [QUIET_PEAK + 1, -QUIET_PEAK - 1, 32767, -32768])
def test_words_are_whole(peak: int) -> None:
    catch_up = LiveTrim()
    assert not any(catch_up.leaves_out(piece(peak), 0.9) for _ in range(50))


def test_in_time_pauses_are_whole() -> None:
    catch_up = LiveTrim()
    assert not any(catch_up.leaves_out(piece(0), LIVE_DELAY_SECS) for _ in range(50))


def test_what_is_far_too_late() -> None:
    assert LiveTrim().leaves_out(piece(32767), MAX_LIVE_DELAY_SECS + 0.01)
