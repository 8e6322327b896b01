"""One thing after the other, and what doesn't hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from voicews.serial_queue import SerialQueue


class Diary:
    """What ran, in its order, and what was told."""

    def __init__(self, **options: object) -> None:
        self.ran: list[str] = []
        self.told: list[str] = []
        self.go_on = asyncio.Event()

    def queue(self, limit: int | None = None, after: SerialQueue | None = None) -> SerialQueue:
        return SerialQueue(
            on_error=lambda name, error: self.told.append(f"{name}: {error!r}"),
            on_dropped=lambda name, dropped: self.told.append(f"{name}: {dropped} dropped"),
            limit=limit,
            after=after,
        )

    def note(self, name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.ran.append(name)

        return run

    async def wait(self) -> None:
        await self.go_on.wait()


async def test_in_order_whatever_fails_or_gives_itself_up() -> None:
    diary = Diary()
    queue = diary.queue()

    async def fail() -> None:
        raise ValueError("no")

    async def give_up() -> None:
        raise asyncio.CancelledError

    queue.put("1", diary.note("1"))
    queue.put("2", fail)
    queue.put("3", give_up)
    queue.put("4", diary.note("4"))
    assert not queue.is_idle
    await queue.join(1.0)
    assert (diary.ran, diary.told) == (["1", "4"], ["2: ValueError('no')"])
    idle: list[bool] = []
    queue.when_idle(lambda: idle.append(queue.is_idle))
    assert idle == [True]


async def test_the_oldest_goes_when_too_many_wait() -> None:
    diary = Diary()
    queue = diary.queue(limit=2)
    for name in "1234":
        queue.put(name, diary.note(name))
    await queue.join(1.0)
    assert (diary.ran, queue.dropped) == (["3", "4"], 2)
    assert diary.told == ["3: 1 dropped", "4: 2 dropped"]


async def test_what_goes_first_begins_first_and_holds_nothing_up() -> None:
    diary = Diary()
    first = diary.queue()
    second = diary.queue(after=first)
    second.put("data", diary.note("data"))
    first.put("system", diary.note("system"))
    await second.join(1.0)
    assert diary.ran == ["system", "data"]
    first.put("slow", diary.wait)
    await asyncio.sleep(0)
    first.put("later", diary.note("later"))
    second.put("more data", diary.note("more data"))
    await second.join(1.0)
    assert diary.ran[2:] == ["more data"]
    await first.cancel()
    assert first.is_idle
    assert diary.ran[3:] == []
