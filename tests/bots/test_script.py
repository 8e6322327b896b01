from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.bots.script import FASTEST_CHARS_PER_MS, Script


def heard(script: Script, heard_ms: float, written_ms: float, *, is_over: bool = True) -> str:
    return script.text[: script.heard(heard_ms, written_ms, is_over=is_over)].rstrip()


@pytest.mark.parametrize(
    ("heard_ms", "text"),
    [
        (0, ""),
        (300, ""),
        (500, "Good"),
        (900, "Good"),
        (1200, "Good morning,"),
        (1996, "Good morning, everybody"),
        (2000, "Good morning, everybody"),
    ],
)
def test_a_text_for_all_of_it_is_spread_over_it_by_words(heard_ms: float, text: str) -> None:
    script = Script()
    script.add("Good morning, everybody", 0)
    assert heard(script, heard_ms, 2000) == text


def test_each_piece_has_its_text() -> None:
    script = Script()
    for number, text in enumerate(["Good", "morning", ", ", "you", "!"]):
        script.add(text, number * 300)
    assert script.text == "Good morning, you!"
    assert heard(script, 290, 1500) == ""
    assert heard(script, 300, 1500) == "Good"
    assert heard(script, 700, 1500) == "Good morning"
    assert heard(script, 1500, 1500) == "Good morning, you!"


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["one ", "two"], "one two"),
        (["one", " two"], "one two"),
        (["one", "two"], "one two"),
        (["one.", "Two"], "one. Two"),
        (["one", ", two"], "one, two"),
        (["你好", "世界"], "你好世界"),
        (["", "one", ""], "one"),
    ],
)
def test_texts_are_joined_as_words_are(texts: list[str], joined: str) -> None:
    script = Script()
    for text in texts:
        script.add(text, 0)
    assert script.text == joined


def test_times_of_words() -> None:
    script = Script()
    script.add_words([("Good", 0, 250), ("morning", 300, 700), ("you", 1400, 1500)])
    assert heard(script, 240, 1600) == ""
    assert heard(script, 250, 1600) == "Good"
    assert heard(script, 650, 1600) == "Good"
    assert heard(script, 1300, 1600) == "Good morning"
    assert heard(script, 1600, 1600) == "Good morning you"


def test_of_a_text_whose_audio_still_comes_no_more_than_one_can_say() -> None:
    script = Script()
    script.add(("a word " * 100).rstrip(), 0)
    # All that there is was heard, but most is still to come.
    assert len(heard(script, 1000, 1000, is_over=False)) <= 1000 * FASTEST_CHARS_PER_MS + 1
    assert heard(script, 1000, 1000) == script.text


def test_sentences_as_they_become_whole() -> None:
    script = Script()
    found = []
    for text in ["It costs", " 3.50 today", ". Really", "! And", " now"]:
        script.add(text, 0)
        found += [script.text[start:end].strip() for start, end in script.sentences()]
    assert found == ["It costs 3.50 today.", "Really!"]
    [rest] = script.sentences(is_over=True)
    assert script.text[slice(*rest)].strip() == "And now"
    assert script.sentences(is_over=True) == []


@given(
    st.lists(st.tuples(st.text(max_size=12), st.integers(0, 500)), max_size=8),
    st.integers(0, 3000),
    st.booleans(),
)
def test_more_time_is_never_less_text(
    pieces: list[tuple[str, int]], heard_ms: int, is_over: bool
) -> None:
    script, written = Script(), 0
    for text, duration_ms in pieces:
        script.add(text, written)
        written += duration_ms
    now = script.heard(min(heard_ms, written), written, is_over=is_over)
    later = script.heard(min(heard_ms + 100, written), written, is_over=is_over)
    assert 0 <= now <= later <= len(script.text)
