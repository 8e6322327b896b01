"""The server transport of a session: one pipeline, clients come and go, one at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, cast

from voicews.close_codes import CLIENT_IS_DONE, CloseCode
from voicews.exceptions import ConfigurationError, InvalidState
from voicews.frames import StartFrame
from voicews.servers.embedded import Listener
from voicews.servers.readiness import when_ready
from voicews.transports.base import BaseTransport, Connection, TransportState
from voicews.transports.input import InputTransport
from voicews.transports.output import OutputTransport
from voicews.transports.params import WebsocketServerParams
from voicews.transports.server_ends import (
    WebsocketServerInputTransport,
    WebsocketServerOutputTransport,
)
from voicews.transports.writer import Socket

logger = logging.getLogger(__name__)

#: Makes the ASGI application of a transport that listens: that is for those who know consumers.
_build_application: Callable[[WebsocketServerTransport], Any] | None = None


def listen_with(build_application: Callable[[WebsocketServerTransport], Any]) -> None:
    """Have transports that `listen()` served by what this makes of them."""
    global _build_application  # noqa: PLW0603 - set once, when the app is ready
    _build_application = build_application


class WebsocketServerTransport(BaseTransport):
    """Serves a pipeline that outlives its clients' sockets.

    A client that connects while another one is there replaces it: the old one is closed with 4001.
    A client that leaves without saying so may come back within `reconnect_grace` seconds. After
    `session_timeout` seconds from the first client on, or when a client that is there has said
    nothing for `idle_timeout` seconds, the call is ended with 4000.

    With a `host` or a `port` it opens `host`:`port` when its pipeline starts, or before, when it is
    asked to `listen()`. Otherwise it takes the sockets that others accept.

    Events: `on_client_connected`, `on_client_disconnected`, `on_session_timeout`,
    `on_idle_timeout` (transport, websocket), `on_websocket_ready` (transport; once, as soon as
    both the pipeline runs and the process's server takes connections).
    """

    events: ClassVar[frozenset[str]] = frozenset(
        [
            "on_client_connected",
            "on_client_disconnected",
            "on_session_timeout",
            "on_idle_timeout",
            "on_websocket_ready",
        ]
    )

    #: Whether clients can join: the pipeline has started and has not ended.
    is_running = False

    def __init__(
        self,
        params: WebsocketServerParams,
        host: str | None = None,
        port: int | None = None,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(
            params,
            packet_size=params.fixed_audio_packet_size,
            pads_last_packet=params.pad_last_audio_packet,
            close_timeout_secs=params.ws_close_timeout,
            input_name=input_name,
            output_name=output_name,
        )
        self.allowed_origins = params.allowed_origins
        self.host = "localhost" if host is None else host
        #: Where it listens, if it does: with 0, the real one is known once the port is open.
        self.port = 8765 if port is None else port
        self._listens_when_started = host is not None or port is not None
        self._listener: Listener | None = None
        self._session_timeout_secs = params.session_timeout
        self._session_timer: asyncio.TimerHandle | None = None
        self._idle_timeout_secs = params.idle_timeout
        self._idle_timer: asyncio.TimerHandle | None = None
        self._grace_secs = params.reconnect_grace
        self._grace_timer: asyncio.TimerHandle | None = None

    @property
    def has_started(self) -> bool:
        return self.is_running or self.state is TransportState.CLOSED

    def _make_output(
        self, packet_size: int | None, name: str | None, *, pads: bool
    ) -> OutputTransport:
        return WebsocketServerOutputTransport(
            self, cast(WebsocketServerParams, self.params), name=name
        )

    def _make_input(self, name: str | None) -> InputTransport:
        return WebsocketServerInputTransport(
            self, cast(WebsocketServerParams, self.params), name=name
        )

    async def listen(self) -> None:
        """Open the port, before the pipeline starts; it is closed when the pipeline has ended.

        Takes every client, at any path, except web pages of other sites. Needs Django's apps,
        and uvicorn (the extra `voicews[uvicorn]`). After the end, `wait_closed()` returns when the
        port is free. Raises `ConfigurationError` if the port can't be opened.
        """
        if self.is_running or self._listener is not None or self.state is TransportState.CLOSED:
            raise InvalidState("expected a transport that has not started, found one that has")
        await self._open_port()

    async def _open_port(self) -> None:
        if _build_application is None:
            raise ConfigurationError(
                "expected Django's apps to be ready: call voicews.setup() before"
            )
        listener = Listener(_build_application(self), self.host, self.port)
        await listener.start()
        self._listener = listener
        self.port = listener.port

    def connect(self, socket: Socket) -> Connection:
        """A client has connected; a client that was connected before is closed with 4001."""
        self.drop_client(CloseCode.REPLACED, "replaced by another connection")
        connection = super().connect(socket)
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        self._events.send("on_client_connected", websocket=socket.websocket)
        if self._session_timeout_secs is not None and self._session_timer is None:
            self._session_timer = asyncio.get_running_loop().call_later(
                self._session_timeout_secs, self._session_timed_out
            )
        if self._idle_timeout_secs is not None:
            self._check_idle(connection, self._idle_timeout_secs)
        return connection

    def _pipeline_started(self, frame: StartFrame) -> None:
        self.is_running = True
        if self._listener is not None:
            self._server_ready()
        elif self._listens_when_started:
            opening = asyncio.get_running_loop().create_task(self._listen_or_end())
            self._closing.add(opening)  # waiting for the end includes this
            opening.add_done_callback(self._closing.discard)
        else:
            when_ready(self._server_ready)

    async def _listen_or_end(self) -> None:
        try:
            await self._open_port()
        except ConfigurationError as error:
            logger.warning("call %s: %s", self._input.call_id, error)
            self.request_end(str(error), CloseCode.SERVER_ERROR)
            return
        if self.state is TransportState.CLOSED and self._listener is not None:
            await self._listener.stop()
        else:
            self._server_ready()

    def _server_ready(self) -> None:
        if self.state is not TransportState.CLOSED:
            self._events.send("on_websocket_ready")

    def _client_left(self, connection: Connection, code: int) -> None:
        self._events.send("on_client_disconnected", websocket=connection.websocket)
        if self.state is not TransportState.WAITING or code == CloseCode.REPLACED:
            return
        if code in CLIENT_IS_DONE or self._grace_secs == 0:
            self.request_end("client left", code)
        elif self._grace_secs is not None:
            self._grace_timer = asyncio.get_running_loop().call_later(
                self._grace_secs, self.request_end, "client did not come back", code
            )

    def _session_timed_out(self) -> None:
        connection = self._connection
        websocket = connection.websocket if connection is not None else None
        self._events.send(
            "on_session_timeout",
            websocket=websocket,
            on_delivered=lambda: self.request_end("session timeout", CloseCode.SESSION_TIMEOUT),
        )

    def _check_idle(self, connection: Connection, timeout_secs: float) -> None:
        """Ring again when the client, if it said nothing from now on, would be idle."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not connection.is_open:
            return
        silent_secs = monotonic() - connection.heard_at
        if silent_secs < timeout_secs:
            self._idle_timer = asyncio.get_running_loop().call_later(
                timeout_secs - silent_secs, self._check_idle, connection, timeout_secs
            )
        else:
            self._events.send(
                "on_idle_timeout",
                websocket=connection.websocket,
                on_delivered=lambda: self.request_end("idle timeout", CloseCode.SESSION_TIMEOUT),
            )

    async def _stop_listening(
        self, listener: Listener, closing: frozenset[asyncio.Task[None]]
    ) -> None:
        if closing:
            # The last client gets the close code of the call, not the one of a port that closes.
            await asyncio.wait(closing)
        await listener.stop()

    def _closed(self) -> None:
        self.is_running = False
        for timer in (self._session_timer, self._idle_timer, self._grace_timer):
            if timer is not None:
                timer.cancel()
        self._close_port()
        super()._closed()

    def _close_port(self) -> None:
        if self._listener is not None:
            task = asyncio.get_running_loop().create_task(
                self._stop_listening(self._listener, frozenset(self._closing))
            )
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
