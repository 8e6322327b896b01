from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import (
    at_level,
    chunks,
    fan_noise,
    hum,
    pcm,
    speech,
    times,
    white_noise,
)
from voicews.audio.vad import EnergyVAD, VADAnalyzer, VADEvent, VADParams, VADState
from voicews.exceptions import AudioFormatError, ConfigurationError, InvalidState

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    MakeNoise = Callable[[float, int, float], NDArray[np.float64]]

RATE = 16000
WINDOW = 0.02


def detect(audio: bytes, rate: int = RATE, analyzer: VADAnalyzer | None = None) -> list[VADEvent]:
    analyzer = analyzer or EnergyVAD()
    analyzer.set_sample_rate(rate)
    events: list[VADEvent] = []
    for chunk in chunks(audio, [rate // 50]):
        events += analyzer.process(chunk)
    return events


def quiet(secs: float, rate: int = RATE) -> NDArray[np.float64]:
    return np.zeros(round(secs * rate))


class ScriptedVAD(VADAnalyzer):
    """Hears voice where the script has a letter: one character for each window."""

    def __init__(self, script: str, params: VADParams | None = None) -> None:
        super().__init__(params)
        self.script = iter(script)

    def voice_confidence(self, window_pcm: bytes) -> float:
        assert len(window_pcm) == self.window_samples(self.sample_rate) * 2
        return {"-": 0.0, "~": 0.4, "V": 0.9}[next(self.script)]


def run_script(script: str, params: VADParams | None = None) -> tuple[str, list[VADEvent]]:
    """The state after each window, and the events."""
    analyzer = ScriptedVAD(script, params)
    analyzer.set_sample_rate(8000)
    window = pcm(white_noise(WINDOW, 8000, -20.0))
    states, events = "", []
    for _ in script:
        events += analyzer.process(window)
        states += {"quiet": "-", "starting": "<", "speaking": "S", "stopping": ">"}[
            analyzer.state.value
        ]
    return states, events


class TestStateMachine:
    params = VADParams(start_secs=0.08, stop_secs=0.12)

    def test_speech_starts_and_stops(self) -> None:
        states, events = run_script("--VVVVVV--------", self.params)
        assert states == "--<<<SSS>>>>>---"
        start, stop = events
        assert start == VADEvent(True, edge_secs=0.04, detected_secs=0.12)
        assert stop == VADEvent(False, edge_secs=0.16, detected_secs=0.28)

    def test_a_short_noise_starts_nothing(self) -> None:
        states, events = run_script("--VVV------VV----", self.params)
        assert states == "--<<<<<----<<<---"
        assert events == []

    def test_a_gap_in_the_first_word_is_bridged(self) -> None:
        states, events = run_script("-VVV-VV", self.params)
        assert states == "-<<<<<S"
        assert events[0].edge_secs == pytest.approx(0.02)

    def test_a_pause_is_bridged_and_makes_no_event(self) -> None:
        states, events = run_script("VVVV----VVVV", self.params)
        assert states == "<<<S>>>>>>SS"
        assert [event.speaking for event in events] == [True]

    def test_a_click_in_the_closing_silence_delays_nothing(self) -> None:
        _, plain = run_script("VVVV-------", self.params)
        _, clicked = run_script("VVVV--VV---", self.params)
        assert clicked == plain

    def test_doubtful_windows_keep_speech_going_but_start_none(self) -> None:
        assert run_script("~~~~~~", self.params)[0] == "------"
        assert run_script("VVVV~~~~", self.params)[0] == "<<<SSSSS"

    def test_zero_times_follow_every_window(self) -> None:
        states, events = run_script("-V-V", VADParams(start_secs=0.0, stop_secs=0.0))
        assert states == "-S-S"
        assert [event.speaking for event in events] == [True, False, True]

    def test_quiet_windows_are_never_voice(self) -> None:
        analyzer = ScriptedVAD("VVVVVVVV", VADParams(min_volume=-40.0))
        assert detect(pcm(white_noise(0.16, 8000, -45.0)), 8000, analyzer) == []

    @given(
        script=st.text("V~-", max_size=120),
        start_secs=st.sampled_from([0.0, 0.04, 0.1, 0.2]),
        stop_secs=st.sampled_from([0.0, 0.04, 0.3, 0.6]),
    )
    def test_events_alternate_in_order_and_match_the_state(
        self, script: str, start_secs: float, stop_secs: float
    ) -> None:
        params = VADParams(start_secs=start_secs, stop_secs=stop_secs)
        states, events = run_script(script, params)
        assert [event.speaking for event in events] == [n % 2 == 0 for n in range(len(events))]
        edges = [event.edge_secs for event in events]
        assert edges == sorted(edges)
        for event in events:
            needed = start_secs if event.speaking else stop_secs
            assert event.detected_secs - event.edge_secs >= needed - 1e-9
        if states:
            assert (states[-1] in "S>") == (len(events) % 2 == 1)


class TestEnergyVAD:
    @pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
    @pytest.mark.parametrize("snr", [30.0, 20.0, 10.0])
    @pytest.mark.parametrize("make_noise", [white_noise, fan_noise])
    def test_two_utterances_in_noise(self, rate: int, snr: float, make_noise: MakeNoise) -> None:
        noise = make_noise(8.0, rate, -30.0 - snr)
        said = [quiet(2.0, rate), speech(1.5, rate, -30.0), quiet(1.5, rate)]
        said += [speech(1.5, rate, -30.0, pitch_hz=210.0), quiet(1.5, rate)]
        events = detect(pcm(np.concatenate(said) + noise), rate)
        assert [event.speaking for event in events] == [True, False, True, False]
        edges = [event.edge_secs for event in events]
        assert edges == pytest.approx([2.0, 3.5, 5.0, 6.5], abs=0.12)
        for event, after in zip(events, (0.1, 0.6, 0.1, 0.6), strict=True):
            assert event.detected_secs - event.edge_secs == pytest.approx(after, abs=0.05)

    @pytest.mark.parametrize("dbfs", [-38.0, -30.0, -20.0, -10.0])
    def test_loud_and_soft_voices_in_a_quiet_room(self, dbfs: float) -> None:
        room = white_noise(4.0, RATE, -65.0)
        said = np.concatenate([quiet(1.0), speech(1.5, RATE, dbfs), quiet(1.5)])
        events = detect(pcm(said + room))
        assert [event.speaking for event in events] == [True, False]
        assert events[0].edge_secs == pytest.approx(1.0, abs=0.06)

    def test_a_voice_that_gets_softer_and_louder_is_one_utterance(self) -> None:
        room = white_noise(8.0, RATE, -60.0)
        gain = 10 ** (-8 * (1 + np.sin(2 * np.pi * 0.4 * times(6.0, RATE))) / 20)
        said = np.concatenate([quiet(1.0), speech(6.0, RATE, -15.0) * gain, quiet(1.0)])
        assert [event.speaking for event in detect(pcm(said + room))] == [True, False]

    def test_speech_from_the_first_sample_on(self) -> None:
        said = np.concatenate([speech(2.0, RATE, -20.0), quiet(1.0)])
        events = detect(pcm(said + white_noise(3.0, RATE, -60.0)))
        assert [event.speaking for event in events] == [True, False]
        assert events[0].edge_secs <= 0.06

    def test_long_speech_does_not_become_background(self) -> None:
        said = speech(30.0, RATE, -20.0) + white_noise(30.0, RATE, -45.0)
        events = detect(pcm(said))
        assert [event.speaking for event in events] == [True]

    @pytest.mark.parametrize("mains_hz", [50.0, 60.0])
    @pytest.mark.parametrize("rate", [8000, 48000])
    def test_hum_is_background_after_about_a_second(self, mains_hz: float, rate: int) -> None:
        analyzer = EnergyVAD()
        events = detect(pcm(hum(20.0, rate, -25.0, mains_hz)), rate, analyzer)
        assert all(event.edge_secs <= 1.3 for event in events)
        assert analyzer.state is VADState.QUIET
        said = np.concatenate([speech(1.5, rate, -20.0), quiet(1.5, rate)])
        events = analyzer.process(pcm(said + hum(3.0, rate, -25.0, mains_hz)))
        assert [event.speaking for event in events] == [True, False]
        assert events[0].edge_secs == pytest.approx(20.0, abs=0.1)

    @pytest.mark.parametrize("make_noise", [white_noise, fan_noise])
    def test_a_fan_that_is_switched_on_is_background_after_about_a_second(
        self, make_noise: MakeNoise
    ) -> None:
        room = white_noise(2.0, RATE, -65.0)
        fan = make_noise(30.0, RATE, -35.0)
        events = detect(pcm(room, fan))
        assert len(events) in (0, 2)
        assert all(event.edge_secs <= 2.0 + 1.3 for event in events)

    def test_a_background_that_rises_by_a_little_is_no_speech(self) -> None:
        steps = [white_noise(1.5, RATE, level) for level in (-60.0, -54.0, -48.0, -42.0, -36.0)]
        assert detect(pcm(*steps)) == []

    def test_a_background_that_falls_is_learned_at_once(self) -> None:
        loud, soft = white_noise(3.0, RATE, -38.0), white_noise(3.0, RATE, -65.0)
        said = np.concatenate([quiet(0.3), speech(1.0, RATE, -35.0), quiet(1.7)])
        events = detect(pcm(loud, soft + said))
        assert [event.speaking for event in events] == [True, False]
        assert events[0].edge_secs == pytest.approx(3.3, abs=0.06)

    def test_clicks_are_no_speech(self) -> None:
        audio = white_noise(5.0, RATE, -60.0)
        for number in range(9):
            click = slice(round((0.5 + number * 0.5) * RATE) + number * 37, None)
            decay = 0.9 * np.exp(-times(0.01, RATE) / 0.002)
            audio[click][: len(decay)] += decay
        assert detect(pcm(audio)) == []

    def test_digital_silence_is_silence_and_teaches_nothing(self) -> None:
        assert detect(bytes(RATE * 4)) == []
        analyzer = EnergyVAD()
        detect(pcm(white_noise(3.0, RATE, -40.0)), RATE, analyzer)
        learned = analyzer.noise_floor
        assert analyzer.process(bytes(RATE * 4)) == []
        assert analyzer.noise_floor == learned
        assert analyzer.process(pcm(white_noise(1.0, RATE, -40.0))) == []

    def test_speech_between_digital_silence(self) -> None:
        audio = pcm(quiet(1.0), speech(1.5, RATE, -25.0), quiet(1.0))
        events = detect(audio)
        assert [event.speaking for event in events] == [True, False]
        assert events[0].edge_secs == pytest.approx(1.0, abs=0.06)

    def test_an_offset_is_no_sound(self) -> None:
        offset = np.full(RATE * 3, 0.2)
        assert detect(pcm(offset + white_noise(3.0, RATE, -65.0))) == []

    def test_the_threshold_is_above_the_background(self) -> None:
        step = pcm(white_noise(2.0, RATE, -50.0), white_noise(0.5, RATE, -42.0))
        params = VADParams(min_volume=-60.0)
        assert detect(step, RATE, EnergyVAD(params, threshold_db=12.0)) == []
        assert len(detect(step, RATE, EnergyVAD(params, threshold_db=5.0))) == 1

    def test_full_scale_is_no_trouble(self) -> None:
        square = np.sign(np.sin(2 * np.pi * 400 * times(1.0, RATE) + 0.1))
        events = detect(pcm(white_noise(1.0, RATE, -60.0), square, quiet(1.0)))
        assert [event.speaking for event in events] == [True, False]
        assert [event.edge_secs for event in events] == pytest.approx([1.0, 2.0])

    @settings(max_examples=40, deadline=None)
    @given(sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=6))
    def test_any_split_of_the_input_gives_the_same_events(self, sizes: list[int]) -> None:
        audio = MIXED
        whole = EnergyVAD()
        whole.set_sample_rate(8000)
        split = EnergyVAD()
        split.set_sample_rate(8000)
        events: list[VADEvent] = []
        for chunk in chunks(audio, sizes):
            events += split.process(chunk)
        assert events == whole.process(audio)
        assert events
        assert split.state is whole.state

    def test_a_new_stream_forgets_the_old_one(self) -> None:
        analyzer = EnergyVAD()
        first = detect(MIXED, 8000, analyzer)
        assert detect(MIXED, 8000, analyzer) == first
        analyzer.reset()
        assert analyzer.state is VADState.QUIET
        assert analyzer.process(MIXED) == first


MIXED = pcm(
    at_level(np.ones(4000), -30.0) + white_noise(0.5, 8000, -50.0),
    speech(0.7, 8000, -20.0) + white_noise(0.7, 8000, -50.0),
    white_noise(1.0, 8000, -50.0),
)


def test_it_wants_a_sample_rate_first() -> None:
    with pytest.raises(InvalidState, match="set_sample_rate"):
        EnergyVAD().process(bytes(320))


def test_bad_audio_and_bad_rates_are_refused() -> None:
    analyzer = EnergyVAD()
    with pytest.raises(AudioFormatError, match="found 0"):
        analyzer.set_sample_rate(0)
    analyzer.set_sample_rate(8000)
    with pytest.raises(AudioFormatError, match="found 321"):
        analyzer.process(bytes(321))


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="start_secs"):
        VADParams(start_secs=-0.1)
    with pytest.raises(ConfigurationError, match="stop_secs"):
        VADParams(stop_secs=-0.1)
    with pytest.raises(ConfigurationError, match="confidence"):
        VADParams(confidence=1.0)
    with pytest.raises(ConfigurationError, match="threshold_db"):
        EnergyVAD(threshold_db=0.0)
