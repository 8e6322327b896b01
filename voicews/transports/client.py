"""The client transport: connects out to another voice server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from voicews import close_codes
from voicews.backoff import Backoff
from voicews.close_codes import CloseCode
from voicews.exceptions import ConnectFailed, InvalidState
from voicews.frames import StartFrame
from voicews.pipeline.task_manager import FrameProcessorSetup, TaskManager
from voicews.transports.base import BaseTransport, Connection, TransportState
from voicews.transports.client_ends import (
    WebsocketClientInputTransport,
    WebsocketClientOutputTransport,
)
from voicews.transports.input import InputTransport
from voicews.transports.output import OutputTransport
from voicews.transports.params import WebsocketClientParams
from voicews.transports.reconnect import check_websocket_url, dial
from voicews.transports.writer import MAX_PENDING_BYTES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebsocketClientCallbacks:
    """What a `WebsocketClientSession` reports: each is awaited before it reads on."""

    on_connected: Callable[[ClientConnection], Awaitable[None]]
    on_disconnected: Callable[[ClientConnection], Awaitable[None]]
    on_message: Callable[[ClientConnection, str | bytes], Awaitable[None]]


class ClientSocket:
    """A `websockets` connection, as a transport sees it."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.send = websocket.send

    def send_now(self, data: str | bytes) -> bool:
        return False

    async def close(self, code: int, reason: str) -> None:
        # The limit is on the wire's bytes: 123, whatever the reason's alphabet.
        await self.websocket.close(
            code, reason.encode(errors="replace")[:123].decode(errors="ignore")
        )

    def abort(self) -> None:
        self.websocket.transport.abort()


