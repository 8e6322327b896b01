"""What the ASGI servers' `send` and `receive` lack, put right from the connection behind them.

Daphne's `send` never waits for the peer, so what a peer doesn't read piles up without a limit, and
so does what its `receive` is not asked for; a close may have no reason and no other codes than 1000
and 3000 to 4999. uvicorn takes a socket out of its selector after each message and puts it back at
the next `receive`. No server lets go of a peer that doesn't read: each waits for it to take what
was written before the close, and writes an answer to each of its pings meanwhile.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

from websockets.protocol import State

from voicews.close_codes import CloseCode

#: What a close frame has room for (RFC 6455, 5.5: 125 bytes with the code).
MAX_REASON_BYTES = 123
#: What may wait to be received before the socket is not read any more.
MAX_UNREAD_BYTES = 64 * 1024
#: What a peer may send while it reads nothing. It may be pings: their answers pile up.
MAX_RECEIVED_WHILE_BLOCKED_BYTES = 4 * 1024 * 1024

_TEXT, _BINARY = 0x81, 0x82  # final frames
_HEAD_16, _HEAD_64 = struct.Struct("!BBH"), struct.Struct("!BBQ")

Receive = Callable[[], Awaitable[dict[str, Any]]]


class DaphneSend:
    """Daphne's `send` for one WebSocket, with back-pressure and with every close code."""

    def __init__(self, send: Any, protocol: Any) -> None:
        self._send = send
        self.protocol = protocol
        self.writable = asyncio.Event()
        self.writable.set()
        # The transport calls these when its buffer is fuller than 64 KiB, and when it is empty
        # again. Until the upgrade it told the HTTP side, which has nothing to do with it any more.
        protocol.transport.unregisterProducer()
        producer = SimpleNamespace(
            pauseProducing=self.writable.clear,
            resumeProducing=self.writable.set,
            stopProducing=self.writable.set,
        )
        protocol.transport.registerProducer(producer, True)

    async def __call__(self, message: dict[str, Any]) -> None:
        await self.writable.wait()
        protocol = self.protocol
        if message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
            protocol.sendCloseFrame(
                code=message.get("code") or CloseCode.NORMAL,
                reasonUtf8=_fitting(message.get("reason")).encode(),
                isReply=False,
            )
            # The peer's answer must be read, if nothing was for now.
            protocol.transport.resumeProducing()
        else:
            await self._send(message)

    def abort_if_blocked(self) -> None:
        """Reset the connection if its peer doesn't read."""
        if not self.writable.is_set():
            self.protocol.transport.abortConnection()


