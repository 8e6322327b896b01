"""Media that comes out of order, put back in order: pure, without a clock."""

from __future__ import annotations


class ReorderWindow:
    """Holds chunks back until the ones before them are there, `max_held` of them at the most.

    Chunks are numbered from 1 (or 0) without gaps. When the window is full, what is missing is
    given up; a chunk that comes later than that, or twice, is dropped.
    """

    __slots__ = ("_held", "_late_in_a_row", "_max_held", "_next", "dropped", "lost")

    def __init__(self, max_held: int = 5) -> None:
        self._max_held = max_held
        self._held: dict[int, bytes] = {}
        self._next: int | None = None
        self._late_in_a_row = 0
        #: Chunks that never came, or too late.
        self.lost = 0
        #: Chunks that came too late or twice.
        self.dropped = 0

    def put(self, number: int, chunk: bytes) -> bytes:
        """Take the chunk `number`; returns what is in order now, which may be nothing."""
        if number == self._next and not self._held:
            self._next = number + 1
            self._late_in_a_row = 0
            return chunk
        if self._next is None:
            # The first to arrive may not be the first that was sent.
            self._next = number if number > self._max_held else min(number, 1)
        if number < self._next or number in self._held:
            return self._take_late(number, chunk)
        self._late_in_a_row = 0
        self._held[number] = chunk
        if self._next not in self._held and len(self._held) > self._max_held:
            oldest = min(self._held)
            self.lost += oldest - self._next
            self._next = oldest
        return self._take_ready()

    def _take_ready(self) -> bytes:
        assert self._next is not None
        ready = []
        while (chunk := self._held.pop(self._next, None)) is not None:
            ready.append(chunk)
            self._next += 1
        return b"".join(ready)

    def _take_late(self, number: int, chunk: bytes) -> bytes:
        self.dropped += 1
        self._late_in_a_row += 1
        if self._late_in_a_row <= self._max_held:
            return b""
        # So many in a row are not late: the peer counts from the start again.
        self._late_in_a_row = 0
        self._held.clear()
        self._next = number + 1
        return chunk
