"""The table of the reference's names: each row names tests, and each of them exists."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import fields

import pytest

from tests.server_processes import ROOT
from voicews.transports import ChannelsWebsocketParams, TransportParams, WebsocketClientParams

PAGE = (ROOT / "docs/reference/pipecat-names.md").read_text()
#: Fields of our own, which the reference does not have.
OURS = {
    *("allow_interruptions", "audio_in_max_ahead_secs", "audio_out_lead_secs", "audio_out_volume"),
    *("audio_out_write_timeout_secs", "idle_timeout", "max_invalid_messages", "max_message_bytes"),
    *("open_timeout_secs", "pad_last_audio_packet", "ping_interval_secs", "reconnect"),
    *("reconnect_grace", "ws_close_timeout"),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def all_rows() -> list[list[str]]:
    return [
        row for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE) for row in rows(heading)
    ]


@functools.cache
def named_tests(path: str) -> frozenset[str]:
    """The names of a file's tests: `test_x`, `TestY::test_z`, or the text of a JavaScript test."""
    source = (ROOT / path).read_text()
    if path.endswith(".js"):
        return frozenset(re.findall(r'^test\("(.*?)",', source, re.MULTILINE))
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(f"{node.name}::{inner.name}")
    return frozenset(names)


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row[0].strip("`"))
def test_each_row_is_full_and_names_tests_that_exist(row: list[str]) -> None:
    assert all(row)
    named = re.findall(r"`(tests/[^`]*)`", row[-1])
    assert named
    for name in named:
        path, _, test = name.partition("::")
        assert test in named_tests(path), f"{path} has no test {test}"


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("TransportParams", TransportParams),
        ("WebsocketServerParams, ChannelsWebsocketParams", ChannelsWebsocketParams),
        ("WebsocketClientParams", WebsocketClientParams),
    ],
)
def test_parameters_and_their_defaults(heading: str, cls: type[TransportParams]) -> None:
    defaults = cls()
    expected = {field.name: repr(getattr(defaults, field.name)) for field in fields(cls)}
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(heading)}
    assert table == {name: expected[name] for name in table}
    if cls is not TransportParams:
        expected = {n: d for n, d in expected.items() if n not in TransportParams.__annotations__}
    missing = expected.keys() - table.keys() - OURS
    missing -= {row[0].strip("`") for row in all_rows()}
    assert not missing, f"not in the table: {missing}"
