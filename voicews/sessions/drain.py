"""SIGTERM: let running calls finish first, then let the server do what it does at a SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from voicews.sessions.process import Process

logger = logging.getLogger(__name__)


def drain_with_sigterm(process: Process) -> None:
    """Have a process drained at SIGTERM, from its first call on."""
    process.on_start(partial(drain_at_sigterm, process))


def drain_at_sigterm(process: Process) -> None:
    """Put a handler before the server's own, which gets the signal when the process is drained.

    It is installed with the first call, because servers install theirs when they start to serve.
    A second SIGTERM goes straight to the server.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # Python takes signals in the main thread only; `runserver` serves in another
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None or isinstance(previous, _Handler):
        return
    signal.signal(signal.SIGTERM, _Handler(process, asyncio.get_running_loop(), previous))


class _Handler:
    def __init__(self, process: Process, loop: asyncio.AbstractEventLoop, previous: Any) -> None:
        self._process = process
        self._loop = loop
        self._previous = previous
        self._asked = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._asked or self._loop.is_closed():
            self._pass_on()
            return
        self._asked = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        task = self._process.drain_soon()
        if task is None:
            self._pass_on()
        else:
            task.add_done_callback(lambda _task: self._pass_on())

    def _pass_on(self) -> None:
        previous = self._previous
        if previous is signal.SIG_IGN:
            return
        if previous is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        handler: Callable[[int, FrameType | None], object] = previous
        server = getattr(handler, "__self__", None)
        if type(server).__module__.startswith("uvicorn"):
            # uvicorn kills itself with the signal that it was stopped with, after its orderly end:
            # with this one it exits with 0.
            handler(signal.SIGINT, None)
        else:
            handler(signal.SIGTERM, None)
