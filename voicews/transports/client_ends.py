"""The two ends of the client transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicews.transports.input import InputTransport
from voicews.transports.output import OutputTransport

if TYPE_CHECKING:
    from voicews.pipeline.task_manager import FrameProcessorSetup
    from voicews.transports.client import WebsocketClientSession, WebsocketClientTransport
    from voicews.transports.params import WebsocketClientParams


class WebsocketClientInputTransport(InputTransport):
    """Brings what the server says into the pipeline.

    Every method may be overridden. One that is made for a transport takes the place of the input
    that it had; raises `InvalidState` once the pipeline has started.
    """

    def __init__(
        self,
        transport: WebsocketClientTransport,
        session: WebsocketClientSession,
        params: WebsocketClientParams,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            params, transport.serializer, name=name, **transport.input_callbacks(params)
        )
        self._transport = transport
        self._session = session
        transport.take_end(self)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Called before the socket is opened."""
        await self._session.setup(setup.task_manager)

    async def on_message(self, websocket: object, message: str | bytes) -> None:
        """Take one message of the server; called for each, in order."""
        client = self._transport.client
        if client is not None:
            await client.receive(message)
        elif not self._transport.has_let_go_of(websocket):
            self.receive(message)

    async def cleanup(self) -> None:
        """Called once, after the last frame: the socket is closed when it returns."""
        await super().cleanup()
        await self._transport.wait_closed()
        await self._session.disconnect()


class WebsocketClientOutputTransport(OutputTransport):
    """Sends what the pipeline says to the server.

    Every method may be overridden. One that is made for a transport takes the place of the output
    that it had; raises `InvalidState` once the pipeline has started.
    """

    def __init__(
        self,
        transport: WebsocketClientTransport,
        session: WebsocketClientSession,
        params: WebsocketClientParams,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            params, transport.serializer, name=name, **transport.output_callbacks(params)
        )
        # What is said before the server has let us in is not lost, not even a whole short call.
        self.awaits_client = True
        self._session = session
        transport.take_end(self)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Called before the socket is opened."""
        await self._session.setup(setup.task_manager)
