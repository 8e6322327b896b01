"""The RTVI handshake of a bot that answers it by itself, somewhere behind us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from voicews.pipeline.rtvi import LABEL


class HandshakeRelay:
    """Adds to a foreign `bot-ready` what our clients need, and greets those that come back.

    A client that resumes its session shakes hands again. The bot behind us would take that for a
    new conversation and, most likely, say hello once more; so it doesn't hear of it.
    `bot_ready_extras()` is asked anew for each handshake.
    """

    def __init__(self, bot_ready_extras: Callable[[], Mapping[str, Any]]) -> None:
        self._extras = bot_ready_extras
        self._bot_ready: dict[str, Any] | None = None
        self._has_resumed = False

    def client_connected(self, *, resumed: bool) -> None:
        """A client is there."""
        self._has_resumed = resumed

    def to_client(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message as the client gets it."""
        if not _is(message, "bot-ready"):
            return message
        data = message.get("data")
        self._bot_ready = data if isinstance(data, dict) else {}
        return {**message, "data": {**self._bot_ready, **self._extras()}}

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a message that the bot doesn't get; None: it is the bot's."""
        if not self._has_resumed or self._bot_ready is None or not _is(message, "client-ready"):
            return None
        ready = {"label": LABEL, "type": "bot-ready", "data": {**self._bot_ready, **self._extras()}}
        if isinstance(message.get("id"), str):
            ready["id"] = message["id"]
        return ready


def error_message(error: str) -> dict[str, Any]:
    """The RTVI message for a call that fails; the client shows `error`."""
    return {"label": LABEL, "type": "error", "data": {"error": error, "fatal": True}}


def _is(message: dict[str, Any], kind: str) -> bool:
    return message.get("type") == kind and message.get("label") == LABEL
