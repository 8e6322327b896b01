"""The server transport of a session: one pipeline, clients come and go, one at a time."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from voicews.frames import StartFrame
from voicews.readiness import when_ready
from voicews.transports.base import BaseTransport, Connection, TransportState
from voicews.transports.params import WebsocketServerParams
from voicews.transports.writer import Socket

REPLACED = 4001
#: A client that closes with one of these codes has hung up; with any other it may come back.
CLIENT_IS_DONE = frozenset([1000, 1001])


class WebsocketServerTransport(BaseTransport):
    """Serves a pipeline that outlives its clients' sockets.

    A client that connects while another one is there replaces it: the old one is closed with 4001.
    A client that leaves without saying so may come back within `reconnect_grace` seconds. After
    `session_timeout` seconds from the first client on, the call is ended with 4000.

    Events: `on_client_connected`, `on_client_disconnected`, `on_session_timeout` (transport,
    websocket), `on_websocket_ready` (transport; once, as soon as both the pipeline runs and the
    process's server takes connections).
    """

    events: ClassVar[frozenset[str]] = frozenset(
        [
            "on_client_connected",
            "on_client_disconnected",
            "on_session_timeout",
            "on_websocket_ready",
        ]
    )

    def __init__(
        self,
        params: WebsocketServerParams,
        *,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(
            params,
            packet_size=params.fixed_audio_packet_size,
            close_timeout_secs=params.ws_close_timeout,
            input_name=input_name,
            output_name=output_name,
        )
        self.allowed_origins = params.allowed_origins
        self._session_timeout_secs = params.session_timeout
        self._session_timer: asyncio.TimerHandle | None = None
        self._grace_secs = params.reconnect_grace
        self._grace_timer: asyncio.TimerHandle | None = None

    def connect(self, socket: Socket) -> Connection:
        """A client is there; the one before it, if any, is told that it was replaced."""
        self.drop_client(REPLACED, "replaced by another connection")
        connection = super().connect(socket)
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        self._events.send("on_client_connected", websocket=socket.websocket)
        if self._session_timeout_secs is not None and self._session_timer is None:
            self._session_timer = asyncio.get_running_loop().call_later(
                self._session_timeout_secs, self._session_timed_out
            )
        return connection

    def _pipeline_started(self, frame: StartFrame) -> None:
        when_ready(self._server_ready)

    def _server_ready(self) -> None:
        if self.state is not TransportState.CLOSED:
            self._events.send("on_websocket_ready")

    def _client_left(self, socket: Socket, code: int) -> None:
        self._events.send("on_client_disconnected", websocket=socket.websocket)
        if self.state is not TransportState.WAITING or code == REPLACED:
            return
        if code in CLIENT_IS_DONE or self._grace_secs == 0:
            self.request_end("client left", code)
        elif self._grace_secs is not None:
            self._grace_timer = asyncio.get_running_loop().call_later(
                self._grace_secs, self.request_end, "client did not come back", code
            )

    def _session_timed_out(self) -> None:
        connection = self._connection
        websocket = connection.writer.socket.websocket if connection is not None else None
        self._events.send(
            "on_session_timeout",
            websocket=websocket,
            then=lambda: self.request_end("session timeout", 4000),
        )

    def _closed(self) -> None:
        for timer in (self._session_timer, self._grace_timer):
            if timer is not None:
                timer.cancel()
        super()._closed()
