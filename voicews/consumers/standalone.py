"""What is served on a port of its own: one transport, or one bot for each socket."""

from __future__ import annotations

from typing import Any

from voicews.bots import Bot
from voicews.consumers.voice import VoiceConsumer
from voicews.exceptions import NotAllowed
from voicews.transports.channels import ConsumerSocket
from voicews.transports.server import WebsocketServerTransport, listen_with


class OpenConsumer(VoiceConsumer):
    """Accepts every client of the port, except web pages that may not connect."""

    async def authorize(self) -> None:
        """No authentication: by default the port is on the loopback interface."""


class TransportConsumer(OpenConsumer):
    """Connects its socket to a transport that is already there."""

    def __init__(self, transport: WebsocketServerTransport) -> None:
        super().__init__()
        self._transport = transport

    async def connect(self) -> None:
        await self.authorize()
        self.check_origin(self._transport.allowed_origins)
        if not self._transport.is_running:
            raise NotAllowed("there is no call to join")
        await self.accept()
        self.connection = self._transport.connect(ConsumerSocket(self))


def connect() -> None:
    """Have transports served that listen by themselves; called when the app is ready."""
    listen_with(transport_application)


def transport_application(transport: WebsocketServerTransport) -> Any:
    """ASGI application: every WebSocket, whatever its path, is a client of the transport."""
    return _websockets_only(lambda: TransportConsumer(transport))


def bot_application(bot: str | type[Bot]) -> Any:
    """ASGI application: every WebSocket, whatever its path, gets a bot of its own."""
    consumer = type("BotConsumer", (OpenConsumer,), {"bot": bot})
    return _websockets_only(consumer)


def _websockets_only(build_consumer: Any) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await build_consumer()(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
        await send({"type": "http.response.start", "status": 426, "headers": headers})
        await send({"type": "http.response.body", "body": b"This port speaks WebSocket.\n"})

    return application
