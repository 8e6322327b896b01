"""Keeps our tokens out of the servers' logs, which show the URLs that have them.

A token is known by its shape, wherever it stands: in a socket's path or query, in a webhook's
query, in a header. What it begins with, the session's id, is no secret and stays.
"""

from __future__ import annotations

import logging
import re
from functools import wraps
from typing import Any

from voicews.servers import probe

MASK = "***"
#: The loggers to which servers write addresses, and Django for them. A filter of a logger sees what
#: is written to this one and to none below it.
LOGGERS = (
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "gunicorn.error",
    "gunicorn.access",
    "hypercorn.error",
    "hypercorn.access",
    "daphne.cli",
    "daphne.http_protocol",
    "daphne.server",
    "daphne.ws_protocol",
    "django.channels.server",
    "django.request",
    "django.security.DisallowedHost",
    "django.server",
    "websockets.server",
)

# What `voicews.security.tokens` and `voicews.telephony.tokens` make, or more: something may have
# been added. Dots may be escaped.
_DOT = r"(?:\.|%2[Ee])"
_TOKEN = re.compile(
    rf"([0-9a-f]{{32}})(?:{_DOT}[0-9A-Za-z]{{5,8}}{_DOT}[\w-]{{40,}}|[0-9a-f]{{48,}})", re.ASCII
)


def mask(text: str) -> str:
    """The text, without the secret part of each token in it."""
    return _TOKEN.sub(rf"\1{MASK}", text)


class TokenFilter(logging.Filter):
    """Masks tokens in a record's text and arguments; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if isinstance(record.args, tuple):
                # Some formatters read them one by one.
                record.args = tuple(map(_mask_value, record.args))
            elif record.args:
                # gunicorn's are a dict of its own, which answers for names that it doesn't have:
                # so it is looked into, and never replaced.
                for name, value in record.args.items():
                    masked_value = _mask_value(value)
                    if masked_value != value:
                        record.args[name] = masked_value  # type: ignore[index]
            text = record.getMessage()
            if (masked := mask(text)) != text:
                record.msg, record.args = masked, ()
        except Exception:  # noqa: BLE001 - logging must not fail because of it
            return True
        return True


def _mask_value(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, bytes):
        return mask(value.decode("latin-1")).encode("latin-1")
    return value


_filter = TokenFilter()


def install() -> None:
    """Mask what is written from now on. Called again, it does nothing more."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)
    _mask_daphne()


def _mask_daphne() -> None:
    """Have Daphne's access log masked: it has no logger."""
    generator = probe.DAPHNE_ACCESS.the_class()
    if generator is None or not probe.DAPHNE_ACCESS.is_in(generator):
        return
    write_entry = generator.write_entry
    if hasattr(write_entry, "__wrapped__"):
        return

    @wraps(write_entry)
    def write_masked(self: Any, *args: Any, **details: Any) -> None:
        masked = {name: _mask_value(value) for name, value in details.items()}
        write_entry(self, *map(_mask_value, args), **masked)

    generator.write_entry = write_masked
