"""The server transport of one socket: given a Channels consumer, it lives as long as that."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from voicews.frames import StartFrame
from voicews.servers import fast_path
from voicews.transports.base import Connection, TransportState
from voicews.transports.params import ChannelsWebsocketParams
from voicews.transports.server import WebsocketServerTransport

if TYPE_CHECKING:
    from channels.generic.websocket import AsyncWebsocketConsumer


class ConsumerSocket:
    """A consumer, as a transport sees it."""

    def __init__(self, consumer: AsyncWebsocketConsumer) -> None:
        self.websocket = consumer
        # Past the consumer's own send(): a layer less for each packet of audio.
        self._send = fast_path.wrap_send(consumer.base_send)
        self._connection = fast_path.connection_of(self._send)
        # A project's middleware may hide the server.
        self._server_send = consumer.scope.get("voicews.send", self._send)

    def send(self, data: str | bytes) -> Awaitable[None]:
        # Hands the server's own awaitable on: another coroutine around it would cost as much as
        # all the rest of this method.
        if isinstance(data, bytes):
            message = {"type": "websocket.send", "bytes": data}
        else:
            message = {"type": "websocket.send", "text": data}
        sent: Awaitable[None] = self._send(message)
        return sent

    def send_now(self, data: str | bytes) -> bool:
        return self._connection is not None and self._connection.send_now(data)

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        fast_path.abort_if_blocked(self._server_send)
        abort = getattr(self.websocket, "abort", None)
        if abort is not None:
            abort()


class ChannelsWebsocketTransport(WebsocketServerTransport):
    """Serves one accepted `AsyncWebsocketConsumer`; when its client leaves, the call is over.

    `voicews.consumers.voice.VoiceConsumer` does all of this; with a consumer of your own, call
    `await transport.receive(data)` for each message and `transport.disconnect(code)` at the end.
    """

    def __init__(
        self,
        websocket: AsyncWebsocketConsumer,
        params: ChannelsWebsocketParams,
        *,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(params, input_name=input_name, output_name=output_name)
        self._socket = ConsumerSocket(websocket)
        #: The socket's hold on this transport, once the pipeline has started.
        self.connection: Connection | None = None

    async def receive(self, data: str | bytes) -> None:
        """Take one message of the client, and write what it was answered with."""
        if self.connection is not None:
            await self.connection.receive(data)

    def disconnect(self, code: int) -> None:
        """The socket is gone, with this close code."""
        if self.connection is not None:
            self.connection.disconnect(code)

    def _pipeline_started(self, frame: StartFrame) -> None:
        super()._pipeline_started(frame)
        self.connection = self.connect(self._socket)

    def _client_left(self, connection: Connection, code: int) -> None:
        super()._client_left(connection, code)
        # Otherwise the call is what ended, and took the client with it.
        if self.state is TransportState.WAITING:
            self.request_end("client left", code)
