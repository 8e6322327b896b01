"""The end of a link that is dialled."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from voicews.close_codes import CLIENT_IS_DONE, CloseCode
from voicews.transports.channels import ConsumerSocket
from voicews.workers.messages import BusMessage
from voicews.workers.outbox import MAX_MESSAGE_BYTES
from voicews.workers.proxy.base import ProxyWorker
from voicews.workers.proxy.link import PLAIN_CLIENT_MAX_MESSAGE_BYTES
from voicews.workers.serializers import MessageSerializer


class WebSocketProxyServer(ProxyWorker):
    """The other end: serves one accepted consumer. `ProxyConsumer` does all of what follows.

    With a consumer of your own: add the proxy to a runner, call `proxy.receive(data)` for each
    message and `proxy.disconnect(code)` at the end. Only messages of `worker_name` to
    `remote_worker_name` leave, only those to `worker_name` enter; `forward_messages` are types
    that leave whatever their target, and may enter. That the worker is ready is told the client.

    With `confirms`, which says that the client has agreed on our subprotocol, the proxy outlives a
    socket that is lost by `resume_secs`, so that the client can `resume` the link.

    Events: `on_client_connected`, `on_client_disconnected` (worker, websocket).
    """

    events: ClassVar[frozenset[str]] = frozenset(["on_client_connected", "on_client_disconnected"])
    leaves_silent_peer = True

    def __init__(
        self,
        name: str,
        *,
        websocket: Any,
        worker_name: str,
        remote_worker_name: str,
        forward_messages: tuple[type[BusMessage], ...] = (),
        serializer: MessageSerializer | None = None,
        confirms: bool = False,
        resume_secs: float = 30.0,
        max_queued_messages: int = 1000,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        heartbeat_secs: float = 5.0,
        write_timeout_secs: float = 10.0,
        max_invalid_messages: int = 10,
    ) -> None:
        super().__init__(
            name,
            local=worker_name,
            remote=remote_worker_name,
            forward_messages=forward_messages,
            serializer=serializer,
            max_queued_messages=max_queued_messages,
            max_message_bytes=max_message_bytes,
            heartbeat_secs=heartbeat_secs,
            write_timeout_secs=write_timeout_secs,
            max_invalid_messages=max_invalid_messages,
        )
        if not confirms:
            self._link.peer_max_message_bytes = PLAIN_CLIENT_MAX_MESSAGE_BYTES
        self._websocket = websocket
        self._speaks_ours = confirms
        self._resume_secs = resume_secs
        self._resumed = False
        self._gone_timer: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()

    async def ready(self) -> None:
        """Wait until it takes messages: it has been added to a runner that runs."""
        await self._ready.wait()

    def receive(self, data: str | bytes) -> None:
        """Take one message of the client."""
        if self._socket is not None:
            self._take(data)

    def disconnect(self, code: int, websocket: Any = None) -> None:
        """The socket is gone, with this close code; `websocket` is which one, after a `resume`."""
        if self._socket is None or websocket not in (None, self._websocket):
            return
        self._client_gone()
        if self._link.confirms and code not in CLIENT_IS_DONE:
            self._gone_timer = asyncio.get_running_loop().call_later(
                self._resume_secs, self._finished.set
            )
        else:
            self._finished.set()

    def resume(self, websocket: Any) -> bool:
        """Go on over another socket; False if it is too late for that.

        The socket before it, if it is still there, is closed with 4001.
        """
        if self._finished.is_set() or not self._speaks_ours:
            return False
        if self._gone_timer is not None:
            self._gone_timer.cancel()
            self._gone_timer = None
        if self._socket is not None:
            self._drop_link(CloseCode.REPLACED, "replaced by another connection")
            self._client_gone()
        self._websocket = websocket
        self._resumed = True
        self._join()
        return True

    async def start(self) -> None:
        await super().start()
        self._join()
        self._ready.set()

    async def _unlink(self) -> None:
        if self._gone_timer is not None:
            self._gone_timer.cancel()
        self._finished.set()
        await self._flush()
        if self._socket is not None:
            self._drop_link(CloseCode.NORMAL, "the worker has ended")
            self._client_gone()

    def _leaves(self, message: BusMessage) -> bool:
        return message.source == self._local and super()._leaves(message)

    def _join(self) -> None:
        self._attach(
            ConsumerSocket(self._websocket), confirms=self._speaks_ours, resumed=self._resumed
        )
        self._events.send("on_client_connected", websocket=self._websocket)

    def _client_gone(self) -> None:
        self._detach()
        self._events.send("on_client_disconnected", websocket=self._websocket)
