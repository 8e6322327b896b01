"""The bus: every message reaches every worker that it concerns."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import suppress
from typing import Any, Protocol

from channels.layers import get_channel_layer

from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.workers.messages import BusLocalMessage, BusMessage
from voicews.workers.outbox import Outbox
from voicews.workers.serializers import JSONMessageSerializer, MessageSerializer

logger = logging.getLogger(__name__)

#: The core Redis channel layer forgets a group's members after a day.
REJOIN_SECS = 3600.0
#: After a failure of the channel layer.
RETRY_SECS = 1.0


class BusSubscriber(Protocol):
    """Who gets messages from a bus."""

    @property
    def name(self) -> str:
        """Its name, of which a bus knows one."""

    def deliver(self, message: BusMessage) -> None:
        """Take a message, or leave it. Must not block."""


class WorkerBus:
    """Connects the workers of one process.

    Sending never waits: a subscriber that is slow has a queue of its own.
    """

    def __init__(self) -> None:
        self._subscribers: dict[str, BusSubscriber] = {}

    async def start(self) -> None:
        """Called by the runner before the first message."""

    async def stop(self) -> None:
        """Called by the runner after the last message."""

    def subscribe(self, subscriber: BusSubscriber) -> None:
        """Deliver messages to a subscriber. Raises `ConfigurationError` if its name is taken."""
        if self._subscribers.setdefault(subscriber.name, subscriber) is not subscriber:
            raise ConfigurationError(f"expected a name of its own, found another {subscriber.name}")

    def unsubscribe(self, subscriber: BusSubscriber) -> None:
        """Deliver nothing more to a subscriber."""
        if self._subscribers.get(subscriber.name) is subscriber:
            del self._subscribers[subscriber.name]

    def send(self, message: BusMessage) -> None:
        """Hand a message to everybody whom it may concern. Does not wait."""
        self.deliver(message)
        if not isinstance(message, BusLocalMessage):
            self.publish(message)

    def publish(self, message: BusMessage) -> None:
        """Carry a message to the other processes of this bus; here there are none."""

    def deliver(self, message: BusMessage) -> None:
        """Hand a message to the subscribers in this process."""
        for subscriber in list(self._subscribers.values()):
            try:
                subscriber.deliver(message)
            except Exception:
                logger.exception("worker %s failed to take a message", subscriber.name)


class ChannelLayerBus(WorkerBus):
    """Connects the workers of several processes that share a channel layer.

    Messages that can't be sent wait, up to `max_queued_messages`; beyond that the oldest data
    messages are dropped. The channel layer itself delivers at most once. `serializer` must know
    every type that is sent.
    """

    def __init__(
        self,
        group: str = "voicews.workers",
        *,
        layer: str = "default",
        serializer: MessageSerializer | None = None,
        max_queued_messages: int = 1000,
    ) -> None:
        super().__init__()
        self._group = group
        self._layer_alias = layer
        self._serializer: MessageSerializer = serializer or JSONMessageSerializer()
        self._outbox = Outbox(max_queued_messages)
        self._origin = uuid.uuid4().hex
        self._layer: Any = None
        self._channel = ""
        self._has_mail = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        #: Messages from other processes that were not what this bus speaks.
        self.refused_messages = 0

    @property
    def dropped_messages(self) -> int:
        """Messages that never left this process."""
        return self._outbox.dropped_messages

    async def start(self) -> None:
        if self._tasks:
            return
        self._layer = get_channel_layer(self._layer_alias)
        if self._layer is None:
            raise ConfigurationError(f"expected CHANNEL_LAYERS[{self._layer_alias!r}], found none")
        self._channel = await self._layer.new_channel()
        await self._layer.group_add(self._group, self._channel)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(task()) for task in (self._send_mail, self._receive, self._rejoin)
        ]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        # The last words, such as that this runner leaves.
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECS):
                await self._is_idle.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        try:
            await self._layer.group_discard(self._group, self._channel)
        except Exception as error:  # noqa: BLE001 - the group forgets dead channels by itself
            logger.warning("worker bus: could not leave its group: %s", error)

    def publish(self, message: BusMessage) -> None:
        self._outbox.put(message, self._serializer.serialize(message))
        self._is_idle.clear()
        self._has_mail.set()

    async def _send_mail(self) -> None:
        while True:
            await self._has_mail.wait()
            entry = self._outbox.take()
            if entry is None:
                self._has_mail.clear()
                self._is_idle.set()
                continue
            try:
                await self._layer.group_send(
                    self._group,
                    {"type": "voicews.worker", "origin": self._origin, "data": entry[1]},
                )
            except Exception as error:  # noqa: BLE001 - each channel layer has its own
                self._outbox.dropped_messages += 1
                logger.warning("worker bus: a message could not be sent: %s", error)
                await asyncio.sleep(RETRY_SECS)

    async def _receive(self) -> None:
        while True:
            try:
                event = await self._layer.receive(self._channel)
            except Exception as error:  # noqa: BLE001 - each channel layer has its own
                logger.warning("worker bus: can't receive: %s", error)
                await asyncio.sleep(RETRY_SECS)
                continue
            if event.get("origin") == self._origin:
                continue
            try:
                message = self._serializer.deserialize(event["data"])
            except InvalidMessage as error:
                self.refused_messages += 1
                logger.warning("worker bus: a message was refused: %s", error)
                continue
            if message is not None:
                self.deliver(message)

    async def _rejoin(self) -> None:
        while True:
            await asyncio.sleep(REJOIN_SECS)
            try:
                await self._layer.group_add(self._group, self._channel)
            except Exception as error:  # noqa: BLE001 - there is another turn
                logger.warning("worker bus: could not join its group again: %s", error)
