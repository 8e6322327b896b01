"""What happens in a call, as Django signals.

Each is also an event of the transports: `@transport.event_handler("on_client_connected")`
connects a handler to the signal of that name for that one transport; it is offered the arguments
below in their order, and gets the first ones that it takes. Receivers may be plain or async
functions; one that fails is logged and does not affect the others.

All are sent with `sender=transport` and

* `client_connected`, `client_disconnected`, `session_timeout`: `transport`, `websocket`
* `websocket_ready`: `transport`
* `idle_timeout`: `transport`, `websocket`
* `connected`, `disconnected`: `transport`, `websocket`
* `connection_failed`: `transport`, `error` (a `ConnectFailed`)
* `reconnecting`: `transport`, `delay_secs`

Those of a worker proxy are sent with `sender=worker` and `worker` in the place of `transport`.

A session's are sent with `sender=VoiceSession`, in the server process where it happens, and with
`session`, its row as that process knows it:

* `session_started`: its first client got in
* `session_resumed`: a client got in that is not the first: it came back, or took another's place
* `session_replaced`: a client was replaced by another one
* `session_interrupted` (`close_code`): the client is gone and may come back
* `session_released` (`reason`): this process has released it; it goes on in another
* `session_lost` (`session_id` in the place of `session`): the process that ran it is dead
* `session_ended` (`close_code`, `reason`): it is over; sent once, by the process that ended it
* `session_message` (`data`, `operator_id`): an operator has sent the client a message
* `session_transcribed` (`role`, `text`, `heard_ms`, `heard_text`, `interrupted`): a line of the
  transcript; of what the bot says when it is known how much of it was heard, else `heard_ms` is
  None; `heard_text` are the words that were heard of what was interrupted, else None
* `session_listened` (`operator_id`): an operator has begun to listen in; sent by the process that
  the operator is connected with, which knows no more of the row than `pk`

A server process's are sent with `sender=ServerProcess` and `process`, its row:

* `process_suspended`: it can't reach the database, and stops its calls' audio until it can
* `process_resumed`: it can again
* `process_draining`: it takes no new calls, and ends after the last
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from django.dispatch import Signal

from voicews.exceptions import ConfigurationError
from voicews.pipeline.handlers import taking_first_arguments
from voicews.serial_queue import SerialQueue

logger = logging.getLogger(__name__)

__all__ = [
    "client_connected",
    "client_disconnected",
    "connected",
    "connection_failed",
    "disconnected",
    "idle_timeout",
    "process_draining",
    "process_resumed",
    "process_suspended",
    "reconnecting",
    "session_ended",
    "session_interrupted",
    "session_listened",
    "session_lost",
    "session_message",
    "session_released",
    "session_replaced",
    "session_resumed",
    "session_started",
    "session_timeout",
    "websocket_ready",
]

session_started = Signal()
session_resumed = Signal()
session_interrupted = Signal()
session_replaced = Signal()
session_released = Signal()
session_lost = Signal()
session_ended = Signal()
session_message = Signal()
session_listened = Signal()
session_transcribed = Signal()
process_suspended = Signal()
process_resumed = Signal()
process_draining = Signal()

client_connected = Signal()
client_disconnected = Signal()
session_timeout = Signal()
idle_timeout = Signal()
websocket_ready = Signal()
connected = Signal()
disconnected = Signal()
connection_failed = Signal()
reconnecting = Signal()

EVENTS: dict[str, Signal] = {
    "on_client_connected": client_connected,
    "on_client_disconnected": client_disconnected,
    "on_session_timeout": session_timeout,
    "on_idle_timeout": idle_timeout,
    "on_websocket_ready": websocket_ready,
    "on_connected": connected,
    "on_disconnected": disconnected,
    "on_connection_failed": connection_failed,
    "on_reconnecting": reconnecting,
}

#: Receivers may hold up what follows an event, such as the end of the call, for so long.
DELIVERY_TIMEOUT_SECS = 5.0

EventHandler = Callable[..., Awaitable[None] | None]


class EventSource:
    """Sends the events of one transport, in order, without making the sender wait.

    `role` is what receivers get the sender as: `transport` or `worker`.
    """

    def __init__(self, sender: object, names: frozenset[str], role: str = "transport") -> None:
        self._sender = sender
        self._role = role
        self._names = names
        self._receivers: list[tuple[Signal, Callable[..., Any]]] = []
        self._queue = SerialQueue(on_error=_delivery_failed)

    def connect(self, name: str, handler: EventHandler) -> None:
        """Call `handler(sender, *event arguments)` for each event `name` of this sender.

        A handler gets the first arguments that it takes.
        """
        if name not in self._names:
            known = ", ".join(sorted(self._names))
            raise ConfigurationError(f"expected one of the events {known}, found {name!r}")

        call = taking_first_arguments(handler)

        # Async also for a plain handler: Django calls plain receivers in a thread, and a handler
        # is there to do something with the transport, which belongs to the event loop.
        async def receiver(**kwargs: Any) -> None:
            result = call(*_arguments(kwargs))
            if inspect.isawaitable(result):
                await result

        signal = EVENTS[name]
        signal.connect(receiver, sender=self._sender, weak=False)
        self._receivers.append((signal, receiver))

    def send(
        self, name: str, *, on_delivered: Callable[[], None] | None = None, **arguments: Any
    ) -> None:
        """Send an event after those before it.

        `on_delivered` is called when its receivers are done, or have taken `DELIVERY_TIMEOUT_SECS`.
        """
        if self._queue.is_idle and not self._is_heard(name):
            if on_delivered is not None:
                on_delivered()
            return
        if on_delivered is not None:
            on_delivered = _once_or_after_timeout(on_delivered)
        self._queue.put(name, partial(self._deliver, name, arguments, on_delivered))

    def disconnect_all(self) -> None:
        """Forget the handlers once the events sent so far have been delivered."""
        # Not yet: a client that leaves with the call is released, with an event of its own, by
        # the code that ends the call.
        asyncio.get_running_loop().call_soon(self._queue.when_idle, self._disconnect)

    def _disconnect(self) -> None:
        for signal, receiver in self._receivers:
            signal.disconnect(receiver, sender=self._sender)
        self._receivers.clear()

    @property
    def _worker(self) -> asyncio.Task[None] | None:
        return self._queue.task

    def _is_heard(self, name: str) -> bool:
        return EVENTS[name].has_listeners(self._sender)

    async def _deliver(
        self, name: str, arguments: dict[str, Any], on_delivered: Callable[[], None] | None
    ) -> None:
        try:
            await EVENTS[name].asend_robust(
                sender=self._sender, **{self._role: self._sender}, **arguments
            )
        except asyncio.CancelledError:
            # A receiver may give itself up, which is no reason to keep the rest waiting.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        if on_delivered is not None:
            on_delivered()


def _delivery_failed(name: str, error: Exception) -> None:
    logger.error("what follows the event %s failed", name, exc_info=error)


def _once_or_after_timeout(on_delivered: Callable[[], None]) -> Callable[[], None]:
    called = False

    def once() -> None:
        nonlocal called
        timer.cancel()
        if not called:
            called = True
            on_delivered()

    timer = asyncio.get_running_loop().call_later(DELIVERY_TIMEOUT_SECS, once)
    return once


def _arguments(kwargs: dict[str, Any]) -> list[Any]:
    return [value for key, value in kwargs.items() if key not in {"signal", "sender"}]
