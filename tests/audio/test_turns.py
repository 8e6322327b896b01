from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.audio.signals import fan_noise, hum, pcm, talk, white_noise
from voicews.audio.turns import PitchTurnAnalyzer, TurnParams, TurnTracker
from voicews.audio.vad import VADEvent
from voicews.exceptions import ConfigurationError

RATE = 16000
CHUNK = bytes(640)
CHUNK_SECS = 0.02


class Stream:
    """Feeds a tracker, 20 ms at a time, with voice where the test says so."""

    def __init__(self, *, answers: list[bool] | None = None, **params: float) -> None:
        self.tracker = TurnTracker(TurnParams(**params), 1.0, RATE)
        self.answers = answers if answers is not None else []
        self.turns: list[VADEvent] = []
        self.asked = 0
        self.now = 0.0

    def run(self, secs: float, *events: VADEvent, voiced: bool = False) -> Stream:
        """So much more; the events come with its first chunk."""
        pending = list(events)
        for _ in range(round(secs / CHUNK_SECS)):
            self.now += CHUNK_SECS
            self.turns += self.tracker.take(CHUNK, pending, voiced=voiced)
            pending = []
            if self.tracker.asks:
                self.asked += 1
                complete = self.answers.pop(0) if self.answers else True
                self.turns += self.tracker.answer(complete=complete)
        return self

    def speak(self, secs: float, then: float = 0.5) -> Stream:
        """Voice, found after 0.1 s and lost after 0.3 s, as a detection does; then silence."""
        start = self.now
        self.run(0.1).run(secs - 0.1, VADEvent(True, start, start + 0.1), voiced=True)
        end = self.now
        return self.run(0.3).run(max(CHUNK_SECS, then - 0.3), VADEvent(False, end, end + 0.3))

    def edges(self) -> list[tuple[bool, float]]:
        return [(turn.speaking, round(turn.edge_secs, 2)) for turn in self.turns]


class TestTracker:
    def test_a_turn(self) -> None:
        stream = Stream().run(1).speak(2)
        assert stream.edges() == [(True, 1.0), (False, 3.0)]
        # While the bot is silent it begins as soon as the detection is sure.
        assert stream.turns[0].detected_secs == pytest.approx(1.12)
        assert stream.turns[1].detected_secs == pytest.approx(3.32)

    def test_a_pause_for_thought_is_part_of_it(self) -> None:
        stream = Stream(answers=[False, True]).run(1).speak(1, 1.0).speak(1)
        assert stream.edges() == [(True, 1.0), (False, 4.0)]
        assert stream.asked == 2

    def test_a_pause_that_is_too_long(self) -> None:
        stream = Stream(answers=[False], max_pause_secs=1.5).run(1).speak(1, 3.0)
        assert stream.edges() == [(True, 1.0), (False, 2.0)]
        assert stream.turns[1].detected_secs == pytest.approx(3.5, abs=0.021)
        assert stream.asked == 1

    def test_a_nod_silences_nobody(self) -> None:
        stream = Stream(min_interruption_secs=0.6).run(1)
        stream.tracker.bot_speaks = True
        stream.speak(0.4).speak(0.5)
        assert stream.turns == []
        assert stream.asked == 0

    def test_an_interruption_that_lasts_longer(self) -> None:
        stream = Stream(min_interruption_secs=0.6).run(1)
        stream.tracker.bot_speaks = True
        stream.speak(1)
        assert stream.edges() == [(True, 1.0), (False, 2.0)]
        assert stream.turns[0].detected_secs == pytest.approx(1.6, abs=0.021)

    def test_a_short_answer_when_the_bot_is_silent(self) -> None:
        assert Stream().run(1).speak(0.3).edges() == [(True, 1.0), (False, 1.3)]

    def test_the_bot_stops_while_the_user_nods(self) -> None:
        stream = Stream(min_interruption_secs=5).run(1)
        stream.tracker.bot_speaks = True
        stream.run(0.1).run(0.2, VADEvent(True, 1.0, 1.1), voiced=True)
        assert stream.turns == []
        stream.tracker.bot_speaks = False
        stream.run(0.1, voiced=True)
        assert stream.edges() == [(True, 1.0)]

    def test_the_bot_speaks_in_a_pause(self) -> None:
        # What goes on after it is still the same turn: the bot was wrong to begin.
        stream = Stream(answers=[False]).run(1).speak(1)
        stream.tracker.bot_speaks = True
        stream.speak(0.3)
        assert stream.edges() == [(True, 1.0), (False, 2.8)]

    def test_any_voice_where_none_is_too_short(self) -> None:
        stream = Stream(min_interruption_secs=0).run(1)
        stream.tracker.bot_speaks = True
        assert stream.speak(0.2).edges() == [(True, 1.0), (False, 1.2)]

    def test_it_keeps_the_latest_part_of_the_turn(self) -> None:
        tracker = TurnTracker(TurnParams(), 0.05, RATE)
        for n in range(10):
            tracker.take(bytes([n]) * 640, [], voiced=False)
        assert tracker.turn_audio == bytes([7]) * 320 + bytes([8]) * 640 + bytes([9]) * 640

    def test_an_answer_that_comes_too_late(self) -> None:
        tracker = TurnTracker(TurnParams(), 1.0, RATE)
        events = [VADEvent(True, 0.1, 0.2), VADEvent(False, 0.5, 0.8)]
        tracker.take(bytes(32000), events, voiced=False)
        assert tracker.asks
        tracker.take(CHUNK, [VADEvent(True, 0.9, 1.0)], voiced=True)
        assert tracker.answer(complete=True) == []


@pytest.mark.parametrize("name", ["min_interruption_secs", "max_pause_secs"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_params_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: expected >= 0, found"):
        TurnParams(**{name: value})


class TestPitch:
    def judge(self, ending: str, noise: Any, rate: int, seeds: int = 6) -> float:
        """Which part of so many turns with this ending count as complete."""
        complete = 0
        for seed in range(seeds):
            sound = np.concatenate([np.zeros(rate // 5), talk(2, rate, ending=ending, seed=seed)])
            sound = np.concatenate([sound, np.zeros(3 * rate // 10)])
            if noise is not None:
                sound = sound + noise(len(sound) / rate, rate, -35.0)[: len(sound)]
            complete += PitchTurnAnalyzer().is_complete(pcm(sound), rate)
        return complete / seeds

    @pytest.mark.parametrize("rate", [8000, 16000])
    @pytest.mark.parametrize("noise", [None, white_noise, fan_noise, hum])
    def test_it_tells_an_end_from_a_pause_in_noise(self, noise: Any, rate: int) -> None:
        assert self.judge("falls", noise, rate) >= 0.8
        assert self.judge("rises", noise, rate) >= 0.8
        assert self.judge("stays", noise, rate) <= 0.2
        assert self.judge("is held", noise, rate) <= 0.2

    @pytest.mark.parametrize(
        "audio", [b"", bytes(100), bytes(32000), pcm(white_noise(1, RATE, -30))]
    )
    def test_what_has_no_pitch_is_an_end(self, audio: bytes) -> None:
        assert PitchTurnAnalyzer().is_complete(audio, RATE)
