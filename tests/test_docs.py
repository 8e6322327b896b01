"""The documentation says what is there: its code compiles, its imports and links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from urllib.parse import urlsplit

import pytest

from tests.documentation import Block, pages, python_blocks
from tests.server_processes import ROOT
from voicews.bots import Bot
from voicews.close_codes import FINAL, CloseCode


def parsed(block: Block) -> ast.Module:
    # A piece of a class is shown with its indentation; `await` stands alone where it is obvious.
    code = textwrap.dedent(block.code)
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(code, f"{block.page}:{block.line}", "exec", flags)
    assert isinstance(tree, ast.Module)
    return tree


@pytest.mark.parametrize(
    "block", list(python_blocks()), ids=lambda block: f"{block.page}:{block.line}"
)
def test_python_compiles_and_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(parsed(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("voicews"):
            assert node.module is not None
            if node.module.startswith("voicews.contrib.pipecat"):
                continue  # imported by the test that runs the example, where Pipecat is installed
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def documented_modules() -> list[str]:
    names: list[str] = []
    for page in (ROOT / "docs/reference/api").glob("*.md"):
        names += re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(), re.MULTILINE)
    return sorted(names)


@pytest.mark.parametrize("name", documented_modules())
def test_what_a_module_makes_public_is_there_and_described(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert thing.__doc__, f"{name}.{public} has no docstring"


def test_every_handler_and_method_of_a_bot_is_in_the_tables() -> None:
    text = (ROOT / "docs/reference/bots.md").read_text()
    # What the app calls, and what `docs/howto/own-pipeline.md` is about.
    internal = {
        *("build_pipeline", "cleanup", "mark_migrating", "process_frame", "resume_from"),
        *("saved_state", "saves_state_every_secs"),
    }
    names = {
        name for name in vars(Bot) if not name.startswith("_") and callable(getattr(Bot, name))
    }
    missing = {name for name in names - internal if f"`{name}(" not in text.replace("await ", "")}
    assert not missing


def test_names_in_the_text_lead_somewhere() -> None:
    """Roles such as {py:class}`voicews.bots.Bot` name something that can be imported there."""
    for page in pages():
        for target in re.findall(r"\{py:\w+\}`([\w.]+)`", page.read_text()):
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"{page.name}: {target}"


def test_links_of_pages_outside_docs_lead_to_files() -> None:
    """Sphinx checks those in docs/."""
    for page in pages():
        if page.is_relative_to(ROOT / "docs"):
            continue
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            url = urlsplit(target)
            if not url.scheme and url.path:
                assert (page.parent / url.path).exists(), f"{page.name}: {target}"


def test_every_close_code_is_in_the_table() -> None:
    text = (ROOT / "docs/reference/close-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| .* \| (yes|no) \|$", text, re.MULTILINE)
    assert [(int(code), name) for code, name, _ in rows] == [(c.value, c.name) for c in CloseCode]
    # A browser never sees its own 1001.
    final = {int(code) for code, _, reconnects in rows if reconnects == "no"}
    assert final == FINAL | {CloseCode.GOING_AWAY}
