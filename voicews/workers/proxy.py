"""Proxies: the two ends of a WebSocket that connects a worker here with one on another host.

The wire is Pipecat's: each binary message is one bus message. Between two voicews proxies, which
find each other by a WebSocket subprotocol, there are two messages more: `Hello`, the first on each
socket, and `Received`, as a sign of life; both say how many messages have arrived. So a link that
is cut and comes back goes on where it was: nothing is lost, nothing is delivered twice. With any
other peer a message is delivered at most once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from voicews.exceptions import ConnectFailed, InvalidMessage, NotAllowed
from voicews.signals import EventHandler, EventSource
from voicews.transports.channels import ConsumerSocket
from voicews.transports.client import ClientSocket
from voicews.transports.dialing import (
    FINAL_CLOSE_CODES,
    Backoff,
    ReconnectPolicy,
    check_websocket_url,
    dial,
    public_url,
)
from voicews.transports.writer import Socket
from voicews.workers.messages import (
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusJobResponseUrgentMessage,
    BusLocalMessage,
    BusMessage,
    BusWorkerRegistryMessage,
    JobOver,
    JobStatus,
    Payload,
    WorkerRegistryEntry,
)
from voicews.workers.outbox import Outbox
from voicews.workers.registry import WorkerReadyData
from voicews.workers.serializers import DATA, TYPE, JSONMessageSerializer
from voicews.workers.worker import BaseWorker

logger = logging.getLogger(__name__)

#: The subprotocol by which two voicews proxies know each other, and the header that names a link.
SUBPROTOCOL = "voicews.workers.1"
LINK_HEADER = "x-voicews-link"
HELLO = "voicews.workers.Hello"
RECEIVED = "voicews.workers.Received"
_CONTROL_PREFIX = b'{"__type__":"voicews.workers.'

LOG_INTERVAL_SECS = 1.0
#: The longest pause between two signs of life that a peer may ask for.
MAX_HEARTBEAT_SECS = 60.0
#: How long (seconds) the last messages of a proxy that ends have to leave, and a peer to say bye.
CLOSE_TIMEOUT_SECS = 0.5
OPEN_TIMEOUT_SECS = 10.0
#: So often (messages) a busy link lets others go first.
FAIRNESS_MESSAGES = 64
#: A proxy is part of a deployment: it waits for the other part, however long that is away.
FOR_EVER = ReconnectPolicy(max_failures=None)
#: A peer that has confirmed nothing for so many signs of life is gone.
MISSED_SIGNS = 3


class ProxyWorker(BaseWorker):
    """What both proxies are.

    * Out go messages whose target is `remote`, and those of the types `forward_messages` whose
      source is `local`; never a `BusLocalMessage`.
    * In come messages whose target is `local`, those of the types `forward_messages` without
      another target, and the announcement of `remote`. Anything else is refused and counted.

    What can't leave waits, in a queue of `max_queued_messages`: the oldest data messages make room
    for new ones, system messages go first and are dropped last. Nobody on the bus ever waits.

    A link that is lost for good fails the jobs that were under way over it: who asked gets an
    error, who works on it a cancel.
    """

    events: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        name: str,
        *,
        local: str,
        remote: str,
        forward_messages: tuple[type[BusMessage], ...] = (),
        serializer: JSONMessageSerializer | None = None,
        active: bool = True,
        max_queued_messages: int = 1000,
        heartbeat_secs: float = 5.0,
        write_timeout_secs: float = 10.0,
        max_invalid_messages: int = 10,
    ) -> None:
        super().__init__(name, active=active)
        self._local = local
        self._remote = remote
        self._forward_messages = forward_messages
        self._serializer = serializer or JSONMessageSerializer()
        self._outbox = Outbox(max_queued_messages)
        self._heartbeat_secs = heartbeat_secs
        self._write_timeout_secs = write_timeout_secs
        self._max_invalid_messages = max_invalid_messages
        self._events = EventSource(self, self.events, role="worker")
        self._socket: Socket | None = None
        self._writer: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        #: Whether the peer speaks our additions, and has said where it is on this socket.
        self._confirms = False
        self._greeted = False
        self._control: bytes | None = None
        self._received = 0
        self._told_received = 0
        self._heard_at = 0.0
        self._asked: dict[str, BusJobRequestMessage] = {}
        self._doing: set[str] = set()
        self._invalid_in_a_row = 0
        self._refusal_logged_at = float("-inf")
        self._remote_runner = ""
        self._peer_heartbeat_secs = 0.0
        #: Messages written, and bus messages let in; after a resumed link, written again counts.
        self.sent_messages = 0
        self.received_messages = 0
        #: Messages of the remote that were not let in, and ours that can't be written.
        self.refused_messages = 0

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    @property
    def dropped_messages(self) -> int:
        """Messages to the remote that were dropped: the queue was full, or the link was lost."""
        return self._outbox.dropped_messages

    @property
    def queued_messages(self) -> int:
        """Messages that wait to be sent."""
        return len(self._outbox)

    def event_handler(self, name: str) -> Any:
        """Decorator: call a function for each event `name` of this proxy.

        Raises `ConfigurationError` for an event that it doesn't have.
        """

        def connect(handler: EventHandler) -> EventHandler:
            self._events.connect(name, handler)
            return handler

        return connect

    # --- out ------------------------------------------------------------------------------------

    def deliver(self, message: BusMessage) -> None:
        """Called by the bus for every message: forwards it if it is for the other side."""
        if self._stopped or not self._leaves(message):
            super().deliver(message)
        elif self.active:
            self._send(message)
        else:
            self._outbox.dropped_messages += 1
            self._not_sent(message)

    def _leaves(self, message: BusMessage) -> bool:
        if isinstance(message, BusLocalMessage):
            return False
        if message.target == self._remote:
            return True
        return isinstance(message, self._forward_messages) and message.source == self._local

    def _send(self, message: BusMessage) -> None:
        try:
            data = self._serializer.serialize(message)
        except InvalidMessage as error:
            self._refuse(f"a {type(message).__name__} of ours can't be written: {error}")
            dropped = [message]
        else:
            dropped = self._outbox.put(message, data)
            self._is_idle.clear()
            self._has_work.set()
        for one in dropped:
            self._not_sent(one)

    def _not_sent(self, message: BusMessage) -> None:
        if isinstance(message, BusJobRequestMessage):
            self._fail_job(message, f"{self.name}: the request could not be sent")

    def _next(self) -> bytes | None:
        if self._control is not None:
            data, self._control = self._control, None
            return data
        entry = self._outbox.take() if self._greeted else None
        if entry is None:
            return None
        message, data = entry
        self.sent_messages += 1
        if isinstance(message, BusJobRequestMessage):
            self._asked[message.job_id] = message
        elif isinstance(message, BusJobCancelMessage):
            self._asked.pop(message.job_id, None)
        elif isinstance(message, JobOver):
            self._doing.discard(message.job_id)
        return data

    async def _write(self, socket: Socket) -> None:
        try:
            while True:
                await self._has_work.wait()
                data = self._next()
                if data is None:
                    self._has_work.clear()
                    self._is_idle.set()
                    continue
                async with asyncio.timeout(self._write_timeout_secs):
                    await socket.send(data)
        except Exception as error:  # noqa: BLE001 - each server has its own for "the peer is gone"
            logger.info("worker %s: can't write: %s", self.name, type(error).__name__)
            socket.abort()

    def _say(self, name: str, **data: Any) -> None:
        control = {TYPE: name, DATA: {"received": self._received, **data}}
        self._control = json.dumps(control, separators=(",", ":")).encode()
        self._told_received = self._received
        self._has_work.set()

    # --- in -------------------------------------------------------------------------------------

    def _take(self, data: str | bytes) -> None:
        """Take one message of the remote. Closes the link when too many in a row are bad."""
        self._heard_at = asyncio.get_running_loop().time()
        try:
            if isinstance(data, str):
                raise InvalidMessage("expected a binary message, found text")
            if self._confirms and data.startswith(_CONTROL_PREFIX):
                self._take_control(data)
                return
            self._received += 1
            message = self._serializer.deserialize(data)
        except InvalidMessage as error:
            self._refuse(str(error))
            self._invalid_in_a_row += 1
            if self._invalid_in_a_row == self._max_invalid_messages:
                self._drop_link(1007, "too many invalid messages")
            return
        self._invalid_in_a_row = 0
        if self._confirms and self._received - self._told_received >= FAIRNESS_MESSAGES:
            self._say(RECEIVED)
        try:
            self._admit(message)
        except NotAllowed as error:
            self._refuse(str(error))
            return
        self.received_messages += 1
        if isinstance(message, BusJobRequestMessage):
            self._doing.add(message.job_id)
        elif isinstance(message, JobOver):
            self._asked.pop(message.job_id, None)
        self.bus.send(message)

    def _admit(self, message: BusMessage) -> None:
        """Raise `NotAllowed` for a message that may not enter."""
        if isinstance(message, BusLocalMessage):
            raise NotAllowed(f"expected a message that may leave, found {type(message).__name__}")
        if isinstance(message, BusWorkerRegistryMessage):
            # One that could announce any worker could take any worker's place.
            names = {entry.name for entry in message.workers}
            if names != {self._remote} or message.runner == self.registry.runner_name:
                raise NotAllowed("expected the remote worker alone to be announced")
            self._remote_runner = message.runner
            return
        forwarded = isinstance(message, self._forward_messages) and message.target is None
        if not forwarded and message.target != self._local:
            raise NotAllowed("expected a message to the local worker, found another target")

    def _take_control(self, data: bytes) -> None:
        try:
            control = json.loads(data)
            name, content = control[TYPE], control[DATA]
            received = content["received"]
            heartbeat_secs = content.get("heartbeat_secs", 0)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise InvalidMessage("expected a Hello or Received") from None
        if type(received) is not int or type(heartbeat_secs) not in (int, float):
            raise InvalidMessage("expected a number of messages received")
        if name == HELLO and not self._greeted:
            self._peer_heartbeat_secs = min(heartbeat_secs, MAX_HEARTBEAT_SECS)
            try:
                self._greet(received, resumed=content.get("resumed") is True)
            except InvalidMessage:
                # The two don't agree on what was sent: there is nothing to go on from.
                self._drop_link(1007, "the link can't be resumed")
                raise
            self._greeted = True
        elif name == RECEIVED and self._greeted:
            self._outbox.confirm(received)
        else:
            raise InvalidMessage("expected one Hello, then Received")
        self._has_work.set()

    def _greet(self, received: int, *, resumed: bool) -> None:
        """The peer has said where it is."""
        if resumed:
            self._outbox.confirm(received)
            self._outbox.rewind()
        else:
            self._restart_link()

    def _refuse(self, why: str) -> None:
        self.refused_messages += 1
        now = asyncio.get_running_loop().time()
        if now - self._refusal_logged_at >= LOG_INTERVAL_SECS:
            self._refusal_logged_at = now
            logger.warning(
                "worker %s: a message was refused: %s (%d so far)",
                self.name,
                why,
                self.refused_messages,
            )

    # --- the link -------------------------------------------------------------------------------

    def _attach(self, socket: Socket, *, confirms: bool) -> None:
        """A socket is there."""
        self._socket = socket
        self._confirms = self._outbox.confirmed = confirms
        self._greeted = not confirms
        self._control = None
        self._invalid_in_a_row = 0
        self._heard_at = asyncio.get_running_loop().time()
        if not confirms:
            self._restart_link()
        self._has_work.set()
        self._writer = asyncio.get_running_loop().create_task(self._write(socket))

    def _detach(self) -> None:
        """The socket is gone."""
        self._socket = None
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        if self._runner is not None:
            self.registry.forget(self._remote, self._remote_runner)

    def _drop_link(self, code: int, reason: str) -> None:
        """Close the socket, whose reader will notice. Does not wait."""
        socket = self._socket
        if socket is None:
            return

        async def close() -> None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_SECS):
                    await socket.close(code, reason)
            except Exception as error:  # noqa: BLE001 - the peer was faster
                logger.debug("worker %s: closing: %s", self.name, type(error).__name__)
            socket.abort()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _restart_link(self) -> None:
        """Count from the beginning: whatever was under way is lost."""
        self._received = self._told_received = 0
        lost = self._outbox.restart()
        if lost:
            logger.warning("worker %s: %d messages were lost", self.name, len(lost))
        asked, self._asked = self._asked, {}
        for request in asked.values():
            self._fail_job(request, f"{self.name}: the connection was lost")
        doing, self._doing = self._doing, set()
        for job_id in doing:
            self.bus.send(
                BusJobCancelMessage(
                    source=self._remote,
                    target=self._local,
                    job_id=job_id,
                    reason="the connection was lost",
                )
            )

    def _fail_job(self, request: BusJobRequestMessage, error: str) -> None:
        self.bus.send(
            BusJobResponseUrgentMessage(
                source=self._remote,
                target=request.source,
                job_id=request.job_id,
                status=JobStatus.ERROR,
                response={"error": error},
            )
        )

    def _give_up(self) -> None:
        """The link will not come back: nothing waits for it any more."""
        for message in self._outbox.clear():
            if isinstance(message, BusJobRequestMessage):
                self._asked[message.job_id] = message
        self._restart_link()

    def _announce(self) -> None:
        """Tell the peer that the local worker is ready."""
        if self._socket is not None and self._local in self.registry.local_workers:
            entry = WorkerRegistryEntry(name=self._local, active=True)
            self._send(
                BusWorkerRegistryMessage(
                    source=self.name, runner=self.registry.runner_name, workers=[entry]
                )
            )

    async def on_worker_ready(self, data: WorkerReadyData) -> None:
        """The local worker is ready."""
        # Before the peer has said where it is, there is nothing to tell it: `_greet` does.
        if data.worker_name == self._local and self._greeted:
            self._announce()

    async def _watch_heartbeat(self, *, close_when_silent: bool) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_secs)
            if self._socket is None or not self._confirms:
                continue
            silent_secs = asyncio.get_running_loop().time() - self._heard_at
            expected_secs = max(self._heartbeat_secs, self._peer_heartbeat_secs)
            if close_when_silent and silent_secs > MISSED_SIGNS * expected_secs:
                logger.warning("worker %s: no sign of life for %.1f s", self.name, silent_secs)
                self._socket.abort()
            elif self._greeted:
                self._say(RECEIVED)

    async def _flush(self) -> None:
        """Let the last messages leave, if they can soon."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECS):
                if self._socket is not None and self._greeted:
                    await self._is_idle.wait()
        except TimeoutError:
            logger.info("worker %s: %d messages stay behind", self.name, len(self._outbox))


