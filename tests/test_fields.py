"""Texts that no database takes, and what is stored of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.fields import storable, storable_json
from voicews.models import SessionEvent, TranscriptEntry, VoiceSession

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Grüße 🙂", "Grüße 🙂"),
        ("a\0b", "a\ufffdb"),
        ("half \ud83d", "half \ufffd"),
        ("\ude00 the other", "\ufffd the other"),
        # Two halves that a client has sent apart, and JSON has left so.
        ("\ud83d" + "\ude00", "😀"),
    ],
)
def test_texts(text: str, stored: str) -> None:
    assert storable(text) == stored


@given(ANY_TEXT)
def test_any_text(text: str) -> None:
    stored = storable(text)
    assert stored.encode().decode() == stored
    assert "\0" not in stored
    assert storable(stored) == stored


JSON_DATA: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=10,
)


@given(JSON_DATA)
def test_any_json(data: Any) -> None:
    def check(stored: Any, given: Any) -> None:
        if isinstance(given, str):
            assert stored == storable(given)
        elif isinstance(given, list):
            for one, other in zip(stored, given, strict=True):
                check(one, other)
        elif isinstance(given, dict):
            assert set(stored) == set(map(storable, given))
        else:
            assert stored == given

    check(storable_json(data), data)


def test_no_json() -> None:
    with pytest.raises(TypeError):
        storable_json({"bot": object()})
    with pytest.raises(ValueError):
        storable_json(float("nan"))


@pytest.mark.django_db
def test_every_way_to_store_a_text() -> None:
    """Created, saved, updated and in bulk; and it is found again by what was given."""
    bad = "a\0\ud83db"
    session = VoiceSession.objects.create(bot="echo", call_id=bad, bot_state={bad: [bad]})
    session.from_number = bad * 100
    session.save()
    VoiceSession.objects.update(hang_up=bad)
    SessionEvent.objects.bulk_create([SessionEvent(session=session, kind="error", detail=bad)])
    TranscriptEntry.objects.create(session=session, role="user", text=bad)
    found = VoiceSession.objects.get(call_id=bad)
    good = "a\ufffd\ufffdb"
    assert (found.call_id, found.hang_up, found.bot_state) == (good, good, {good: [good]})
    assert found.from_number == (good * 100)[:64]
    assert SessionEvent.objects.get().detail == TranscriptEntry.objects.get().text == good
