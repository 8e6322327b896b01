"""The consumer that proxies of other hosts connect to."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from django.utils.crypto import constant_time_compare

from voicews.consumers.base import SocketConsumer
from voicews.exceptions import ConfigurationError, NotAllowed
from voicews.workers.messages import BusMessage
from voicews.workers.outbox import MAX_MESSAGE_BYTES
from voicews.workers.proxy import WebSocketProxyServer
from voicews.workers.proxy.link import LINK_HEADER, SUBPROTOCOL
from voicews.workers.runner import WorkerRunner
from voicews.workers.serializers import JSONMessageSerializer, MessageSerializer
from voicews.workers.worker import BaseWorker

__all__ = [
    "ProxyConsumer",
]

logger = logging.getLogger(__name__)

#: Links that clients may come back to, by the consumer's class and the client's name for the link.
_links: dict[tuple[type[ProxyConsumer], str], WebSocketProxyServer] = {}
_serving: set[asyncio.Task[None]] = set()


class ProxyConsumer(SocketConsumer):
    """Lets a proxy client on another host reach a worker of this one. Route it in `asgi.py`.

        class Research(ProxyConsumer):
            worker_name = "research"
            remote_worker_name = "voice"
            tokens = [os.environ["RESEARCH_TOKEN"]]

            def build_workers(self):
                return [ResearchWorker("research")]

    Every link gets workers of its own on a runner of its own, so that clients know nothing of one
    another. To have them share workers, set `runner`, and see that each has another
    `remote_worker_name`.

    A client must bring one of `tokens`, as `Authorization: Bearer <token>`; there are none by
    default. Override `authorize` to ask for something else.
    """

    #: The worker here, and the one on the other side.
    worker_name: ClassVar[str]
    remote_worker_name: ClassVar[str]
    #: Types that pass by their source, whatever their target.
    forward_messages: ClassVar[tuple[type[BusMessage], ...]] = ()
    tokens: ClassVar[Sequence[str]] = ()
    #: A runner that all links share; it is started if it does not run.
    runner: ClassVar[WorkerRunner | None] = None
    #: How long (seconds) a link that was lost waits for its client.
    resume_secs: ClassVar[float] = 30.0
    #: How often (seconds) both sides give a sign of life.
    heartbeat_secs: ClassVar[float] = 5.0
    #: Messages that may wait for a slow client; see `ProxyWorker`.
    max_queued_messages: ClassVar[int] = 1000
    #: A longer message closes the link with 1009; a client of ours sends none.
    max_message_bytes: ClassVar[int] = MAX_MESSAGE_BYTES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.proxy: WebSocketProxyServer | None = None

    async def authorize(self) -> None:
        """Raise `NotAllowed` unless the client brings one of `tokens`."""
        if not self.tokens or not all(self.tokens):
            logger.error("%s has no tokens: every client is refused", type(self).__name__)
        scheme, _, token = self.header("authorization").partition(" ")
        known = [constant_time_compare(token, one) for one in self.tokens if one]
        if scheme.lower() != "bearer" or not any(known):
            raise NotAllowed("expected a token that opens this worker")

    def build_workers(self) -> Sequence[BaseWorker]:
        """The workers of one link; one of them is called `worker_name`."""
        raise ConfigurationError(f"{type(self).__name__} has neither a runner nor workers")

    def build_serializer(self) -> MessageSerializer:
        """What reads the client's messages: register the types of your own that may pass."""
        return JSONMessageSerializer()

    def set_up(self, proxy: WebSocketProxyServer) -> None:
        """Add handlers to the proxy's events, before the first of them."""

    async def connect(self) -> None:
        await self.authorize()
        self.check_origin(None)
        confirms = SUBPROTOCOL in self.scope.get("subprotocols", ())
        await self.accept(SUBPROTOCOL if confirms else None)
        link_id = self.header(LINK_HEADER)[:64] if confirms else ""
        key = (type(self), link_id)
        known = _links.get(key) if link_id else None
        if known is not None and known.resume(self):
            self.proxy = known
            return
        proxy = self._build_proxy(confirms=confirms)
        self.set_up(proxy)
        runner, own = self.runner, None
        if runner is None:
            runner = own = WorkerRunner()
            await own.add_workers(*self.build_workers())
        await runner.add_workers(proxy)
        await runner.start()
        if link_id:
            _links[key] = proxy
        task = asyncio.get_running_loop().create_task(_see_off(proxy, key, own))
        _serving.add(task)
        task.add_done_callback(_serving.discard)
        await proxy.ready()
        self.proxy = proxy

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        data = text_data if bytes_data is None else bytes_data
        if self.proxy is not None and data is not None:
            self.proxy.receive(data)

    def drop(self, code: int, reason: str) -> None:
        # At once: what still comes would be counted as received, without what is lost before it.
        if self.proxy is not None:
            self.proxy.disconnect(code, self)
        super().drop(code, reason)

    async def disconnect(self, code: int) -> None:
        if self.proxy is not None:
            self.proxy.disconnect(code, self)

    def _build_proxy(self, *, confirms: bool) -> WebSocketProxyServer:
        return WebSocketProxyServer(
            f"{self.worker_name}-proxy-{uuid.uuid4().hex[:12]}",
            websocket=self,
            worker_name=self.worker_name,
            remote_worker_name=self.remote_worker_name,
            forward_messages=self.forward_messages,
            serializer=self.build_serializer(),
            confirms=confirms,
            resume_secs=self.resume_secs,
            heartbeat_secs=self.heartbeat_secs,
            max_queued_messages=self.max_queued_messages,
            max_message_bytes=self.max_message_bytes,
        )


async def _see_off(
    proxy: WebSocketProxyServer, key: tuple[type[ProxyConsumer], str], own: WorkerRunner | None
) -> None:
    """When a link's proxy has ended, forget it, and end the runner that it had to itself."""
    await proxy.wait()
    if _links.get(key) is proxy:
        del _links[key]
    if own is not None:
        await own.stop()
