"""Texts as they can leave this process."""

from __future__ import annotations


def encodable(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair that stands alone, as JSON can have.

    Two halves that belong together become the character that they stand for.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
