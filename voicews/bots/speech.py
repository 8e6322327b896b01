"""Speech that is said while it still comes, such as from a text-to-speech service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from voicews.audio.formats import audio_format, not_pcm
from voicews.audio.pcm import Pcm
from voicews.audio.stream import PcmStream
from voicews.bots.playback import Playback
from voicews.bots.script import Script, TimedWord
from voicews.exceptions import AudioFormatError, InvalidState
from voicews.frames import AudioRawFrame

if TYPE_CHECKING:
    from voicews.bots.speaker import Speaker

#: `write` waits while so much (ms) has been written that was not heard yet.
DEFAULT_AHEAD_SECS: Final = 5.0

Piece = bytes | bytearray | memoryview | Pcm | AudioRawFrame
Pieces = AsyncIterable[Any] | Iterable[Any]


class Speech(Playback):
    """What `Bot.speak` returns, for `async with`: a `Playback` that is written piece by piece.

    The block ends when all was heard. When the user talks over it, the task that is in the block is
    cancelled there, and goes on behind the block with `interrupted` set and final figures; a
    handler that is cancelled by the same interruption (see `Bot`) ends there.
    """

    def __init__(
        self, speaker: Speaker, name: str, stream: PcmStream, script: Script, ahead_secs: float
    ) -> None:
        super().__init__(speaker, name, script)
        self._stream = stream
        self._ahead_ms = ahead_secs * 1000
        self._is_complete = False
        self._closed = False
        self._was_cut = False
        self._error: Exception | None = None
        self._consumed_ms = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._progress = asyncio.Event()

    async def write(
        self, piece: Piece = b"", *, text: str = "", words: Iterable[TimedWord] = ()
    ) -> None:
        """Say this after what was written before.

        `piece` is PCM16LE that may be cut anywhere, or WAV with its header in the first piece;
        `text` are the words that begin with it, and go on until the next text. `words`, instead,
        are (word, start, end) with times in ms from the beginning of the speech. Waits while
        more than `ahead_secs` were written and not yet heard. Raises `AudioFormatError` for what is
        neither PCM nor WAV, with what it is instead; `InvalidState` outside of `async with`.
        """
        if self._task is None:
            raise InvalidState("expected write() inside of `async with bot.speak()`")
        await self._go_on()
        if self._closed:
            raise InvalidState("expected write() before the end of the speech")
        if not isinstance(piece, Piece):
            raise AudioFormatError(f"expected bytes of PCM, found {type(piece).__name__}")
        self._script.add(text, self.duration_ms)
        self._script.add_words(words)
        if isinstance(piece, bytes | bytearray | memoryview):
            pieces = self._stream.feed(bytes(piece))
        elif (name := audio_format(piece.audio)) is not None:
            raise not_pcm(name)
        else:
            pcm = Pcm(piece.audio, piece.sample_rate, piece.num_channels)
            pieces = [*self._stream.finish(), pcm]
        self._speaker.push_pieces(self, pieces)
        await self._go_on()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise InvalidState("expected a speech that has not begun")
        self._task = asyncio.current_task()
        self._speaker.enqueue(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not self._is_cut():
            try:
                if kind is None:
                    while not self._speaker.has_floor(self) and not self._is_cut():
                        await self._wait_for_progress()
                self._end(is_whole=kind is None)
                if kind is None:
                    await self
            except asyncio.CancelledError:
                if not self._is_cut():
                    raise
                kind = asyncio.CancelledError
        if not self._is_cut() or kind is None:
            return False
        assert self._task is not None
        if kind is not asyncio.CancelledError or self._task.uncancel() > 0:
            return False
        self._task = None
        await self
        return True

    async def _go_on(self) -> None:
        """Wait until there is room for more."""
        while not self._is_cut() and not self._closed:
            is_full = self.duration_ms - self._consumed_ms > self._ahead_ms
            if not is_full and self._speaker.has_floor(self):
                return
            await self._wait_for_progress()
        if self._was_cut and self._task is asyncio.current_task():
            # By the very task that writes.
            assert self._task is not None
            self._task.cancel()
            await asyncio.sleep(0)

    async def _wait_for_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def _is_cut(self) -> bool:
        """A call and no attribute: mypy thinks that those stay what they were."""
        return self._was_cut

    def _end(self, *, is_whole: bool) -> None:
        """Nothing more will be written."""
        if self._closed:
            return
        last: list[Pcm] = []
        try:
            if is_whole:
                last = self._stream.finish()
        except AudioFormatError as error:
            self._error = error
        self._closed = self._is_complete = True
        self._speaker.end_speech(self, last)

    def _consumed(self, until_ms: float) -> None:
        self._consumed_ms = max(self._consumed_ms, until_ms)
        self._progress.set()

    def _finish(self, heard_ms: float, *, interrupted: bool) -> None:
        if self._error is None or self.done:
            super()._finish(heard_ms, interrupted=interrupted)
        else:
            self.heard_ms, self.interrupted = heard_ms, interrupted
            self._done.set_exception(self._error)
            self._done.exception()  # a handler need not wait for it
            if not self._is_awaited:
                self._speaker.report(self._error)
        self._progress.set()

    def _cut_off(self) -> None:
        if self._is_cut() or self.done:
            return
        self._was_cut = self._closed = True
        self._progress.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


async def feed(speech: Speech, pieces: Pieces) -> None:
    """Write all that `pieces` gives; it is closed at the end, and when the speech is cut off.

    A sync iterator runs in a thread, as it may block. A piece may be a pair with its text.
    """
    if speech.done:
        return
    source = _iterate(pieces)
    try:
        async with speech:
            try:
                async for item in source:
                    piece, text = item if type(item) is tuple and len(item) == 2 else (item, "")
                    await speech.write(piece, text=text)
            except Exception as error:
                speech._error = error
                raise
    finally:
        await source.aclose()


async def _iterate(pieces: Pieces) -> Any:
    if isinstance(pieces, AsyncIterable):
        iterator = aiter(pieces)
        try:
            async for piece in iterator:
                yield piece
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()
    elif isinstance(pieces, list | tuple):
        for piece in pieces:
            yield piece
    else:
        async for piece in _in_thread(iter(pieces)):
            yield piece


async def _in_thread(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, iterator, end))
            piece = await asyncio.shield(step)
            if piece is end:
                return
            yield piece
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            if step is None or step.done():
                close()
            else:
                # It can't be closed while it runs.
                step.add_done_callback(lambda done: (done.exception(), close()))
