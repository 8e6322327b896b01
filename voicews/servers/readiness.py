"""Detects when this process's server accepts connections; no server reports it directly.

* Daphne (``runserver`` and its own command) opens its ports, then runs Twisted's reactor: the first
  turn of the reactor is the moment.
* Servers with lifespan (uvicorn, hypercorn, granian) say only that they are about to open their
  ports: they wait for ``lifespan.startup.complete`` first, and nothing follows. The moment is a
  tenth of a second after it, which leaves time to resolve a host name and to bind.
* With any server, a connection that arrives is the proof, if nothing came before it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from voicews.servers import probe

logger = logging.getLogger(__name__)

LIFESPAN_SETTLE_SECS = 0.1


class Readiness:
    """An event that happens once, and calls each callback once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ready = False
        self._callbacks: list[Callable[[], object]] = []

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call back when it happens, in the thread where it does; at once if it has happened."""
        with self._lock:
            if not self._is_ready:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def happened(self) -> None:
        """Tell everyone. Only the first call has an effect."""
        with self._lock:
            self._is_ready = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    @staticmethod
    def _call(callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            logger.exception("a callback that waited for the server failed: %r", callback)


_server = Readiness()


def server_ready() -> None:
    """Say that this process's server takes connections. Only the first call has an effect."""
    _server.happened()


def when_ready(callback: Callable[[], object]) -> None:
    """Call back as soon as this process's server takes connections; at once if it does already.

    The callback is a plain function, called on the server's event loop. One that fails is logged
    and keeps no other from being called.
    """
    _server.when_ready(callback)


def watch_daphne() -> None:
    """Have Daphne's first turn call ``server_ready``, if Daphne is loaded in this process.

    Nothing happens if the reactor then never runs, as in every other management command.
    """
    if "daphne.server" not in sys.modules:
        return
    from twisted.internet import reactor

    # When the reactor says that it runs, its asyncio loop doesn't yet: one turn later it does.
    running: Any = reactor
    if not probe.TWISTED_REACTOR.is_in(running):
        return
    running.callWhenRunning(running.callLater, 0, server_ready)


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application for lifespan: ready soon after start-up, nothing to shut down."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
            asyncio.get_running_loop().call_later(LIFESPAN_SETTLE_SECS, server_ready)
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
