"""The code blocks of README.md and docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.server_processes import ROOT

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE_NAME = re.compile(r"# ([\w/]+\.py)\b.*\n")


@dataclass(frozen=True)
class Block:
    """A code block; `file_name` is what its first line says, a comment such as `# bots.py`."""

    page: str
    line: int
    code: str
    file_name: str | None


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks() -> Iterator[Block]:
    for page in pages():
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            if found[1] != "python":
                continue
            name = _FILE_NAME.match(found[2])
            code = found[2][name.end() :] if name else found[2]
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, code, name[1] if name else None)
