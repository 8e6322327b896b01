"""The one place that writes to a socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from voicews.exceptions import WriteTimeout

#: Bytes that may wait for a peer that reads slowly. Audio is paced, so this is many seconds.
MAX_PENDING_BYTES = 4 * 1024 * 1024


class Socket(Protocol):
    """What a transport asks of a socket, whichever library or server it belongs to."""

    @property
    def websocket(self) -> object:
        """What event handlers get to see."""

    def send(self, data: str | bytes) -> Awaitable[None]:
        """Send one message; may wait for the peer; raises when the peer is gone."""

    def send_now(self, data: str | bytes) -> bool:
        """Send one message if that can be done without waiting; False if it can't."""

    async def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; does nothing on a socket that is closed."""

    def abort(self) -> None:
        """Abort the connection, so that its reader stops."""


class SocketWriter:
    """Writes messages in order, urgent ones first, one at a time.

    No task waits for something to write: putting a message while nothing is being written starts
    the writing, and it goes on until nothing is left. A write that makes no progress for
    `timeout_secs` is cancelled; that, like any error of the socket, fails the writer for good,
    and `on_failure` is called, once.
    """

    def __init__(
        self, socket: Socket, timeout_secs: float, on_failure: Callable[[SocketWriter], None]
    ) -> None:
        self.socket = socket
        #: True while the receive loop handles a message: it calls `drain` itself afterwards, which
        #: saves a task switch for what the message was answered with.
        self.corked = False
        self.error: Exception | None = None
        #: What has been written.
        self.messages_out = 0
        self.bytes_out = 0
        self._timeout_secs = timeout_secs
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._urgent: deque[str | bytes] = deque()
        self._pending: deque[str | bytes] = deque()
        self._pending_bytes = 0
        self._writing: asyncio.Task[object] | None = None
        self._write_started = 0.0
        self._stalled = False
        self._scheduled: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._pending or self._urgent)

    @property
    def pending_bytes(self) -> int:
        """What has yet to be written."""
        return self._pending_bytes

    @property
    def stalled_since(self) -> float | None:
        """When (loop time) the write began that the peer did not take; None if it took all."""
        return self._write_started if isinstance(self.error, WriteTimeout) else None

    def put(self, data: str | bytes, *, urgent: bool = False) -> None:
        """Write `data` after what waits, or before it if `urgent`. Does not wait."""
        if self.error is not None:
            return
        if urgent:
            self._urgent.append(data)
        else:
            self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._fail(WriteTimeout(f"{self._pending_bytes} bytes wait for a slow peer"))
        elif not self.corked and self._writing is None and self._scheduled is None:
            self._scheduled = self._loop.create_task(self.drain())

    def drop_pending(self) -> None:
        """Forget what waits and is not urgent."""
        self._pending.clear()
        self._pending_bytes = sum(map(len, self._urgent))

    def write_now(self) -> None:
        """Write what waits as far as that needs no waiting; a task writes the rest."""
        if self._writing is not None or self._scheduled is not None or self.error is not None:
            return
        while self._urgent or self._pending:
            queue = self._urgent or self._pending
            data = queue[0]
            if not self.socket.send_now(data):
                self._scheduled = self._loop.create_task(self.drain())
                return
            queue.popleft()
            self._pending_bytes -= len(data)
            self.messages_out += 1
            self.bytes_out += len(data)

    async def drain(self) -> None:
        """Write until nothing waits; returns at once while another task is writing."""
        self._scheduled = None
        if self._writing is not None or self.error is not None:
            return
        writing = asyncio.current_task(self._loop)
        assert writing is not None
        self._writing = writing
        try:
            while self._urgent or self._pending:
                data = self._urgent.popleft() if self._urgent else self._pending.popleft()
                self._pending_bytes -= len(data)
                self._write_started = self._loop.time()
                if self._watchdog is None:
                    self._watch(self._write_started)
                await self.socket.send(data)
                self.messages_out += 1
                self.bytes_out += len(data)
        except asyncio.CancelledError:
            self._writing = None
            if self._stalled:
                self._fail(WriteTimeout(f"no progress in {self._timeout_secs:g} s"))
            # Our own cancel: the interrupted task goes on.
            if not self._stalled or writing.cancelling() > 1:
                raise
        except Exception as error:  # noqa: BLE001 - each server has its own for "the peer is gone"
            self._writing = None
            self._fail(error)
        finally:
            if self._stalled:
                self._stalled = False
                writing.uncancel()
            self._writing = None
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    async def close(self, code: int, reason: str, timeout_secs: float) -> None:
        """Write what waits, then close; gives up after `timeout_secs`."""
        try:
            async with asyncio.timeout(timeout_secs):
                await self._flush()
                await self.socket.close(code, reason)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - the peer was faster
            self.error = self.error or error
        finally:
            self.stop()

    def stop(self) -> None:
        """Write nothing more."""
        self.error = self.error or ConnectionError("closed")
        self._urgent.clear()
        self._pending.clear()
        self._pending_bytes = 0
        if self._watchdog is not None and self._writing is None:
            self._watchdog.cancel()
            self._watchdog = None

    async def _flush(self) -> None:
        while self.error is None and (self.has_work or self._writing is not None):
            if self._writing is None:
                await self.drain()
            else:
                self._idle = self._loop.create_future()
                await self._idle

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self.stop()
            self._on_failure(self)

    def _watch(self, since: float) -> None:
        # One timer a connection, looked at when it rings: a timer a message would cost as much
        # as the message.
        self._watchdog = self._loop.call_at(since + self._timeout_secs, self._check_progress)

    def _check_progress(self) -> None:
        self._watchdog = None
        if self._writing is None:
            return
        if self._loop.time() - self._write_started >= self._timeout_secs:
            self._stalled = True
            self._writing.cancel()
        else:
            self._watch(self._write_started)
