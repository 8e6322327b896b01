"""The imports: lower floors know nothing of upper ones, and no two modules need each other.

Imports for type checkers only don't count; imports inside functions do, as they run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "voicews"

#: What each of the lower floors must not know. Names are packages or modules of voicews, or others.
FORBIDDEN = {
    "frames": ("django", "channels"),
    "audio": ("django", "channels"),
    "serializers": ("django", "channels"),
    "servers": ("voicews.transports", "voicews.sessions", "voicews.consumers", "voicews.models"),
    "transports": (
        "voicews.sessions",
        "voicews.consumers",
        "voicews.telephony",
        "voicews.admin",
        "voicews.models",
    ),
    "sessions": ("voicews.consumers", "voicews.telephony", "voicews.admin", "voicews.views"),
    "consumers": ("voicews.telephony", "voicews.admin", "voicews.views"),
    "models": ("voicews.sessions", "voicews.transports"),
    "workers": ("voicews.sessions", "voicews.admin", "voicews.telephony"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(node: ast.AST) -> Iterator[str]:
    """Every module that code names in an import, and what it takes from it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from imports(other)
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module is not None, "relative imports are not used here"
            assert child.level == 0, "relative imports are not used here"
            for alias in child.names:
                name = f"{child.module}.{alias.name}"
                yield name if name in MODULES else child.module
        yield from imports(child)


IMPORTED = {
    name: {one for one in imports(ast.parse(path.read_text())) if one != name}
    for name, path in MODULES.items()
}


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_lower_floors_know_nothing_of_upper_ones(floor: str) -> None:
    modules = [name for name in MODULES if is_in(name, f"voicews.{floor}")]
    assert modules, f"there is no voicews.{floor} any more"
    found = [
        f"{name} imports {imported}"
        for name in modules
        for imported in sorted(IMPORTED[name])
        if any(is_in(imported, forbidden) for forbidden in FORBIDDEN[floor])
    ]
    assert not found, "\n".join(found)


def test_no_circle() -> None:
    own = {name: {one for one in found if one in MODULES} for name, found in IMPORTED.items()}
    try:
        TopologicalSorter(own).prepare()
    except CycleError as error:
        pytest.fail("these import each other: " + " -> ".join(error.args[1]))


def test_the_reader_sees_what_it_should() -> None:
    code = (
        "from typing import TYPE_CHECKING\n"
        "import django.db\n"
        "if TYPE_CHECKING:\n    from voicews.bots import Bot\n"
        "def later():\n    from voicews.models import VoiceSession\n"
    )
    assert set(imports(ast.parse(code))) == {"typing", "django.db", "voicews.models"}
