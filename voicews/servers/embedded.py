"""A port of our own: an ASGI server inside this process, for one application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from voicews.exceptions import ConfigurationError, InvalidState
from voicews.servers import probe

if TYPE_CHECKING:
    import uvicorn

#: How long (seconds) sockets get to close when the port does.
CLOSE_TIMEOUT_SECS = 5
#: How long (seconds) a connection may take to ask for a WebSocket; then it is reset.
HANDSHAKE_TIMEOUT_SECS = 10.0


class Listener:
    """Serves one ASGI application on `host`:`port`, on the event loop that is running.

    Port 0 takes any that is free. Needs uvicorn, the extra `voicews[uvicorn]`.
    """

    def __init__(self, application: Any, host: str, port: int) -> None:
        self.host = host
        #: The port; the real one once it is open.
        self.port = port
        self._application = application
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the port. Raises `ConfigurationError` if that can't be."""
        if self._serving is not None:
            raise InvalidState("expected a listener that has not started, found one that has")
        self._server, opened = _build_server(self._application)
        sockets = await _bind(self.host, self.port)
        self.port = sockets[0].getsockname()[1]
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets))
        opening = asyncio.get_running_loop().create_task(opened.wait())
        await asyncio.wait([self._serving, opening], return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Close the port; sockets that are open are closed with 1012."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])


def _build_server(application: Any) -> tuple[uvicorn.Server, asyncio.Event]:
    """A server, and what it sets when it takes connections."""
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigurationError(
            "listening needs uvicorn, which is not installed: pip install 'voicews[uvicorn]'"
        ) from error
    is_known = probe.UVICORN_SERVER.is_in(uvicorn.Server)
    try:
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError:
        is_known = False
    if not is_known:
        raise ConfigurationError(
            f"listening needs a uvicorn that is known here, found {uvicorn.__version__}"
        )

    opened = asyncio.Event()

    class HandshakeProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)

            def give_up() -> None:
                # A WebSocket has a protocol object of its own.
                if transport.get_protocol() is self:
                    transport.abort()

            asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_SECS, give_up)

    class EmbeddedServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            opened.set()

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            # They belong to the program that we are a part of.
            yield

    config = uvicorn.Config(
        application,
        lifespan="off",
        http=HandshakeProtocol,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_SECS,
    )
    return EmbeddedServer(config), opened


async def _bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address that the host name has, all on the same port."""
    if not 0 <= port < 65536:
        raise ConfigurationError(f"expected a port from 0 to 65535, found {port}")
    sockets: list[socket.socket] = []
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _name, address in dict.fromkeys(addresses):
            try:
                one = socket.socket(family, kind, protocol)
            except OSError:
                continue  # a machine without IPv6 still has the names for it
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            chosen = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            one.bind((address[0], chosen, *address[2:]))
    except OSError as error:
        for one in sockets:
            one.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}"
        ) from error
    return sockets
