"""Pipecat's end-of-turn analyzers behind our interface."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any, disable-error-code=import-untyped

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pipecat.audio.turn.base_turn_analyzer import BaseTurnAnalyzer, BaseTurnParams, EndOfTurnState

from tests.audio.signals import pcm, talk
from voicews.contrib.pipecat.turns import PipecatTurnAnalyzer


class Scripted(BaseTurnAnalyzer):
    """Knows what it was given, and answers what it was told to."""

    def __init__(self, state: EndOfTurnState) -> None:
        super().__init__()
        self.state = state
        self.heard: list[tuple[bytes, bool]] = []
        self.asked: list[bytes] = []

    speech_triggered = property(lambda self: bool(self.heard))
    params = property(lambda self: BaseTurnParams())

    def append_audio(self, buffer: bytes, is_speech: bool) -> EndOfTurnState:
        self.heard.append((buffer, is_speech))
        return EndOfTurnState.INCOMPLETE

    async def analyze_end_of_turn(self) -> tuple[EndOfTurnState, Any]:
        self.asked.append(b"".join(audio for audio, _ in self.heard[:-1]))
        return self.state, None

    def clear(self) -> None:
        self.heard.clear()


def test_one_of_pipecats_analyzers_decides() -> None:
    audio = pcm(talk(1, 8000))
    for state, complete in ((EndOfTurnState.COMPLETE, True), (EndOfTurnState.INCOMPLETE, False)):
        scripted = Scripted(state)
        analyzer = PipecatTurnAnalyzer(scripted)
        for _ in range(2):
            assert analyzer.is_complete(audio, 8000) is complete
        # Each time the whole of the turn, and nothing of the one before.
        assert scripted.asked == [audio, audio]
        assert scripted.sample_rate == 8000
        assert scripted.heard == []


def test_the_smart_turn_model_is_shared_by_all_calls() -> None:
    analyzers = [PipecatTurnAnalyzer() for _ in range(4)]
    clips = [pcm(np.concatenate([talk(2, 16000, seed=n), np.zeros(4800)])) for n in range(4)]
    alone = [analyzers[0].is_complete(clip, 16000) for clip in clips]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda n: analyzers[n].is_complete(clips[n], 16000), range(4)))
    assert together == alone