class WebsocketClientSession:
    """One socket for however many ends want it.

    The first that connects opens it, later callers wait for the same; it is closed when
    the last disconnects. A lost socket has no users any more: the next to connect opens
    another.
    """

    def __init__(
        self,
        uri: str,
        params: WebsocketClientParams,
        callbacks: WebsocketClientCallbacks,
        transport_name: str = "",
    ) -> None:
        self._uri = check_websocket_url(uri, "uri")
        self._params = params
        self._callbacks = callbacks
        self._name = transport_name or type(self).__name__
        self._websocket: ClientConnection | None = None
        self._holders = 0
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting_bytes = 0
        self._task_manager: TaskManager | None = None

    @property
    def task_manager(self) -> TaskManager:
        """What makes its tasks. Raises `InvalidState` before it has one."""
        if self._task_manager is None:
            raise InvalidState(f"{self._name}: expected a session that has been set up")
        return self._task_manager

    async def setup(self, task_manager: TaskManager) -> None:
        """Have its tasks made by `task_manager`, unless it has one."""
        self._task_manager = self._task_manager or task_manager

    async def connect(self) -> None:
        """Use the socket; the first user opens it. Raises `ConnectFailed`."""
        if self._websocket is None and self._opening is None:
            self._holders = 0
            self._opening = self._create_task(self._open(), "open")
        self._holders += 1
        if self._opening is not None:
            opening = self._opening
            try:
                # Shielded: one who gives up waiting leaves the others their socket.
                await asyncio.shield(opening)
            except asyncio.CancelledError:
                await self._let_go(opening)
                raise

    async def disconnect(self) -> None:
        """Stop using the socket; the last user closes it. Does nothing if there is no user."""
        if self._holders:
            await self._let_go(self._opening)

    async def send(self, message: str | bytes) -> bool:
        """Send one message; True once it is with the operating system.

        False if there is no socket, or it takes no more: the server has read nothing for
        `audio_out_write_timeout_secs`, or more than 4 MiB already wait for it.
        """
        websocket = self._websocket
        if websocket is None or self._waiting_bytes + len(message) > MAX_PENDING_BYTES:
            return False
        self._waiting_bytes += len(message)
        try:
            async with asyncio.timeout(self._params.audio_out_write_timeout_secs):
                await websocket.send(message)
        except TimeoutError:
            logger.info("%s: the server does not read, closing the socket", self._name)
            websocket.transport.abort()
            return False
        except ConnectionClosed:
            return False
        finally:
            self._waiting_bytes -= len(message)
        # A caller whose wait ended because another's had lasted too long wrote nothing.
        return websocket.state is not State.CLOSED

    @property
    def is_connected(self) -> bool:
        return self._websocket is not None and self._websocket.state is State.OPEN

    @property
    def is_closing(self) -> bool:
        return self._websocket is not None and self._websocket.state is State.CLOSING

    def _create_task(self, coroutine: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        if self._task_manager is None:
            # Opened before the pipeline starts, or without one.
            self._task_manager = TaskManager()
        return self._task_manager.create_task(coroutine, f"{self._name}: {what}")

    async def _open(self) -> None:
        try:
            params = self._params
            websocket = await dial(
                self._uri,
                headers=params.additional_headers,
                open_timeout_secs=params.open_timeout_secs,
                close_timeout_secs=params.ws_close_timeout,
                ping_interval_secs=params.ping_interval_secs,
                max_message_bytes=params.max_message_bytes,
            )
        finally:
            self._opening = None
        self._websocket = websocket
        self._reader = self._create_task(self._read(websocket), "read")

    async def _let_go(self, opening: asyncio.Task[None] | None) -> None:
        self._holders -= 1
        if self._holders > 0:
            return
        if opening is not None and not opening.done():
            opening.cancel()
            return
        websocket, reader = self._websocket, self._reader
        if websocket is not None:
            await websocket.close()
        if reader is not None and reader is not asyncio.current_task():
            # A callback may be waiting for what will not come any more.
            await asyncio.wait([reader], timeout=self._params.ws_close_timeout)
            reader.cancel()

    async def _read(self, websocket: ClientConnection) -> None:
        try:
            await self._report(self._callbacks.on_connected(websocket))
            async for message in websocket:
                await self._report(self._callbacks.on_message(websocket, message))
        except ConnectionClosed:
            pass  # the close code says why
        finally:
            self._websocket = None
            self._holders = 0
        await self._report(self._callbacks.on_disconnected(websocket))

    async def _report(self, callback: Awaitable[None]) -> None:
        try:
            await callback
        except Exception:
            # A failing callback must not cost the call its socket.
            logger.exception("%s: a callback failed", self._name)


class WebsocketClientTransport(BaseTransport):
    """Connects a pipeline to the voice server at `uri` (`ws://` or `wss://`) when it starts.

    Without `params.reconnect` the call is over when the socket is lost, and when it can't be
    opened. With it, the transport connects again; meanwhile what there is to say waits. It gives
    up when the policy says so, on a close with 1000, 1008, 4000, 4001 or 4002, and on an HTTP 4xx
    that means it.

    A pipeline that ends while nothing is connected waits for the attempt that is under way, if one
    is, and for no other.

    To have a refused connection as an exception, `await transport.open()` before the task starts.

    Events: `on_connected`, `on_disconnected` (transport, websocket), `on_connection_failed`
    (transport, error), `on_reconnecting` (transport, delay_secs).
    """

    events: ClassVar[frozenset[str]] = frozenset(
        ["on_connected", "on_disconnected", "on_connection_failed", "on_reconnecting"]
    )

    def __init__(
        self,
        uri: str,
        params: WebsocketClientParams | None = None,
        *,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        params = params or WebsocketClientParams()
        self._started = asyncio.Event()
        self._ending = asyncio.Event()
        self.session = WebsocketClientSession(
            uri,
            params,
            WebsocketClientCallbacks(
                on_connected=self._socket_opened,
                on_disconnected=self._socket_lost,
                on_message=self._message_received,
            ),
            type(self).__name__,
        )
        super().__init__(
            params,
            close_timeout_secs=params.ws_close_timeout,
            input_name=input_name,
            output_name=output_name,
        )
        self._backoff = None if params.reconnect is None else Backoff(params.reconnect)
        self._dialing: asyncio.Task[None] | None = None
        #: The server's hold on this transport, while it has one.
        self.client: Connection | None = None
        self._left: object = None
        self._connected_at = 0.0

    async def open(self) -> None:
        """Connect now, before the pipeline starts. Raises `ConnectFailed`."""
        if self._started.is_set():
            raise InvalidState("expected a pipeline that has not started, found one that has")
        await self.session.connect()

    # --- the ends -------------------------------------------------------------------------------

    def input(self) -> WebsocketClientInputTransport:
        """The processor that brings frames from the server."""
        return self._client_input

    def output(self) -> WebsocketClientOutputTransport:
        """The processor that sends frames to the server."""
        return self._client_output

    @property
    def has_started(self) -> bool:
        return self._started.is_set()

    def take_end(self, end: InputTransport | OutputTransport) -> None:
        super().take_end(end)
        if isinstance(end, WebsocketClientInputTransport):
            self._client_input = end
        elif isinstance(end, WebsocketClientOutputTransport):
            self._client_output = end

    def has_let_go_of(self, websocket: object) -> bool:
        """Whether this socket was the server's, and is not any more."""
        return websocket is not None and websocket is self._left

    def _make_output(
        self, packet_size: int | None, name: str | None, *, pads: bool
    ) -> OutputTransport:
        return WebsocketClientOutputTransport(
            self, self.session, cast(WebsocketClientParams, self.params), name=name
        )

    def _make_input(self, name: str | None) -> InputTransport:
        return WebsocketClientInputTransport(
            self, self.session, cast(WebsocketClientParams, self.params), name=name
        )

    # --- from the pipeline ----------------------------------------------------------------------

    def _pipeline_started(self, frame: StartFrame) -> None:
        self._started.set()
        setup = FrameProcessorSetup(
            TaskManager(), frame.audio_in_sample_rate, frame.audio_out_sample_rate
        )
        self._dialing = asyncio.get_running_loop().create_task(self._begin(setup))

    def _pipeline_ending(self) -> None:
        self._ending.set()

    def _closed(self) -> None:
        if self._dialing is not None and self._dialing is not asyncio.current_task():
            self._dialing.cancel()
        super()._closed()

    # --- from the session -----------------------------------------------------------------------

    async def _socket_opened(self, websocket: ClientConnection) -> None:
        # Nothing is read until this returns: the server's first words wait for the pipeline.
        await self._started.wait()
        # Its work is done, even if it has yet to notice: cancelling it now would close this socket.
        self._dialing = None
        self._connected_at = asyncio.get_running_loop().time()
        if self.state is not TransportState.WAITING:
            self._left = websocket
            websocket.transport.abort()
            return
        self.client = self.connect(ClientSocket(websocket))
        self._events.send("on_connected", websocket=websocket)

    async def _message_received(self, websocket: ClientConnection, message: str | bytes) -> None:
        await self._client_input.on_message(websocket, message)

    async def _socket_lost(self, websocket: ClientConnection) -> None:
        if self.client is not None:
            self.client.disconnect(websocket.close_code or CloseCode.ABNORMAL)

    # --- life cycle -----------------------------------------------------------------------------

    def _client_left(self, connection: Connection, code: int) -> None:
        self.client = None
        self._left = connection.websocket
        self._events.send("on_disconnected", websocket=connection.websocket)
        if self.state is not TransportState.WAITING:
            return
        lasted = asyncio.get_running_loop().time() - self._connected_at
        delay = None
        if (
            self._backoff is not None
            and code not in close_codes.FINAL
            and not self._ending.is_set()
        ):
            delay = self._backoff.next_delay(lasted)
        if delay is None:
            self.request_end("the server left", code)
        else:
            self._dial_after(delay)

    async def _begin(self, setup: FrameProcessorSetup) -> None:
        await self._client_input.setup(setup)
        await self._client_output.setup(setup)
        if not self.session.is_connected:
            await self._dial(None)

    def _dial_after(self, delay_secs: float | None) -> None:
        self._dialing = asyncio.get_running_loop().create_task(self._dial(delay_secs))

    async def _dial(self, delay_secs: float | None) -> None:
        """Try until the server lets us in, or there is no point any more."""
        while True:
            if delay_secs is not None:
                self._events.send("on_reconnecting", delay_secs=delay_secs)
                if await self._ends_within(delay_secs):
                    self.request_end("could not connect", CloseCode.ABNORMAL)
                    return
            try:
                await self.session.connect()
            except ConnectFailed as error:
                self._events.send("on_connection_failed", error=error)
                delay_secs = None
                if self._backoff is not None and not error.permanent and not self._ending.is_set():
                    delay_secs = self._backoff.next_delay()
                if delay_secs is None:
                    logger.warning("call %s: %s", self._input.call_id, error)
                    self.request_end("could not connect", CloseCode.ABNORMAL)
                    return
            else:
                return

    async def _ends_within(self, secs: float) -> bool:
        """Whether the pipeline is to end before so long has passed."""
        try:
            async with asyncio.timeout(secs):
                await self._ending.wait()
        except TimeoutError:
            return False
        return True
