"""What a bot saves, to go on from in another process."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from voicews.fields import storable_json

if TYPE_CHECKING:
    from voicews.bots import Bot
    from voicews.models import VoiceSession

logger = logging.getLogger(__name__)

#: How long a bot may take to save its state.
SAVE_STATE_TIMEOUT_SECS = 3.0


class BotState:
    """The state of a session's bot, as far as this process has stored it.

    Storing it holds `lock` until that is done: nothing that is older is stored
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
    copy: dict[str, Any] = json.loads(json.dumps(storable_json(state), allow_nan=False))
    return copy
