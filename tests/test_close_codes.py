"""The close codes, here and in the browser client."""

from __future__ import annotations

import re
from pathlib import Path

import voicews
from voicews import close_codes
from voicews.close_codes import CloseCode

JAVASCRIPT = Path(voicews.__file__).parent / "static/voicews/close-codes.js"


def test_javascript_has_the_same_codes() -> None:
    text = JAVASCRIPT.read_text(encoding="utf-8")
    table = text[text.index("CloseCode = Object.freeze({") : text.index("});")]
    codes = {name: int(code) for name, code in re.findall(r"(\w+): (\d+),", table)}

    assert codes == {code.name: code.value for code in CloseCode}


def test_javascript_reconnects_after_the_same_codes() -> None:
    text = JAVASCRIPT.read_text(encoding="utf-8")
    final = text[text.index("FINAL = new Set([") : text.index("]);")]

    assert {CloseCode[name] for name in re.findall(r"CloseCode\.(\w+)", final)} == close_codes.FINAL
