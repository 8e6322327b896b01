"""The tasks of one part of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class TaskManager:
    """Makes named tasks, and keeps them until they are done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def create_task(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task on the running event loop."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel_task(self, task: asyncio.Task[Any], timeout: float | None = None) -> None:  # noqa: ASYNC109 - Pipecat's name
        """Cancel a task, and wait (`timeout` seconds at most) for its end."""
        task.cancel()
        await asyncio.wait([task], timeout=timeout)

    def current_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done."""
        return list(self._tasks)


@dataclass(frozen=True, slots=True)
class FrameProcessorSetup:
    """What the ends of a client transport are set up with; sample rates in Hz."""

    task_manager: TaskManager
    audio_in_sample_rate: int = 16000
    audio_out_sample_rate: int = 24000