class WebSocketProxyClient(ProxyWorker):
    """Connects to the proxy server at `url` while it is active.

    Only messages to `remote_worker_name` leave, only those to `local_worker_name` enter;
    `forward_messages` are types that leave by their source, whatever their target, and may enter.
    `headers` go with the handshake: `{"Authorization": "Bearer ..."}` for a `ProxyConsumer`.

    A link that is lost is opened again as `reconnect` says (None: not at all); meanwhile messages
    wait. After a close with 1000, 1008, 4000, 4001 or 4002, or an HTTP 4xx that means it, and when
    the policy gives up, the proxy is inactive until somebody activates it again.

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
        serializer: JSONMessageSerializer | None = None,
        active: bool = False,
        reconnect: ReconnectPolicy | None = FOR_EVER,
        max_queued_messages: int = 1000,
        max_message_bytes: int = 1024 * 1024,
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
            heartbeat_secs=heartbeat_secs,
            write_timeout_secs=write_timeout_secs,
            max_invalid_messages=max_invalid_messages,
        )
        self._url = check_websocket_url(url, "url")
        self._headers = dict(headers or {})
        self._policy = reconnect
        self._max_message_bytes = max_message_bytes
        self._max_messages_per_sec = max_messages_per_sec
        self._max_messages_burst = max_messages_burst
        self._link_id = ""
        self._linking: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._heartbeat = asyncio.get_running_loop().create_task(
            self._watch_heartbeat(close_when_silent=False)
        )
        await super().start()
        await self.watch_workers(self._local)

    async def stop(self) -> None:
        if self._stopped:
            return
        await self._unlink()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        await super().stop()
        self._events.disconnect_all()

    async def on_activated(self, args: Payload | None) -> None:
        """Connect. Does not wait for it."""
        if self._linking is None or self._linking.done():
            self._linking = asyncio.get_running_loop().create_task(self._link())

    async def on_deactivated(self) -> None:
        """Disconnect."""
        await self._unlink()

    async def _unlink(self) -> None:
        linking, self._linking = self._linking, None
        if linking is not None and not linking.done():
            await self._flush()
            linking.cancel()
            await asyncio.wait([linking])
        if self._runner is not None:
            self._give_up()

    async def _link(self) -> None:
        """Be connected for as long as there is a point."""
        self._link_id = uuid.uuid4().hex
        backoff = None if self._policy is None else Backoff(self._policy)
        loop = asyncio.get_running_loop()
        while True:
            lasted, is_final = 0.0, False
            try:
                websocket = await self._dial()
            except ConnectFailed as error:
                is_final = error.permanent
                logger.warning("worker %s: %s", self.name, error)
                self._events.send("on_connection_failed", error=error)
            else:
                opened_at = loop.time()
                await self._hold(websocket)
                lasted = loop.time() - opened_at
                is_final = websocket.close_code in FINAL_CLOSE_CODES
            delay = None if backoff is None or is_final else backoff.next_delay(lasted)
            if delay is None:
                break
            self._events.send("on_reconnecting", delay_secs=delay)
            await asyncio.sleep(delay)
        self.active = False
        self._give_up()
        await self.send_bus_error_message(f"{public_url(self._url)}: the connection is lost")

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
        if confirms:
            self._say(HELLO, heartbeat_secs=self._heartbeat_secs)
        logger.info("worker %s: connected to %s", self.name, public_url(self._url))
        self._events.send("on_connected", websocket=websocket)
        try:
            await self._read(websocket)
        except ConnectionClosed:
            pass  # the close code tells
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
        burst = float(self._max_messages_burst)
        allowance, checked_at, count = burst, loop.time(), 0
        async for data in websocket:
            self._take(data)
            count += 1
            if count % FAIRNESS_MESSAGES:
                continue
            now = loop.time()
            earned = (now - checked_at) * self._max_messages_per_sec
            allowance = min(burst, allowance + earned) - FAIRNESS_MESSAGES
            checked_at = now
            if allowance < 0:
                await websocket.close(1008, "too many messages")
                return
            await asyncio.sleep(0)

    def _greet(self, received: int, *, resumed: bool) -> None:
        super()._greet(received, resumed=resumed)
        self._announce()

    def _announce(self) -> None:
        # Pipecat's server expects no announcement, and would log a warning for each.
        if self._confirms:
            super()._announce()


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

    def __init__(
        self,
        name: str,
        *,
        websocket: Any,
        worker_name: str,
        remote_worker_name: str,
        forward_messages: tuple[type[BusMessage], ...] = (),
        serializer: JSONMessageSerializer | None = None,
        confirms: bool = False,
        resume_secs: float = 30.0,
        max_queued_messages: int = 1000,
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
            heartbeat_secs=heartbeat_secs,
            write_timeout_secs=write_timeout_secs,
            max_invalid_messages=max_invalid_messages,
        )
        self._websocket = websocket
        self._speaks_ours = confirms
        self._resume_secs = resume_secs
        self._resumed = False
        self._gone_timer: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def ready(self) -> None:
        """Wait until it takes messages: it has been added to a runner that runs."""
        await self._ready.wait()

    def receive(self, data: str | bytes) -> None:
        """Take one message of the client."""
        if self._socket is not None:
            self._take(data)

    def disconnect(self, code: int, websocket: Any = None) -> None:
        """The socket is gone, with this close code; `websocket` tells which, after a `resume`."""
        if self._socket is None or websocket not in (None, self._websocket):
            return
        self._detach()
        self._events.send("on_client_disconnected", websocket=self._websocket)
        if self._confirms and code not in (1000, 1001):
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
            self._drop_link(4001, "replaced by another connection")
            self._detach()
            self._events.send("on_client_disconnected", websocket=self._websocket)
        self._websocket = websocket
        self._resumed = True
        self._join()
        return True

    async def start(self) -> None:
        self._heartbeat = asyncio.get_running_loop().create_task(
            self._watch_heartbeat(close_when_silent=True)
        )
        await super().start()
        self._join()
        self._ready.set()
        await self.watch_workers(self._local)

    async def stop(self) -> None:
        if self._stopped:
            return
        if self._gone_timer is not None:
            self._gone_timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._finished.set()
        if self._socket is not None:
            await self._flush()
            socket = self._socket
            if socket is not None:
                self._drop_link(1000, "the worker has ended")
                self._detach()
                self._events.send("on_client_disconnected", websocket=self._websocket)
        if self._runner is not None:
            self._give_up()
        await super().stop()
        self._events.disconnect_all()

    def _leaves(self, message: BusMessage) -> bool:
        return message.source == self._local and super()._leaves(message)

    def _join(self) -> None:
        self._attach(ConsumerSocket(self._websocket), confirms=self._speaks_ours)
        self._events.send("on_client_connected", websocket=self._websocket)

    def _greet(self, received: int, *, resumed: bool) -> None:
        # The client asks, we know.
        self._say(HELLO, heartbeat_secs=self._heartbeat_secs, resumed=self._resumed)
        super()._greet(received, resumed=self._resumed)
        self._announce()
