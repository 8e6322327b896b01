"""Texts of others in our log: one line, nothing that a terminal obeys, and nothing is lost."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews import log_escaping
from voicews.consumers.base import SocketConsumer
from voicews.exceptions import InvalidMessage, NotAllowed
from voicews.log_escaping import printable

EVIL = (
    "id\n2026-01-01 INFO voicews: all is well\r\x1b[2J\x00\x85\u2028\ud800"
    "\N{RIGHT-TO-LEFT OVERRIDE}"
)
SHOWN = r"id\n2026-01-01 INFO voicews: all is well\r\x1b[2J\x00\x85\u2028\ud800\u202e"
logger = logging.getLogger("voicews.tests.escaping")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of a project's writes."""
    log_escaping.install()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield stream
    finally:
        root.removeHandler(handler)


class Shown:
    def __repr__(self) -> str:
        return EVIL


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("call %s: ended", (EVIL,)),
        ("call %s: ended (%d)", (EVIL, 1000)),
        ("call %(id)s", ({"id": EVIL},)),
        (EVIL, ()),
        (f"{EVIL} 100 %", ()),
        ("refused: %s", (NotAllowed(EVIL),)),
        ("refused: %s", (InvalidMessage(EVIL),)),
        ("a message %s", (Shown(),)),
    ],
)
def test_one_line(written: io.StringIO, text: str, arguments: tuple[Any, ...]) -> None:
    logger.warning(text, *arguments)
    [line] = written.getvalue().splitlines()
    assert SHOWN in line
    assert line.isprintable()


def fail() -> None:
    raise RuntimeError(EVIL)


def fail_twice() -> None:
    try:
        fail()
    except RuntimeError as error:
        raise ValueError("again\nwith this") from error


def fail_together() -> None:
    raise ExceptionGroup(EVIL, [RuntimeError(EVIL), ValueError("plain")])


@pytest.mark.parametrize("failing", [fail, fail_twice, fail_together])
def test_tracebacks(written: io.StringIO, failing: Callable[[], None]) -> None:
    try:
        failing()
    except Exception:
        logger.exception("call %s failed", EVIL)
    text = written.getvalue()
    assert "\x1b" not in text
    assert "\x00" not in text
    lines = text.split("\n")
    assert f'test_log_escaping.py", line {failing.__code__.co_firstlineno + 1}' in text or (
        failing is fail_twice
    )
    assert SHOWN in lines[0]
    assert any("Traceback (most recent call last):" in line for line in lines)
    # Each line is of the traceback's own making.
    assert not any(line.startswith(("2026", "with this")) for line in lines)


def test_a_traceback_without_such_texts_is_the_formatters_own(written: io.StringIO) -> None:
    record = logger.makeRecord(
        logger.name, 40, "x", 1, "failed", (), (ValueError, ValueError("a"), None)
    )
    assert record.exc_text is None


@pytest.mark.parametrize("plain", ["", "call 1 ended", "ü 日本 🎉 100 %", "tab-free"])
def test_nothing_else_is_touched(written: io.StringIO, plain: str) -> None:
    logger.warning("%s", plain)
    assert written.getvalue() == f"voicews.tests.escaping: {plain}\n"


def test_other_loggers_are_left_alone(written: io.StringIO) -> None:
    logging.getLogger("project").warning("a\nb")
    logging.getLogger("voicewsish").warning("a\nb")
    assert written.getvalue() == "project: a\nb\nvoicewsish: a\nb\n"
    assert logging.makeLogRecord({"msg": "a\nb"}).getMessage() == "a\nb"


def test_what_cannot_be_written_is_left_to_the_handler() -> None:
    record = logging.LogRecord("voicews", 20, "x", 1, "%d", ("no number",), None)
    log_escaping.escape(record)
    assert (record.msg, record.args) == ("%d", ("no number",))


def test_it_is_installed_once() -> None:
    log_escaping.install()
    factory = logging.getLogRecordFactory()
    log_escaping.install()
    assert logging.getLogRecordFactory() is factory


@given(st.text())
def test_any_text(text: str) -> None:
    assert printable(text).isprintable()


async def test_the_headers_of_a_handshake(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    """What an origin's refusal, the log's most exposed line, shows."""

    class Closed(SocketConsumer):
        async def connect(self) -> None:
            raise NotAllowed(self.header("user-agent") + self.header("origin"))

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        pass

    caplog.set_level(logging.INFO, logger="voicews")
    headers = [(b"user-agent", b"a\nb\x1b[31m"), (b"origin", b"\x85\x9b31m")]
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": headers}
    await Closed()(scope, receive, send)
    assert "socket refused: a\\nb\\x1b[31m\\x85\\x9b31m" in written.getvalue()
