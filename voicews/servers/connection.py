"""One WebSocket of an ASGI server: its `send` and `receive`, with limits to both directions.

`Connection` stands between a server's transport and the server's own protocol object. It reads the
frames itself, gives the messages to the application, and hands on what is left: the handshake,
closes, pings and pongs. So a server's keepalive and its closing handshake stay as they are, and
what a client sends is counted where it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from enum import IntEnum
from time import perf_counter
from typing import Any, Protocol

from voicews.close_codes import CloseCode
from voicews.rate_limit import RateLimit
from voicews.servers.frames import (
    CLOSE,
    Control,
    Fragment,
    FrameError,
    FrameReader,
    Limits,
    encode_message,
)

logger = logging.getLogger(__name__)

#: What a close frame has room for (RFC 6455, 5.5: 125 bytes with the code).
MAX_REASON_BYTES = 123
#: What may wait to be received before the socket is not read any more.
MAX_UNREAD_BYTES = 64 * 1024
#: What a message costs that waits, whatever its length.
MESSAGE_OVERHEAD_BYTES = 64
#: What a peer may send while it reads nothing. It may be pings: their answers pile up.
MAX_RECEIVED_WHILE_BLOCKED_BYTES = 4 * 1024 * 1024
#: After a close, a peer gets so long (seconds) to close its side. So much of what it sends
#: meanwhile is looked through for its answer, and so much is read and thrown away: it may be in the
#: middle of a long message, and see our close only after that.
CLOSE_TIMEOUT_SECS = 1.0
MAX_PARSED_AFTER_CLOSE_BYTES = 256 * 1024
MAX_READ_AFTER_CLOSE_BYTES = 16 * 1024 * 1024
#: So long (seconds), or so many frames, one socket may keep the event loop before others go first.
TURN_SECS = 0.002
TURN_FRAMES = 64
#: So often (frames, bytes) the allowance is looked at.
SPEND_FRAMES, SPEND_BYTES = 64, 256 * 1024

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Called with a close code and a reason when a client has sent too much.
Excess = Callable[[int, str], object]


class ConnectionState(IntEnum):
    #: Not accepted yet.
    CONNECTING = 0
    OPEN = 1
    #: One side has sent its close.
    CLOSING = 2
    CLOSED = 3


class Transport(Protocol):
    """What is asked of a transport: a part of asyncio's."""

    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Allowance:
    """How many frames and bytes a client may send; looked at every so often."""

    def __init__(
        self,
        messages_per_sec: float,
        messages_burst: float,
        bytes_per_sec: float,
        bytes_burst: float,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self._messages_per_sec = messages_per_sec
        self._bytes_per_sec = bytes_per_sec
        self._message_limit = RateLimit(messages_per_sec, messages_burst, now)
        self._byte_limit = RateLimit(bytes_per_sec, bytes_burst, now)
        self._frames = self._bytes = 0

    def excess(self, size: int) -> str | None:
        """Take one message or frame of so many bytes out; what there is too much of, if it is."""
        self._frames += 1
        self._bytes += size
        if self._frames < SPEND_FRAMES and self._bytes < SPEND_BYTES:
            return None
        now = asyncio.get_running_loop().time()
        frames, self._frames = self._frames, 0
        size, self._bytes = self._bytes, 0
        if not self._message_limit.spend(frames, now):
            return f"more than {self._messages_per_sec:g} messages a second"
        if not self._byte_limit.spend(size, now):
            return f"more than {self._bytes_per_sec:.0f} bytes a second"
        return None


class Connection:
    """The application's side of one socket. `transport` is what its server writes to.

    `writes_frames`: whether messages may be written past the server, as soon as it has accepted.
    """

    def __init__(
        self, transport: Transport, send: Send, *, writes_frames: bool, inflates: bool = False
    ) -> None:
        self.state = ConnectionState.CONNECTING
        self._transport = transport
        self._server_send = send
        self._writes_frames = writes_frames
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(inflates=inflates)
        self._allowance: Allowance | None = None
        self._on_excess: Excess | None = None
        self._take_now: Callable[[str | bytes], bool] | None = None
        self._messages: deque[Message] = deque()
        self._unread_bytes = 0
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None
        self._relaying: asyncio.Task[None] | None = None
        self._is_paused = False
        self._is_blocked = False
        self._blocked_bytes = 0
        self._late_bytes = 0
        #: Nothing that comes is looked at any more.
        self._is_deaf = False
        self._turn: asyncio.Handle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # --- the application ------------------------------------------------------------------------

    def start(self, receive: Receive) -> None:
        """Begin to read the frames; `receive` is the server's own, for what is no message."""
        if self._relaying is None:
            self._relaying = self._loop.create_task(self._relay(receive))

    def release(self) -> None:
        """The application is done."""
        self._take_now = None
        self._on_excess = None
        if self._relaying is not None:
            self._relaying.cancel()

    def limit(self, limits: Limits, allowance: Allowance, on_excess: Excess) -> None:
        """What the client may send from now on; `on_excess` closes the socket of one that does
        not keep to it, of whom nothing more is heard."""
        self._reader.limits = limits
        self._allowance = allowance
        self._on_excess = on_excess

    def enable_direct_delivery(self, take_now: Callable[[str | bytes], bool]) -> None:
        """Offer each message to `take_now` while a reader waits for one; what it declines is for
        the one who waits.

        That saves the waking of a task and a turn of the event loop: some 15 % of an echo. It is
        called in the context of the task that calls this.
        """
        context = copy_context()
        self._take_now = lambda message: context.run(take_now, message)

    async def receive(self) -> Message:
        """The next event."""
        self._taken += 1
        if not self._taken % TURN_FRAMES:
            # Nothing pauses here while messages wait: without this, a flood starves the others.
            await asyncio.sleep(0)
        while not self._messages:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        if not self._messages and self._unread_bytes:
            self._unread_bytes = 0
            if self._is_paused and self._turn is None:
                self._turn = self._loop.call_soon(self._take_turn)
        return message

    async def send(self, message: Message) -> None:
        """Send one event, waiting for a peer that reads slowly."""
        kind = message["type"]
        if kind == "websocket.send":
            data = message.get("bytes")
            if not self.send_now(message["text"] if data is None else data):
                await self._server_send(message)
        elif kind == "websocket.close":
            await self._close({**message, "reason": fitting_reason(message.get("reason"))})
        else:
            await self._server_send(message)
            if kind == "websocket.accept" and self.state is ConnectionState.CONNECTING:
                self.state = ConnectionState.OPEN
                self._take_turn()

    def send_now(self, data: str | bytes) -> bool:
        """Send a message if that can be done without waiting; False if it can't."""
        if (
            not self._writes_frames
            or self._is_blocked
            or self.state is not ConnectionState.OPEN
            or self._transport.is_closing()
        ):
            return False
        self._transport.write(encode_message(data))
        return True

    def abort_if_blocked(self) -> None:
        """Reset the connection if its peer doesn't take what was written."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()

    # --- the server -----------------------------------------------------------------------------

    def _forward(self, data: bytes) -> None:
        """Give the server's own protocol bytes that are for it."""
        raise NotImplementedError

    async def _server_close(self, message: Message) -> None:
        await self._server_send(message)

    async def _relay(self, receive: Receive) -> None:
        kind = ""
        while kind != "websocket.disconnect":
            message = await receive()
            kind = message["type"]
            self._put(message)

    def _set_blocked(self, is_blocked: bool) -> None:
        """Whether the peer takes what is written."""
        # Twisted reports it again at each write.
        if is_blocked is not self._is_blocked:
            self._is_blocked = is_blocked
            self._blocked_bytes = 0

    def _lost(self) -> None:
        """The connection is gone."""
        self.state = ConnectionState.CLOSED
        if self._deadline is not None:
            self._deadline.cancel()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    # --- what comes -----------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        size = len(data)
        if self._is_blocked:
            self._blocked_bytes += size
            if self._blocked_bytes > MAX_RECEIVED_WHILE_BLOCKED_BYTES:
                self._transport.abort()
                return
        if self._is_deaf or self.state is ConnectionState.CLOSING:
            self._late_bytes += size
            self._is_deaf = self._is_deaf or self._late_bytes > MAX_PARSED_AFTER_CLOSE_BYTES
            if self._late_bytes > MAX_READ_AFTER_CLOSE_BYTES and not self._transport.is_closing():
                self._pause()
        if self._is_deaf:
            return
        self._reader.feed(data)
        if self._turn is None:
            if self.state is ConnectionState.CONNECTING:
                if self._reader.waiting_bytes > MAX_UNREAD_BYTES:
                    self._pause()
            else:
                self._take_frames()

    def _take_turn(self) -> None:
        self._turn = None
        if self.state in (ConnectionState.OPEN, ConnectionState.CLOSING):
            self._take_frames()

    def _take_frames(self) -> None:
        """Take what has come, as far as a reader wants it and others need not wait."""
        until = 0.0
        for count in range(TURN_FRAMES):
            if self._is_deaf:
                return
            if self._unread_bytes > MAX_UNREAD_BYTES and self.state is ConnectionState.OPEN:
                self._pause()
                return
            try:
                frame = self._reader.next()
            except FrameError as error:
                self._exceeded(error.code, error.reason)
                return
            if frame is None:
                self._resume()
                return
            self._take(frame)
            if not self._reader.waiting_bytes:
                # The common case: one read, one frame.
                self._resume()
                return
            if count == 0:
                until = perf_counter() + TURN_SECS
            elif perf_counter() > until:
                break
        self._pause()
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _take(self, frame: str | bytes | Control | Fragment) -> None:
        if isinstance(frame, str | bytes):
            size = len(frame)
        elif isinstance(frame, Fragment):
            size = frame.size
        else:
            size = len(frame.frame)
        if self._allowance is not None and self.state is ConnectionState.OPEN:
            excess = self._allowance.excess(size)
            if excess is not None:
                self._exceeded(CloseCode.NOT_ALLOWED, excess)
                return
        if isinstance(frame, Control):
            if frame.opcode == CLOSE and self.state is ConnectionState.OPEN:
                self.state = ConnectionState.CLOSING
                self._set_deadline()
            self._forward(frame.frame)
        elif isinstance(frame, str):
            self._offer(frame, {"type": "websocket.receive", "text": frame, "bytes": None})
        elif isinstance(frame, bytes):
            self._offer(frame, {"type": "websocket.receive", "text": None, "bytes": frame})

    def _offer(self, data: str | bytes, message: Message) -> None:
        if self.state is not ConnectionState.OPEN:
            return
        # Nothing overtakes: neither what waits here, nor what the one who asks is busy with.
        if (
            self._take_now is not None
            and self._waiter is not None
            and not self._messages
            and self._take_now(data)
        ):
            return
        self._unread_bytes += len(data) + MESSAGE_OVERHEAD_BYTES
        self._put(message)

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    # --- ends -----------------------------------------------------------------------------------

    async def _close(self, message: Message) -> None:
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.CLOSING
            self._set_deadline()
            # The peer's answer must be read, if nothing was for now.
            if self._turn is None and not self._is_deaf:
                self._turn = self._loop.call_soon(self._take_turn)
        await self._server_close(message)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(CLOSE_TIMEOUT_SECS, self._let_go)

    def _exceeded(self, code: int, reason: str) -> None:
        """The client has broken the rules: close, and hear nothing more of it."""
        self._is_deaf = True
        self._resume()
        if self.state is not ConnectionState.OPEN:
            pass  # it is being closed already; its answer can't be found any more
        elif self._on_excess is not None:
            self._on_excess(code, reason)
        else:
            message = {"type": "websocket.close", "code": code, "reason": reason}
            closing = self._loop.create_task(self._close(message))
            closing.add_done_callback(_ignore_error)
        # Whatever comes of that.
        self._set_deadline()

    def _let_go(self) -> None:
        """The peer had its time to close."""
        if self.state is ConnectionState.CLOSED:
            return
        if self._is_deaf or self._transport.is_closing() or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
            # With TLS there is a goodbye to that, too.
            self._deadline = self._loop.call_later(CLOSE_TIMEOUT_SECS, self._let_go)


def fitting_reason(reason: str | None) -> str:
    """As much of a close's reason as fits, and never half a character."""
    return (reason or "").encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def _ignore_error(task: asyncio.Task[None]) -> None:
    # Each server has its own for "the peer is gone".
    if not task.cancelled():
        task.exception()
