"""Keeps the control characters of others out of our log.

A line of ours may have their texts in it: ids, reasons, headers, a provider's errors. A newline in
one would begin a line that nobody has written, an escape code would reach the terminal. So each
record of the `voicews` loggers is escaped when it is made, whatever handlers a project gives it: a
filter of a logger sees nothing of the loggers below it.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any


def printable(text: str) -> str:
    r"""The text, with escapes such as `\n` and `\x1b` for what is no printable character."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def escape(record: logging.LogRecord) -> None:
    """Make one line of a record's text, and of each exception's message in its traceback."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - the handler reports it
        return
    if not text.isprintable():
        record.msg, record.args = printable(text), ()
    if record.exc_info and record.exc_info[0] is not None:
        chunks = traceback.format_exception(*record.exc_info)
        escaped = "".join(map(_printable_chunk, chunks))
        if escaped != "".join(chunks):
            # Formatters take it from here, if it is there.
            record.exc_text = escaped.rstrip("\n")


def _printable_chunk(chunk: str) -> str:
    """A piece of a traceback: lines of a frame, a heading, or the type and the message."""
    body, end = (chunk[:-1], "\n") if chunk.endswith("\n") else (chunk, "")
    if body.startswith((" ", "\n", "Traceback ")):
        return "\n".join(printable(line) for line in body.split("\n")) + end
    return printable(body) + end


def install() -> None:
    """Escape what is logged from now on. Called again, it does nothing more."""
    make_record = logging.getLogRecordFactory()
    if getattr(make_record, "escapes_voicews", False):
        return

    def make_escaped(name: Any, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = make_record(name, *arguments, **options)
        # `logging.makeLogRecord` knows no name yet.
        if isinstance(name, str) and name.partition(".")[0] == "voicews":
            escape(record)
        return record

    make_escaped.escapes_voicews = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_escaped)
