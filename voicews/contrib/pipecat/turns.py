"""Pipecat's end-of-turn analyzers, such as the smart-turn model, for the transports of voicews."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

from pipecat.audio.turn.base_turn_analyzer import BaseTurnAnalyzer, EndOfTurnState

from voicews.audio.turns import TurnAnalyzer, TurnParams

_lock = threading.Lock()
_default: BaseTurnAnalyzer | None = None


class PipecatTurnAnalyzer(TurnAnalyzer):
    """Asks one of Pipecat's analyzers, by default the smart-turn model that Pipecat ships.

    The model hears up to 8 s of the turn, and takes some 50 ms of a thread for them; a process
    loads it once, when it is first asked, and asks it one question at a time.
    """

    in_thread: ClassVar[bool] = True

    def __init__(
        self, analyzer: BaseTurnAnalyzer | None = None, params: TurnParams | None = None
    ) -> None:
        super().__init__(params)
        self._analyzer = analyzer

    def is_complete(self, pcm: bytes, sample_rate: int) -> bool:
        with _lock:
            analyzer = self._analyzer or _smart_turn()
            if analyzer.sample_rate != sample_rate:
                analyzer.set_sample_rate(sample_rate)
            analyzer.clear()
            # The last that is appended is not looked at.
            analyzer.append_audio(pcm, is_speech=True)
            analyzer.append_audio(bytes(2), is_speech=False)
            try:
                state, _ = asyncio.run(analyzer.analyze_end_of_turn())
            finally:
                analyzer.clear()
            return bool(state is EndOfTurnState.COMPLETE)


def _smart_turn() -> BaseTurnAnalyzer:
    global _default  # noqa: PLW0603 - loaded once a process
    if _default is None:
        from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

        _default = LocalSmartTurnAnalyzerV3()
    return _default
