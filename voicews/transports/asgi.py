"""What the ASGI servers' `send` and `receive` lack, put right from the connection behind them.

Daphne's `send` never waits for the peer, so what a peer doesn't read piles up without a limit; and
a close may have no reason and no other codes than 1000 and 3000 to 4999. No server lets go of a
peer that doesn't read: each waits for it to take what was written before the close. uvicorn takes
a socket out of its selector after each message and puts it back at the next `receive`.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from websockets.protocol import State

#: What a close frame has room for (RFC 6455, 5.5: 125 bytes with the code).
MAX_REASON_BYTES = 123
#: What may wait to be received before the socket is not read any more.
MAX_UNREAD_BYTES = 64 * 1024

_TEXT, _BINARY = 0x81, 0x82  # final frames
_HEAD_16, _HEAD_64 = struct.Struct("!BBH"), struct.Struct("!BBQ")


class DaphneSend:
    """Daphne's `send` for one accepted WebSocket, with back-pressure and with every close code."""

    def __init__(self, send: Any, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._writable = asyncio.Event()
        self._writable.set()
        # The transport calls these when its buffer is fuller than 64 KiB, and when it is empty
        # again. Until the upgrade it told the HTTP side, which has nothing to do with it any more.
        protocol.transport.unregisterProducer()
        producer = SimpleNamespace(
            pauseProducing=self._writable.clear,
            resumeProducing=self._writable.set,
            stopProducing=self._writable.set,
        )
        protocol.transport.registerProducer(producer, True)

    async def __call__(self, message: dict[str, Any]) -> None:
        await self._writable.wait()
        protocol = self._protocol
        if message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
            reason = (message.get("reason") or "").encode()[:MAX_REASON_BYTES]
            protocol.sendCloseFrame(
                code=message.get("code", 1000),
                # Never half a character.
                reasonUtf8=reason.decode(errors="ignore").encode(),
                isReply=False,
            )
        else:
            await self._send(message)

    def break_off(self) -> None:
        """Reset the connection if its peer doesn't read."""
        if not self._writable.is_set():
            self._protocol.transport.abortConnection()


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
        protocol = self._protocol
        if (
            message["type"] != "websocket.send"
            or protocol.transport.is_closing()
            or protocol.close_sent
            or not protocol.writable.is_set()
            or not self._can_frame()
        ):
            await self._send(message)
            return
        data, opcode = message.get("bytes"), _BINARY
        if data is None:
            data, opcode = message["text"].encode(), _TEXT
        size = len(data)
        if size < 126:
            head = bytes((opcode, size))
        elif size < 65536:
            head = _HEAD_16.pack(opcode, 126, size)
        else:
            head = _HEAD_64.pack(opcode, 127, size)
        protocol.transport.write(head + data)

    def _can_frame(self) -> bool:
        # Compression was negotiated or not when the socket was accepted.
        if self._is_plain is None and self._protocol.handshake_complete:
            self._is_plain = not self._protocol.conn.extensions
        return bool(self._is_plain) and self._protocol.conn.state is State.OPEN

    def break_off(self) -> None:
        """Reset the connection if its peer doesn't read."""
        transport = self._protocol.transport
        if transport.get_write_buffer_size():
            transport.abort()


class UvicornReceive:
    """uvicorn's `receive` for one accepted WebSocket, which pauses the reading when much waits.

    uvicorn's own pauses it after each one: two system calls and twenty function calls, which are
    15 to 30 % of what an echo costs.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._queue: asyncio.Queue[dict[str, Any]] = protocol.queue
        self._data_received: Callable[[bytes], None] = protocol.data_received
        self._unread_bytes = 0
        self._paused = False
        # uvicorn believes that it has paused already. Its close resumes, whoever has paused.
        protocol.read_paused = True
        protocol.data_received = self._take
        # uvloop looks up data_received only here.
        protocol.transport.set_protocol(protocol)
        protocol.transport.resume_reading()

    async def __call__(self) -> dict[str, Any]:
        message = await self._queue.get()
        if self._queue.empty():
            self._unread_bytes = 0
            if self._paused:
                self._paused = False
                self._protocol.transport.resume_reading()
        return message

    def _take(self, data: bytes) -> None:
        self._data_received(data)
        self._unread_bytes += len(data)
        if self._unread_bytes <= MAX_UNREAD_BYTES or self._paused or self._queue.empty():
            return
        # Behind a close of ours comes nothing but the peer's, which must be read.
        if not self._protocol.close_sent:
            self._paused = True
            self._protocol.transport.pause_reading()


def complete(send: Any) -> Any:
    """The `send` of an ASGI WebSocket application, with what the server's own lacks."""
    if isinstance(send, partial) and hasattr(send.args[0] if send.args else None, "sendCloseFrame"):
        return DaphneSend(send, send.args[0])
    if (protocol := _uvicorn_protocol(send)) is not None:
        return UvicornSend(send, protocol)
    return send


def complete_receive(receive: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """The `receive` of an accepted WebSocket, without what the server's own costs too much."""
    protocol = _uvicorn_protocol(receive)
    completed: Callable[[], Awaitable[dict[str, Any]]] = receive
    return completed if protocol is None else UvicornReceive(protocol)


def break_off(send: Any) -> None:
    """Reset the connection behind a server's `send` if its peer doesn't take what was written."""
    if isinstance(send, DaphneSend | UvicornSend):
        send.break_off()
        return
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)  # uvicorn's others
    if hasattr(transport, "get_write_buffer_size") and transport.get_write_buffer_size():
        transport.abort()


def _uvicorn_protocol(bound: Any) -> Any:
    """The connection behind uvicorn's `send` or `receive`, of the implementation known here."""
    module = sys.modules.get("uvicorn.protocols.websockets.websockets_sansio_impl")
    protocol = getattr(bound, "__self__", None)
    if module is not None and type(protocol) is module.WebSocketsSansIOProtocol:
        return protocol
    return None
