"""One thing after the other, in a task that lives while there is something to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Run = Callable[[], Awaitable[None]]


class SerialQueue:
    """Runs jobs in order; `put` does not wait.

    An exception is passed to `on_error`, and the next one runs. Of more than `limit` that wait the
    oldest is dropped, and passed to `on_dropped`. What waits in `after` begins first.
    """

    def __init__(
        self,
        *,
        on_error: Callable[[str, Exception], None],
        on_dropped: Callable[[str, int], None] | None = None,
        limit: int | None = None,
        after: SerialQueue | None = None,
    ) -> None:
        self.dropped = 0
        self._on_error = on_error
        self._on_dropped = on_dropped
        self._limit = limit
        self._after = after
        self._waiting: deque[tuple[str, Run]] = deque()
        self._is_busy = False
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What runs it; None while it is idle."""
        return self._task

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._task is None

    @property
    def is_about_to_run(self) -> bool:
        """Whether something waits that nothing holds up."""
        return bool(self._waiting) and not self._is_busy

    def put(self, name: str, run: Run) -> None:
        """Run this after what was put before."""
        if self._limit is not None and len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.dropped += 1
            if self._on_dropped is not None:
                self._on_dropped(name, self.dropped)
        self._waiting.append((name, run))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once it is idle: at once if it is."""
        if self._task is None:
            callback()
        else:
            self._task.add_done_callback(lambda _task: self.when_idle(callback))

    async def join(self, timeout_secs: float) -> None:
        """Wait until it is idle, or for so long."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_secs)

    async def cancel(self) -> None:
        """Forget what waits, cancel what runs, unless that is who asks, and wait for its end."""
        self._waiting.clear()
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _work(self) -> None:
        task = self._task
        try:
            while self._waiting:
                if self._after is not None and self._after.is_about_to_run:
                    await asyncio.sleep(0)
                    continue
                name, run = self._waiting.popleft()
                self._is_busy = True
                try:
                    await run()
                except asyncio.CancelledError:
                    # What runs may give itself up, which is no reason to keep the rest waiting.
                    if task is None or task.cancelling():
                        raise
                except Exception as error:  # noqa: BLE001 - told to the owner
                    self._on_error(name, error)
                finally:
                    self._is_busy = False
        finally:
            self._task = None
