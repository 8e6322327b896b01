"""Finds the connection behind the `send` of the ASGI servers that are known here.

uvicorn and Daphne hand over bound functions; the connection is behind them. It is stood between by
`voicews.servers.connection`, with asyncio's and Twisted's own means (`set_protocol`,
`dataReceived`, producers). `voicews.servers.probe` has what of that is no public interface: with
any other server, or where a name is gone, the application gets the `send` and `receive` that it was
given, and the limits hold per message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from voicews.close_codes import CloseCode
from voicews.servers import probe
from voicews.servers.connection import MAX_REASON_BYTES, Connection, Message, fitting_reason

__all__ = [
    "MAX_REASON_BYTES",
    "abort_if_blocked",
    "connection_of",
    "enable_direct_delivery",
    "wrap_receive",
    "wrap_send",
]

#: Codes that Daphne's own close can't send become others: 1012 becomes 3012. A client comes back
#: after those, and doesn't after this one.
DAPHNE_OWN_CODES = range(3000, 5000)
DAPHNE_CODE_OFFSET = 2000
DAPHNE_FINAL_CODES = {CloseCode.NOT_ALLOWED: CloseCode.NORMAL}


class UvicornConnection(Connection, asyncio.Protocol):
    """A socket of uvicorn, whichever of its implementations (`--ws`) has made it."""

    def __init__(self, send: Any, protocol: Any, *, inflates: bool) -> None:
        # The older implementations answer the handshake some time after the accept.
        writes_frames = type(protocol) is probe.UVICORN_FRAMES.the_class()
        super().__init__(protocol.transport, send, writes_frames=writes_frames, inflates=inflates)
        self._protocol = protocol

    def start(self, receive: Any) -> None:
        super().start(receive)
        self._protocol.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def eof_received(self) -> bool | None:
        keep_open: bool | None = self._protocol.eof_received()
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._set_blocked(True)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._set_blocked(False)
        self._protocol.resume_writing()

    def _forward(self, data: bytes) -> None:
        self._protocol.data_received(data)


class DaphneConnection(Connection):
    """A socket of Daphne.

    Its own `send` never waits for the peer; its close has no reason, and no other codes than 1000
    and 3000 to 4999.
    """

    def __init__(self, send: Any, protocol: Any, *, inflates: bool) -> None:
        self._protocol = protocol
        self._writable = asyncio.Event()
        self._writable.set()
        # Autobahn's, before they are replaced below.
        self._data_received = protocol.dataReceived
        self._connection_lost = protocol.connectionLost
        self._drop_connection = protocol.dropConnection
        transport = _TwistedTransport(protocol, self._writable)
        super().__init__(transport, send, writes_frames=True, inflates=inflates)
        # The transport calls these when its buffer is fuller than 64 KiB, and when it is empty
        # again. Until the upgrade it told the HTTP side, which has nothing to do with it any more.
        protocol.transport.unregisterProducer()
        producer = SimpleNamespace(
            pauseProducing=partial(self._set_blocked, True),
            resumeProducing=partial(self._set_blocked, False),
            stopProducing=partial(self._set_blocked, False),
        )
        protocol.transport.registerProducer(producer, True)

    def start(self, receive: Any) -> None:
        super().start(receive)
        self._protocol.dataReceived = self._received
        self._protocol.connectionLost = self._closed
        self._protocol.dropConnection = self._drop

    async def send(self, message: Message) -> None:
        await self._writable.wait()
        await super().send(message)

    def _forward(self, data: bytes) -> None:
        self._data_received(data)

    def _set_blocked(self, is_blocked: bool) -> None:
        super()._set_blocked(is_blocked)
        if is_blocked:
            self._writable.clear()
        else:
            self._writable.set()

    def _closed(self, *reason: Any) -> None:
        self._lost()
        self._writable.set()
        self._connection_lost(*reason)

    def _drop(self, abort: bool = False) -> None:
        # Autobahn resets the connection when both sides have sent their close. If they did so at
        # the same moment, ours has not left yet, and the peer would see a lost connection.
        self._drop_connection(abort and not self._protocol.wasClean)

    async def _server_close(self, message: Message) -> None:
        await _close_daphne(self._protocol, self._server_send, message)


class _TwistedTransport:
    """Twisted's transport under the names of asyncio's."""

    def __init__(self, protocol: Any, writable: asyncio.Event) -> None:
        self._protocol = protocol
        self._writable = writable
        transport = protocol.transport
        self.write = transport.write
        self.pause_reading = transport.pauseProducing
        self.resume_reading = transport.resumeProducing
        self.close = transport.loseConnection
        self.abort = transport.abortConnection

    def is_closing(self) -> bool:
        return bool(self._protocol.state == self._protocol.STATE_CLOSED)

    def get_write_buffer_size(self) -> int:
        return 0 if self._writable.is_set() else 1


def connection_of(send: Any) -> Connection | None:
    """The connection that a `send` of `wrap_send` belongs to; None if its server is unknown."""
    connection = getattr(send, "__self__", None)
    return connection if isinstance(connection, Connection) else None


def wrap_send(send: Any, scope: Any = None) -> Any:
    """The `send` of an ASGI WebSocket application, with back-pressure and every close code.

    `scope` tells whether the client has offered compression.
    """
    send = _past_sessions(send)
    if connection_of(send) is not None:
        return send
    inflates = any(
        name == b"sec-websocket-extensions" and b"permessage-deflate" in value
        for name, value in (scope or {}).get("headers", ())
    )
    if isinstance(send, partial) or _is_made_by("daphne", send):
        return _wrap_daphne(send, inflates)
    protocol: Any = getattr(send, "__self__", None)
    if not _is_from("uvicorn", protocol):
        # A function of uvicorn's that is bound to something else, or to nothing.
        if _is_made_by("uvicorn", send):
            probe.UVICORN_SEND.is_in(None)
        return send
    if not probe.UVICORN_SOCKET.is_in(protocol):
        return send
    transport = protocol.transport
    if not probe.ASYNCIO_TRANSPORT.is_in(transport) or transport.get_protocol() is not protocol:
        return send
    return UvicornConnection(send, protocol, inflates=inflates).send


def wrap_receive(receive: Any, send: Any) -> Any:
    """The `receive` of an ASGI WebSocket application, with a limit to what waits for it.

    `send` is what `wrap_send` returned for the same socket. The caller of this calls
    `connection_of(send).release()` at the end.
    """
    connection = connection_of(send)
    if connection is None:
        return receive
    if connection_of(receive) is connection:
        return receive
    owner = getattr(receive, "__self__", None)
    protocol = getattr(connection, "_protocol", None)
    if owner is not protocol and not isinstance(owner, asyncio.Queue):
        return receive  # another application's, which must see the messages
    connection.start(receive)
    return connection.receive


def enable_direct_delivery(
    receive: Any, send: Any, take_now: Callable[[str | bytes], bool]
) -> None:
    """Offer messages to `take_now` as they are read, where its answers can be sent as directly.

    `receive` and `send` are what `wrap_receive` and `wrap_send` have made.
    """
    connection = connection_of(send)
    if connection is not None and connection_of(receive) is connection:
        connection.enable_direct_delivery(take_now)


def abort_if_blocked(send: Any) -> None:
    """Reset the connection behind a server's `send` if its peer doesn't take what was written."""
    connection = connection_of(send)
    if connection is not None:
        connection.abort_if_blocked()


def _wrap_daphne(send: Any, inflates: bool) -> Any:
    if not _is_made_by("daphne", send):
        return send
    if not probe.DAPHNE_SEND.is_in(send) or not _is_from("daphne", next(iter(send.args), None)):
        return partial(_send_as_daphne_can, send)
    protocol = send.args[0]
    if not probe.DAPHNE_CLOSE.is_in(protocol):
        return partial(_send_as_daphne_can, send)
    if not probe.DAPHNE_SOCKET.is_in(protocol) or not probe.TWISTED_TRANSPORT.is_in(
        protocol.transport
    ):
        return partial(_send_with_every_code, protocol, send)
    return DaphneConnection(send, protocol, inflates=inflates).send


async def _send_with_every_code(protocol: Any, send: Any, message: Message) -> None:
    if message["type"] == "websocket.close":
        message = {**message, "reason": fitting_reason(message.get("reason"))}
        await _close_daphne(protocol, send, message)
    else:
        await send(message)


async def _send_as_daphne_can(send: Any, message: Message) -> None:
    code = message.get("code")
    if message["type"] == "websocket.close" and code and code != CloseCode.NORMAL:
        if code in DAPHNE_FINAL_CODES:
            message = {**message, "code": int(DAPHNE_FINAL_CODES[code])}
        elif code not in DAPHNE_OWN_CODES:
            message = {**message, "code": code + DAPHNE_CODE_OFFSET}
    await send(message)


async def _close_daphne(protocol: Any, send: Any, message: Message) -> None:
    """Close with the message's code and reason, which Daphne's own close would not send."""
    if protocol.state == protocol.STATE_CONNECTING:
        await send(message)
    elif protocol.state == protocol.STATE_OPEN:
        protocol.sendCloseFrame(
            code=message.get("code") or CloseCode.NORMAL,
            reasonUtf8=message["reason"].encode(),
            isReply=False,
        )


def _is_from(package: str, protocol: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(protocol).__mro__)


def _is_made_by(package: str, function: Any) -> bool:
    if isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", "")).partition(".")[0] == package


def _past_sessions(send: Any) -> Any:
    """The `send` inside those of Channels' session middleware, which act on HTTP responses only."""
    kind = probe.CHANNELS_SESSIONS.the_class()
    wrapper: Any = getattr(send, "__self__", None)
    while kind is not None and type(wrapper) is kind and probe.CHANNELS_SESSIONS.is_in(wrapper):
        send = wrapper.real_send
        wrapper = getattr(send, "__self__", None)
    return send
