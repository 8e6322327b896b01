"""What a bot saves, to go on from in another process."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voicews.bots import Bot
    from voicews.models import VoiceSession

logger = logging.getLogger(__name__)

#: How long a bot may take to save its state.
SAVE_STATE_TIMEOUT_SECS = 3.0
#: U+0000 in JSON text, which PostgreSQL does not take. It may be what a user has typed.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class BotState:
    """The state of a session's bot, as far as this process has stored it.

    Whoever takes it to store it holds `lock` until that is done: nothing that is older is stored
    after it then.
    """

    def __init__(self, row: VoiceSession, bot: Bot | None) -> None:
        self.lock = asyncio.Lock()
        #: What is in the row; None: not known, as a bot may change what it was given to restore.
        self.stored: dict[str, Any] | None = None if row.bot_state else {}
        self._call_id = row.pk
        self._bot = bot
        self._failed = False

    async def take(self) -> dict[str, Any] | None:
        """What the bot wants to go on from; None if there is nothing to store."""
        if self._bot is None:
            return None
        try:
            async with asyncio.timeout(SAVE_STATE_TIMEOUT_SECS):
                state = _copy(await self._bot.saved_state())
        except Exception:
            if not self._failed:
                logger.exception("call %s: the bot could not save its state", self._call_id)
            self._failed = True
            return None
        self._failed = False
        return state


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a database has it. Raises `TypeError` or `ValueError` if that can't be."""
    text = json.dumps(state, allow_nan=False)
    if "\\u0000" in text:
        text = _NUL.sub(r"\1\\ufffd", text)
    copy: dict[str, Any] = json.loads(text)
    return copy
