"""What `Bot.play` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Self

from voicews.audio.pcm import Pcm
from voicews.bots.script import Script
from voicews.frames import AudioRawFrame

if TYPE_CHECKING:
    from voicews.bots.speaker import Speaker

Audio = bytes | bytearray | memoryview | Pcm | AudioRawFrame


class Playback:
    """One thing that is said: await it to go on when the user has heard it, or was interrupted.

    `heard_ms` is how much of it the user heard, `heard_text` how much of its `text`, to the word,
    `interrupted` whether its end was cut off. They grow while it is played, and are final once it
    is `done`; an interruption is `done` when the client has told where it stopped, at most half a
    second later. What was lost with a client's socket was not heard, and what had not been sent by
    then is played to the client when it is back.
    """

    def __init__(self, speaker: Speaker, name: str, script: Script) -> None:
        self.name = name
        #: How long (ms) it is, or of a stream, how much of it has come.
        self.duration_ms = 0.0
        self.heard_ms = 0.0
        self.interrupted = False
        #: Up to where (ms) it is told in parts how much was heard.
        self.cued_ms = 0.0
        self._speaker = speaker
        self._script = script
        self._is_complete = True
        self._is_awaited = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def text(self) -> str:
        """Its words, as far as they are known."""
        return self._script.text

    @property
    def heard_text(self) -> str:
        """Those that were heard."""
        return self.text[: self._heard_chars()].rstrip()

    @property
    def done(self) -> bool:
        return self._done.done()

    def __await__(self) -> Generator[Any, None, Self]:
        self._is_awaited = True
        # Shielded: cancelling one who waits says nothing about the playing.
        yield from asyncio.shield(self._done).__await__()
        return self

    def _heard_chars(self) -> int:
        is_over = self._is_complete
        if self.done and not self.interrupted:
            return len(self.text)
        return self._script.heard(self.heard_ms, self.duration_ms, is_over=is_over)

    def _consumed(self, until_ms: float) -> None:
        """It was played up to here, whether it was heard or lost."""

    def _heard(self, heard_ms: float) -> None:
        self.heard_ms = max(self.heard_ms, heard_ms)

    def _finish(self, heard_ms: float, *, interrupted: bool) -> None:
        if not self._done.done():
            self.heard_ms = heard_ms
            self.interrupted = interrupted
            self._done.set_result(None)

    def _cut_off(self) -> None:
        """Nothing of it will be heard any more; it may not have been pushed yet."""
