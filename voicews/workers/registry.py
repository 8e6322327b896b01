"""Which workers are ready, here and elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from voicews.exceptions import VoicewsError


@dataclass(frozen=True)
class WorkerReadyData:
    """The worker that is ready, and the runner that it runs under."""

    worker_name: str
    runner: str


@dataclass(frozen=True)
class WorkerErrorData:
    """What went wrong in a worker."""

    worker_name: str
    error: str


class Unreachable(VoicewsError):
    """A worker can't become ready: the message says what stands in the way."""


Watcher = Callable[[WorkerReadyData], None]


class WorkerRegistry:
    """The workers that a runner knows of, its own and those of other runners."""

    def __init__(self, runner_name: str) -> None:
        self.runner_name = runner_name
        self._runners: dict[str, dict[str, WorkerReadyData]] = {runner_name: {}}
        self._watchers: dict[str, list[Watcher]] = {}
        self._unreachable: dict[str, str] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def local_workers(self) -> list[str]:
        return list(self._runners[self.runner_name])

    @property
    def remote_workers(self) -> list[str]:
        others = (names for runner, names in self._runners.items() if runner != self.runner_name)
        return [name for names in others for name in names]

    @property
    def known_runners(self) -> frozenset[str]:
        return frozenset(self._runners)

    def get(self, worker_name: str) -> WorkerReadyData | None:
        """What is known of a worker that is ready; None if none is."""
        for names in self._runners.values():
            if worker_name in names:
                return names[worker_name]
        return None

    def __contains__(self, worker_name: str) -> bool:
        return self.get(worker_name) is not None

    def register(self, worker_name: str, runner: str) -> None:
        """A worker is ready: its watchers are notified once."""
        self._unreachable.pop(worker_name, None)
        names = self._runners.setdefault(runner, {})
        if worker_name not in names:
            names[worker_name] = ready = WorkerReadyData(worker_name, runner)
            for watcher in list(self._watchers.get(worker_name, ())):
                watcher(ready)

    def forget(self, worker_name: str, runner: str | None = None) -> None:
        """A worker is gone from this runner, or from wherever it was."""
        for name, names in self._runners.items():
            if runner in (None, name):
                names.pop(worker_name, None)

    def forget_runner(self, runner: str) -> None:
        """All workers of another runner are gone."""
        if runner != self.runner_name:
            self._runners.pop(runner, None)

    def watch(self, worker_name: str, watcher: Watcher) -> None:
        """Call back each time that the worker becomes ready; at once if it is."""
        watchers = self._watchers.setdefault(worker_name, [])
        if watcher not in watchers:
            watchers.append(watcher)
            ready = self.get(worker_name)
            if ready is not None:
                watcher(ready)

    def unwatch(self, worker_name: str, watcher: Watcher) -> None:
        """Call back no more."""
        watchers = self._watchers.get(worker_name, [])
        if watcher in watchers:
            watchers.remove(watcher)
        if not watchers:
            self._watchers.pop(worker_name, None)

    def set_unreachable(self, worker_name: str, reason: str | None) -> None:
        """The proxy to a worker has given up; None: it tries again. Waiting callers are told."""
        if reason is None:
            self._unreachable.pop(worker_name, None)
            return
        self._unreachable[worker_name] = reason
        for waiter in self._waiters.get(worker_name, ()):
            if not waiter.done():
                waiter.set_exception(Unreachable(reason))

    async def wait_ready(self, worker_name: str) -> None:
        """Wait until the worker is ready. Raises `Unreachable` when it can't become so."""
        if worker_name in self:
            return
        if worker_name in self._unreachable:
            raise Unreachable(self._unreachable[worker_name])
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def watcher(_data: WorkerReadyData) -> None:
            if not ready.done():
                ready.set_result(None)

        self.watch(worker_name, watcher)
        waiters = self._waiters.setdefault(worker_name, set())
        waiters.add(ready)
        try:
            await ready
        finally:
            self.unwatch(worker_name, watcher)
            waiters.discard(ready)
            if not waiters and self._waiters.get(worker_name) is waiters:
                del self._waiters[worker_name]
