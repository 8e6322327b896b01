"""The runner: hosts workers on a bus."""

from __future__ import annotations

import asyncio
import logging
import uuid

from voicews.exceptions import ConfigurationError, InvalidState
from voicews.workers.bus import WorkerBus
from voicews.workers.messages import (
    BusAddWorkerMessage,
    BusCancelMessage,
    BusCancelWorkerMessage,
    BusEndMessage,
    BusEndWorkerMessage,
    BusMessage,
    BusWorkerRegistryMessage,
    WorkerRegistryEntry,
)
from voicews.workers.registry import WorkerReadyData, WorkerRegistry
from voicews.workers.worker import BaseWorker

logger = logging.getLogger(__name__)

#: How long (seconds) workers may take to end in order, and to clean up after a cancel.
END_TIMEOUT_SECS = 10.0


class WorkerRunner:
    """Runs workers, and knows which ones there are, also on the other runners of its bus.

    `async with WorkerRunner() as runner:` runs them while the block lasts; `await runner.run()`
    until they have all ended. In a server, `start()` and `stop()` do the same in two steps.
    """

    def __init__(self, *, name: str | None = None, bus: WorkerBus | None = None) -> None:
        self.name = name or f"runner-{uuid.uuid4().hex[:12]}"
        self.bus = bus or WorkerBus()
        self.registry = WorkerRegistry(self.name)
        self._workers: dict[str, BaseWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._is_running = False
        self._ends_alone = False
        self._over = asyncio.Event()
        self._at_once = False
        self._reason: str | None = None

    def get_worker(self, name: str) -> BaseWorker | None:
        """The worker of that name, if it is one of this runner's."""
        return self._workers.get(name)

    async def add_workers(self, *workers: BaseWorker) -> None:
        """Take workers in; they start with the runner, or at once if it runs.

        Raises `ConfigurationError` if a name is taken.
        """
        for worker in workers:
            if worker.name in self._workers:
                raise ConfigurationError(f"expected a name of its own, found another {worker.name}")
            worker.attach(self)
            self._workers[worker.name] = worker
            if worker.parent is None:
                self.registry.watch(worker.name, self._on_local_worker_ready)
            if self._is_running:
                self._start_worker(worker)

    async def start(self) -> None:
        """Start the workers. Does nothing on a runner that runs."""
        if self._is_running:
            return
        if self._over.is_set():
            raise InvalidState(f"expected a runner that has not ended, found {self.name}")
        await self.bus.start()
        self.bus.subscribe(self)
        self._is_running = True
        for worker in list(self._workers.values()):
            self._start_worker(worker)

    async def stop(self) -> None:
        """End what still runs, and wait for it: in order after `end()`, otherwise at once."""
        if not self._is_running:
            return
        self._over.set()
        if not self._at_once and self._reason is not None:
            self._tell_workers(BusEndWorkerMessage)
            await self._wait_for_workers()
        self._tell_workers(BusCancelWorkerMessage)
        await self._wait_for_workers()
        for task in [*self._tasks.values(), *self._errands]:
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._errands, return_exceptions=True)
        self._is_running = False
        # No workers: to the runners of other processes it means that this one has left.
        self.bus.send(BusWorkerRegistryMessage(source=self.name, runner=self.name, workers=[]))
        self.bus.unsubscribe(self)
        await self.bus.stop()

    async def run(self, *, auto_end: bool = True) -> None:
        """Run until `end()` or `cancel()`, and if `auto_end`, until the last worker has ended."""
        self._ends_alone = auto_end
        await self.start()
        try:
            await self._over.wait()
        finally:
            await self.stop()

    async def end(self, reason: str | None = None) -> None:
        """Let the workers end in order: what was sent to them before is still handled."""
        self._finish(reason, at_once=False)

    async def cancel(self, reason: str | None = None) -> None:
        """Let the workers end at once."""
        self._finish(reason, at_once=True)

    async def __aenter__(self) -> WorkerRunner:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    def deliver(self, message: BusMessage) -> None:
        """Called by the bus for every message."""
        if message.source == self.name or message.target not in (None, self.name):
            return
        if isinstance(message, BusEndMessage):
            self._finish(message.reason, at_once=False)
        elif isinstance(message, BusCancelMessage):
            self._finish(message.reason, at_once=True)
        elif isinstance(message, BusAddWorkerMessage) and isinstance(message.worker, BaseWorker):
            task = asyncio.get_running_loop().create_task(self.add_workers(message.worker))
            self._errands.add(task)
            task.add_done_callback(self._errand_done)
        elif isinstance(message, BusWorkerRegistryMessage):
            self._learn(message)

    def _errand_done(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a worker could not be added", exc_info=task.exception())

    def _finish(self, reason: str | None, *, at_once: bool) -> None:
        if not self._over.is_set():
            self._reason = reason or "ended"
            self._at_once = at_once
            self._over.set()

    def _start_worker(self, worker: BaseWorker) -> None:
        task = asyncio.get_running_loop().create_task(self._run_worker(worker))
        self._tasks[worker.name] = task

    async def _run_worker(self, worker: BaseWorker) -> None:
        try:
            await worker.run()
        except Exception:
            logger.exception("worker %s failed", worker.name)
        finally:
            self._tasks.pop(worker.name, None)
            self._workers.pop(worker.name, None)
            self.registry.unwatch(worker.name, self._on_local_worker_ready)
            if self._ends_alone and not self._workers:
                self._finish("all workers have ended", at_once=True)

    def _tell_workers(self, kind: type[BusEndWorkerMessage] | type[BusCancelWorkerMessage]) -> None:
        for worker in self._workers.values():
            # Straight to it: no other process has to hear of it.
            if worker.parent is None:
                worker.deliver(kind(source=self.name, target=worker.name, reason=self._reason))

    async def _wait_for_workers(self) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=END_TIMEOUT_SECS)

    # --- the registry ---------------------------------------------------------------------------

    def _on_local_worker_ready(self, data: WorkerReadyData) -> None:
        if data.runner == self.name:
            self._announce()

    def _announce(self) -> None:
        entries = [
            WorkerRegistryEntry(
                name=worker.name,
                parent=worker.parent,
                active=worker.active,
                started_at=worker.started_at,
            )
            for worker in self._workers.values()
            if worker.started_at is not None
        ]
        if entries:
            self.bus.send(
                BusWorkerRegistryMessage(source=self.name, runner=self.name, workers=entries)
            )

    def _learn(self, message: BusWorkerRegistryMessage) -> None:
        if message.runner == self.name:
            return
        if not message.workers:
            self.registry.forget_runner(message.runner)
            return
        is_new = message.runner not in self.registry.known_runners
        for entry in message.workers:
            self.registry.register(entry.name, message.runner)
        if is_new:
            # It has not heard of us, if it is one that hears us at all.
            self._announce()
