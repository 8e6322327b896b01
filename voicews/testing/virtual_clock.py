"""An event loop on a virtual clock: a test of a minute's call takes milliseconds, and is exact."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Real seconds to wait for a thread when no timer is set and no task can run.
DEADLOCK_SECS = 5.0


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for the next timer, sets the clock forward to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(DEADLOCK_SECS if timeout is None else 0)
        if not events:
            if timeout is None:
                raise RuntimeError("deadlock: no timer is set and no task can run")
            self.now += timeout
        return events


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work, and jumps when there is none."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        #: Contexts of errors that no task handled, as for `loop.set_exception_handler`.
        self.failures: list[Mapping[str, Any]] = []
        self.turns = 0
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._jumping.now

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]  # private, so typeshed does not know it

    def timers(self) -> list[asyncio.TimerHandle]:
        """The timers that are still set."""
        handles: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [handle for handle in handles if not handle.cancelled()]


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual clock and return its result.

    Raises `AssertionError` if it leaves tasks running, or if an error was handled by no task.
    """

    async def main() -> T:
        result = await coroutine
        await settle()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"expected no task to be left running, found {left}"
        return result

    # Not from the runner's own argument: it would not know that it is ours.
    loop = VirtualClockLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main())
        assert not loop.failures, f"errors that no task handled: {loop.failures}"
        return result


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorator: run an async test on a virtual clock. The test is then a plain function."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return wrapper


async def settle() -> None:
    """Run everything that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
