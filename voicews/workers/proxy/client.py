"""The end of a link that dials."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import ClassVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from voicews import close_codes
from voicews.backoff import Backoff
from voicews.close_codes import CloseCode
from voicews.exceptions import ConnectFailed
from voicews.rate_limit import FAIRNESS_MESSAGES, RateLimit
from voicews.transports.client import ClientSocket
from voicews.transports.reconnect import (
    ReconnectPolicy,
    check_websocket_url,
    dial,
    public_url,
)
from voicews.workers.messages import BusDeactivateWorkerMessage, BusMessage, Payload
from voicews.workers.outbox import MAX_MESSAGE_BYTES
from voicews.workers.proxy.base import CLOSE_TIMEOUT_SECS, ProxyWorker
from voicews.workers.proxy.link import LINK_HEADER, SUBPROTOCOL
from voicews.workers.serializers import MessageSerializer

logger = logging.getLogger(__name__)

OPEN_TIMEOUT_SECS = 10.0
#: A proxy is part of a deployment: it waits for the other part, however long that is away.
FOR_EVER = ReconnectPolicy(max_failures=None)


class WebSocketProxyClient(ProxyWorker):
    """Connects to the proxy server at `url` while it is active.

    Only messages to `remote_worker_name` leave, only those to `local_worker_name` enter;
    `forward_messages` are types that leave by their source, whatever their target, and may enter.
    `headers` go with the handshake: `{"Authorization": "Bearer ..."}` for a `ProxyConsumer`.

    A link that is lost is opened again as `reconnect` says (None: not at all); meanwhile messages
    wait. After a close with 1000, 1008, 4000, 4001 or 4002, or an HTTP 4xx that means it, and when
    the policy gives up, the proxy is inactive until it is activated again.

    Events: `on_connected`, `on_disconnected` (worker, websocket), `on_connection_failed` (worker,
    error), `on_reconnecting` (worker, delay_secs).
    """

    events: ClassVar[frozenset[str]] = frozenset(
        ["on_connected", "on_disconnected", "on_connection_failed", "on_reconnecting"]
    )

    def __init__(
        self,
        name: str,
        *,
        url: str,
        remote_worker_name: str,
        local_worker_name: str,
        forward_messages: tuple[type[BusMessage], ...] = (),
        headers: Mapping[str, str] | None = None,
        serializer: MessageSerializer | None = None,
        active: bool = False,
        reconnect: ReconnectPolicy | None = FOR_EVER,
        max_queued_messages: int = 1000,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_messages_per_sec: int = 200,
        max_messages_burst: int = 3000,
        heartbeat_secs: float = 5.0,
        write_timeout_secs: float = 10.0,
        max_invalid_messages: int = 10,
    ) -> None:
        super().__init__(
            name,
            local=local_worker_name,
            remote=remote_worker_name,
            forward_messages=forward_messages,
            serializer=serializer,
            active=active,
            max_queued_messages=max_queued_messages,
            max_message_bytes=max_message_bytes,
            heartbeat_secs=heartbeat_secs,
            write_timeout_secs=write_timeout_secs,
            max_invalid_messages=max_invalid_messages,
        )
        self._url = check_websocket_url(url, "url")
        self._headers = dict(headers or {})
        self._policy = reconnect
        self._max_messages_per_sec = max_messages_per_sec
        self._max_messages_burst = max_messages_burst
        self._link_id = ""
        self._linking: asyncio.Task[None] | None = None
        #: The first attempt to connect is over.
        self._attempted = asyncio.Event()

    async def on_activated(self, args: Payload | None) -> None:
        """Connect. Returns when the link is open, or the first attempt has failed: within 10 s."""
        if self._linking is None or self._linking.done():
            self._attempted = attempted = asyncio.Event()
            self._linking = asyncio.get_running_loop().create_task(self._stay_linked())
            self._linking.add_done_callback(lambda _task: attempted.set())
        await self._attempted.wait()

    def deliver(self, message: BusMessage) -> None:
        if isinstance(message, BusDeactivateWorkerMessage) and message.target == self.name:
            # It waits behind an activation, which is of no use any more.
            self._attempted.set()
        super().deliver(message)

    async def on_deactivated(self) -> None:
        """Disconnect."""
        await self._end_link()

    async def _unlink(self) -> None:
        linking, self._linking = self._linking, None
        if linking is not None and not linking.done():
            await self._flush()
            linking.cancel()
            await asyncio.wait([linking])

    async def _stay_linked(self) -> None:
        """Be connected for as long as there is a point."""
        self._link_id = uuid.uuid4().hex
        self.registry.set_unreachable(self._remote, None)
        backoff = None if self._policy is None else Backoff(self._policy)
        loop = asyncio.get_running_loop()
        while True:
            lasted, is_final, why = 0.0, False, "the connection is lost"
            try:
                websocket = await self._dial()
            except ConnectFailed as error:
                is_final, why = error.permanent, str(error)
                logger.warning("worker %s: %s", self.name, error)
                self._events.send("on_connection_failed", error=error)
                self._attempted.set()
            else:
                opened_at = loop.time()
                await self._hold(websocket)
                lasted = loop.time() - opened_at
                is_final = websocket.close_code in close_codes.FINAL
                why = f"closed with {websocket.close_code} {websocket.close_reason or ''}".strip()
            delay = None if backoff is None or is_final else backoff.next_delay(lasted)
            if delay is None:
                break
            self._events.send("on_reconnecting", delay_secs=delay)
            await asyncio.sleep(delay)
        self.active = False
        self._report_lost(self._link.give_up())
        # Who asks the remote for something, or has asked, need not wait any longer.
        self.registry.set_unreachable(self._remote, why)
        await self.send_bus_error_message(f"{public_url(self._url)}: {why}")

    async def _dial(self) -> ClientConnection:
        return await dial(
            self._url,
            headers={**self._headers, LINK_HEADER: self._link_id},
            subprotocols=[SUBPROTOCOL],
            open_timeout_secs=OPEN_TIMEOUT_SECS,
            close_timeout_secs=CLOSE_TIMEOUT_SECS,
            ping_interval_secs=self._heartbeat_secs,
            max_message_bytes=self._max_message_bytes,
        )

    async def _hold(self, websocket: ClientConnection) -> None:
        confirms = websocket.subprotocol == SUBPROTOCOL
        self._attach(ClientSocket(websocket), confirms=confirms)
        self._attempted.set()
        logger.info("worker %s: connected to %s", self.name, public_url(self._url))
        self._events.send("on_connected", websocket=websocket)
        try:
            await self._read(websocket)
        except ConnectionClosed:
            pass  # the close code says why
        finally:
            self._detach()
            self._events.send("on_disconnected", websocket=websocket)
            if not confirms:
                self._restart_link()
            # Only when this task is cancelled is it still open.
            await websocket.close()
        logger.info("worker %s: disconnected (%s)", self.name, websocket.close_code)

    async def _read(self, websocket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        allowance = RateLimit(self._max_messages_per_sec, self._max_messages_burst, loop.time())
        count = 0
        async for data in websocket:
            self._take(data)
            count += 1
            if count % FAIRNESS_MESSAGES:
                continue
            if not allowance.spend(FAIRNESS_MESSAGES, loop.time()):
                await websocket.close(CloseCode.NOT_ALLOWED, "too many messages")
                return
            await asyncio.sleep(0)

    def _announce(self) -> None:
        # Pipecat's server expects no announcement, and would log a warning for each.
        if self._link.confirms:
            super()._announce()
