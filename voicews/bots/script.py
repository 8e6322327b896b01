"""The words of one thing that is said, and how many of them were heard: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: A word as speech services give its times: the word, and from when to when (ms) it is heard.
TimedWord = tuple[str, float, float]

#: The fastest speech (characters a millisecond): of a text whose audio is still coming, no more
#: than this can have been heard.
FASTEST_CHARS_PER_MS: Final = 0.025
#: An end that was missed by so little (ms) was heard.
TOLERANCE_MS: Final = 5.0
_SENTENCE_ENDS: Final = (".", "!", "?", "…", "。", "！", "？", "\n")
_FIRST_CJK: Final = "\u2e80"


@dataclass(slots=True)
class _Span:
    """Characters up to `end` are heard from `start_ms` on, until `end_ms` or the next span."""

    start: int
    end: int
    start_ms: float
    end_ms: float | None


class Script:
    """Texts with the times (ms) of the audio that they belong to, in order."""

    def __init__(self) -> None:
        self.text = ""
        self._spans: list[_Span] = []
        self._announced = 0

    def add(self, text: str, start_ms: float, end_ms: float | None = None) -> None:
        """`text` is heard from `start_ms` on; without an end until the next text, or the end."""
        if not text:
            return
        if self.text and _needs_space(self.text[-1], text[0]):
            self.text += " "
        start = len(self.text)
        self.text += text
        self._spans.append(_Span(start, len(self.text), start_ms, end_ms))

    def add_words(self, words: Iterable[TimedWord]) -> None:
        for word, start_ms, end_ms in words:
            self.add(word, start_ms, end_ms)

    def sentences(self, *, is_over: bool = False) -> list[tuple[int, int]]:
        """The sentences, as ranges of the text, that have become whole since the last call;
        with `is_over` the rest too.
        """
        ends = self._sentence_ends()
        if is_over:
            ends.append(len(self.text))
        found = []
        for end in ends:
            if self.text[self._announced : end].strip():
                found.append((self._announced, end))
                self._announced = end
        return found

    def heard(self, heard_ms: float, written_ms: float, *, is_over: bool) -> int:
        """How many characters were heard, to the word, when `heard_ms` of the audio were.

        `written_ms` is how much audio there is so far, all of it if it `is_over`.
        """
        if is_over and heard_ms >= written_ms - TOLERANCE_MS:
            return len(self.text)
        heard = 0
        for index, span in enumerate(self._spans):
            if heard_ms <= span.start_ms:
                break
            end_ms, is_open = span.end_ms, False
            if end_ms is None:
                is_last = index + 1 == len(self._spans)
                end_ms = written_ms if is_last else self._spans[index + 1].start_ms
                is_open = is_last and not is_over
            heard = span.start + self._heard_of(span, heard_ms, end_ms, is_open=is_open)
        return heard

    def _heard_of(self, span: _Span, heard_ms: float, end_ms: float, *, is_open: bool) -> int:
        length = span.end - span.start
        if heard_ms >= end_ms - TOLERANCE_MS and not is_open:
            return length
        if span.end_ms is not None:
            return 0  # a word that was cut off
        in_span_ms = heard_ms - span.start_ms
        share = in_span_ms / max(end_ms - span.start_ms, 1.0)
        chars = length * min(share, 1.0)
        if is_open:
            chars = min(chars, in_span_ms * FASTEST_CHARS_PER_MS)
        return _whole_words(self.text[span.start : span.end], int(chars))

    def _sentence_ends(self) -> list[int]:
        ends = []
        for position in range(self._announced, len(self.text)):
            char = self.text[position]
            if char in _SENTENCE_ENDS:
                before, after = self.text[:position][-1:], self.text[position + 1 : position + 2]
                # In the middle of 3.50 is no end, and 3. may become it.
                in_number = char == "." and before.isdigit() and not after
                if not in_number and (not after.isalnum() or char > _FIRST_CJK):
                    ends.append(position + 1)
        return ends


def _whole_words(text: str, chars: int) -> int:
    """So many characters and no more, without a word that is cut off."""
    if chars >= len(text):
        return len(text)
    while chars > 0 and text[chars].isalnum() and text[chars] < _FIRST_CJK:
        chars -= 1
    return chars


def _needs_space(before: str, after: str) -> bool:
    if before.isspace() or not (after.isalnum() or after in "\"'([¿¡"):
        return False
    return before < _FIRST_CJK and after < _FIRST_CJK