class UvicornSend:
    """uvicorn's `send` for one WebSocket; messages are framed here.

    Without a mask, fragments and compression a frame's head is little more than a length (RFC 6455,
    5.2). Past uvicorn's and websockets' layers, an echo costs some 8 % less.
    """

    def __init__(self, send: Any, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._is_plain: bool | None = None

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            data = message.get("bytes")
            if self.send_now(message["text"] if data is None else data):
                return
        elif message["type"] == "websocket.close":
            message = {**message, "reason": _fitting(message.get("reason"))}
        await self._send(message)

    def send_now(self, data: str | bytes) -> bool:
        """Send a message if that can be done without waiting; False if it can't."""
        protocol = self._protocol
        if (
            protocol.transport.is_closing()
            or protocol.close_sent
            or not protocol.writable.is_set()
            or not self._can_frame()
        ):
            return False
        self._write(data)
        return True

    def _write(self, message: str | bytes) -> None:
        if isinstance(message, str):
            data, opcode = message.encode(), _TEXT
        else:
            data, opcode = message, _BINARY
        size = len(data)
        if size < 126:
            head = bytes((opcode, size))
        elif size < 65536:
            head = _HEAD_16.pack(opcode, 126, size)
        else:
            head = _HEAD_64.pack(opcode, 127, size)
        self._protocol.transport.write(head + data)

    def _can_frame(self) -> bool:
        # Compression was negotiated or not when the socket was accepted.
        if self._is_plain is None and self._protocol.handshake_complete:
            self._is_plain = not self._protocol.conn.extensions
        return bool(self._is_plain) and self._protocol.conn.state is State.OPEN

    def abort_if_blocked(self) -> None:
        """Reset the connection if its peer doesn't read."""
        transport = self._protocol.transport
        if transport.get_write_buffer_size():
            transport.abort()


class _BoundedReceive:
    """A server's `receive` for one WebSocket, which is not read while much waits.

    Subclasses pass on to `_take` what the connection has read.
    """

    def __init__(
        self,
        queue: asyncio.Queue[dict[str, Any]],
        data_received: Callable[[bytes], None],
        writable: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._data_received = data_received
        self._writable = writable
        self._unread_bytes = 0
        self._unheard_bytes = 0
        self._paused = False

    async def __call__(self) -> dict[str, Any]:
        message = await self._queue.get()
        if self._queue.empty():
            self._unread_bytes = 0
            if self._paused:
                self._paused = False
                self._resume()
        return message

    def _take(self, data: bytes) -> None:
        self._data_received(data)
        self._unread_bytes += len(data)
        if not self._writable.is_set():
            self._unheard_bytes += len(data)
            if self._unheard_bytes > MAX_RECEIVED_WHILE_BLOCKED_BYTES:
                self._break_off()
                return
        elif self._unheard_bytes:
            self._unheard_bytes = 0
        if self._unread_bytes <= MAX_UNREAD_BYTES or self._paused or self._queue.empty():
            return
        # Behind a close of ours comes nothing but the peer's, which must be read.
        if self._is_open():
            self._paused = True
            self._pause()

    def _is_open(self) -> bool:
        raise NotImplementedError

    def _pause(self) -> None:
        raise NotImplementedError

    def _resume(self) -> None:
        raise NotImplementedError

    def _break_off(self) -> None:
        raise NotImplementedError


class DaphneReceive(_BoundedReceive):
    """Daphne's `receive`, which has no limit of its own."""

    def __init__(self, send: DaphneSend) -> None:
        self._send = send
        self._protocol = protocol = send.protocol
        super().__init__(protocol.application_queue, protocol.dataReceived, send.writable)
        protocol.dataReceived = self._take

    def _is_open(self) -> bool:
        return bool(self._protocol.state == self._protocol.STATE_OPEN)

    def _pause(self) -> None:
        self._protocol.transport.pauseProducing()

    def _resume(self) -> None:
        self._protocol.transport.resumeProducing()

    def _break_off(self) -> None:
        self._protocol.transport.abortConnection()


class UvicornReceive(_BoundedReceive):
    """uvicorn's `receive`, which pauses the reading when much waits.

    uvicorn's own pauses it after each message: two system calls and twenty function calls, which
    are 15 to 30 % of what an echo costs.
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol.queue, protocol.data_received, protocol.writable)
        self._protocol = protocol
        self._take_now: Callable[[str | bytes], bool] | None = None
        self._is_asked = False
        self._put: Callable[[dict[str, Any]], None] = protocol.queue.put_nowait
        # uvicorn believes that it has paused already. Its close resumes, whoever has paused.
        protocol.read_paused = True
        protocol.data_received = self._take
        # uvloop looks up data_received only here.
        protocol.transport.set_protocol(protocol)
        self._resume()

    def enable_direct_delivery(self, take_now: Callable[[str | bytes], bool]) -> None:
        """Offer each message to `take_now` while somebody waits for one; what it declines is for
        the one who waits.

        That saves the waking of a task and a turn of the event loop: some 15 % of an echo. It is
        called in the context of the task that calls this.
        """
        context = copy_context()
        self._take_now = lambda message: context.run(take_now, message)
        self._protocol.queue.put_nowait = self._offer

    async def __call__(self) -> dict[str, Any]:
        self._is_asked = True
        try:
            return await super().__call__()
        finally:
            self._is_asked = False

    def _offer(self, message: dict[str, Any]) -> None:
        # Nothing overtakes: neither what waits here, nor what the one who asks is busy with.
        if (
            self._is_asked
            and self._take_now is not None
            and message["type"] == "websocket.receive"
            and self._queue.empty()
        ):
            data = message.get("bytes")
            if self._take_now(message["text"] if data is None else data):
                self._unread_bytes = 0
                return
        self._put(message)

    def _is_open(self) -> bool:
        return not (self._protocol.close_sent or self._protocol.transport.is_closing())

    def _pause(self) -> None:
        self._protocol.transport.pause_reading()

    def _resume(self) -> None:
        self._protocol.transport.resume_reading()

    def _break_off(self) -> None:
        self._protocol.transport.abort()


def wrap_send(send: Any) -> Any:
    """The `send` of an ASGI WebSocket application, with what the server's own lacks."""
    send = _past_sessions(send)
    if isinstance(send, partial) and hasattr(send.args[0] if send.args else None, "sendCloseFrame"):
        return DaphneSend(send, send.args[0])
    if (protocol := _uvicorn_protocol(send)) is not None:
        return UvicornSend(send, protocol)
    return send


def wrap_receive(receive: Any, send: Any = None) -> Receive:
    """The `receive` of an ASGI WebSocket application, with a limit to what waits for it.

    ``send`` is what `wrap_send` returned for the same socket: only it leads to Daphne's connection.
    """
    completed: Receive = receive
    if isinstance(send, DaphneSend):
        queue = send.protocol.application_queue
        return DaphneReceive(send) if getattr(receive, "__self__", None) is queue else completed
    protocol = _uvicorn_protocol(receive)
    # What is compressed may be a thousand times as long as what was read.
    if protocol is None or protocol.conn.extensions:
        return completed
    return UvicornReceive(protocol)


def enable_direct_delivery(
    receive: Any, send: Any, take_now: Callable[[str | bytes], bool]
) -> None:
    """Offer messages to `take_now` as they are read, where its answers can be sent as directly.

    `receive` and `send` are what `wrap_receive` and `wrap_send` have made.
    """
    if isinstance(receive, UvicornReceive) and isinstance(send, UvicornSend):
        receive.enable_direct_delivery(take_now)


def abort_if_blocked(send: Any) -> None:
    """Reset the connection behind a server's `send` if its peer doesn't take what was written."""
    if isinstance(send, DaphneSend | UvicornSend):
        send.abort_if_blocked()
        return
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)  # uvicorn's others
    if hasattr(transport, "get_write_buffer_size") and transport.get_write_buffer_size():
        transport.abort()


def _past_sessions(send: Any) -> Any:
    """The `send` inside those of Channels' session middleware, which act on HTTP responses only."""
    module = sys.modules.get("channels.sessions")
    wrapper: Any = getattr(send, "__self__", None)
    while module is not None and type(wrapper) is module.InstanceSessionWrapper:
        send = wrapper.real_send
        wrapper = getattr(send, "__self__", None)
    return send


def _fitting(reason: str | None) -> str:
    """As much of a close's reason as fits, and never half a character."""
    return (reason or "").encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def _uvicorn_protocol(bound: Any) -> Any:
    """The connection behind uvicorn's `send` or `receive`, of the implementation known here."""
    module = sys.modules.get("uvicorn.protocols.websockets.websockets_sansio_impl")
    protocol = getattr(bound, "__self__", None)
    if module is not None and type(protocol) is module.WebSocketsSansIOProtocol:
        return protocol
    return None
