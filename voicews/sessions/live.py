"""The sessions that live in this process: their pipelines, and the clients that come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakValueDictionary

from django.db import Error as DatabaseError
from django.utils import timezone

from voicews import signals
from voicews.close_codes import CLIENT_IS_DONE, CloseCode
from voicews.exceptions import NotAllowed
from voicews.models import SessionEvent, VoiceSession
from voicews.sessions import store
from voicews.sessions.bot_state import BotState
from voicews.sessions.db_threads import retry_until_stored, session_database
from voicews.sessions.event_log import record_event, send_signal
from voicews.sessions.rules import Lease, LiveState
from voicews.sessions.store import ClaimResult, Figures
from voicews.sessions.transcript import TranscriptRecorder
from voicews.transports.base import Connection, TransportState
from voicews.transports.channels import ConsumerSocket
from voicews.transports.server import WebsocketServerTransport
from voicews.transports.writer import SocketWriter

if TYPE_CHECKING:
    from channels.generic.websocket import AsyncWebsocketConsumer

    from voicews.bots import Bot
    from voicews.pipeline import PipelineTask

logger = logging.getLogger(__name__)

Kind, Actor = SessionEvent.Kind, SessionEvent.Actor

#: How long the figures of a socket wait, when the session has gone on without it.
FIGURES_DELAY_SECS = 0.25
#: How long the end of a session waits for what its bot does at the end.
LAST_WORD_SECS = 1.0


class SessionSocket(ConsumerSocket):
    """A client's socket, mute while its process can't be sure that the session is its own."""

    def __init__(self, consumer: AsyncWebsocketConsumer, lease: Lease) -> None:
        super().__init__(consumer)
        self._lease = lease

    @property
    def is_mute(self) -> bool:
        """Whether nothing may pass, in or out: asked for each message."""
        return not self._lease.is_valid(monotonic())

    def send(self, data: str | bytes) -> Awaitable[None]:
        return asyncio.sleep(0) if self.is_mute else super().send(data)

    def send_now(self, data: str | bytes) -> bool:
        return True if self.is_mute else super().send_now(data)


class SessionConnection(Connection):
    """A client's hold on a session: what came through its socket, and the row for that."""

    __slots__ = ("_socket", "row_id")

    def __init__(
        self, transport: SessionTransport, writer: SocketWriter, socket: SessionSocket
    ) -> None:
        super().__init__(transport, writer)
        self._socket = socket
        #: Of the `VoiceConnection`, once the claim that it got in with is known.
        self.row_id: UUID | None = None

    def figures(self, close_code: int | None = None, reason: str = "") -> Figures:
        """What went through the client's socket, and how it ended."""
        return Figures(
            close_code,
            reason,
            self.messages_in,
            self.writer.messages_out,
            self.bytes_in,
            self.writer.bytes_out,
            self.invalid_messages,
        )

    def _take(self, data: str | bytes) -> bool:
        # Nothing reaches the bot of a session that may be another process's by now.
        return False if self._socket.is_mute else super()._take(data)


class SessionTransport(WebsocketServerTransport):
    """A server transport that notifies its session when a client has disconnected."""

    client_left: Callable[[SessionConnection, int], None] | None = None

    def join(self, socket: SessionSocket) -> SessionConnection:
        """A client has connected; a client that was connected before is closed with 4001."""
        connection = self.connect(socket)
        assert isinstance(connection, SessionConnection)
        return connection

    def _new_connection(self, writer: SocketWriter) -> Connection:
        assert isinstance(writer.socket, SessionSocket)
        return SessionConnection(self, writer, writer.socket)

    def _client_left(self, connection: Connection, code: int) -> None:
        super()._client_left(connection, code)
        if self.client_left is not None:
            assert isinstance(connection, SessionConnection)
            self.client_left(connection, code)


class LiveSession:
    """One session's pipeline in this process, from its first client here to its end here."""

    def __init__(
        self,
        row: VoiceSession,
        process: UUID,
        bot: Bot | None,
        transport: SessionTransport,
        task: PipelineTask,
    ) -> None:
        self.row = row
        self.bot = bot
        self.transport = transport
        self.task = task
        self.state = LiveState.RUNNING
        #: The claim that this process holds the session with.
        self.epoch = 0
        #: The client that is there.
        self.connection: SessionConnection | None = None
        self.process = process
        self._bot_state = BotState(row, bot)
        self._tasks: set[asyncio.Task[Any]] = set()
        transport.client_left = self._client_left

    @property
    def has_client(self) -> bool:
        return self.connection is not None

    @property
    def silent_secs(self) -> float:
        """Seconds since the client's last message; infinite without a client."""
        connection = self.connection
        return monotonic() - connection.heard_at if connection is not None else float("inf")

    def start(self) -> None:
        """Start the pipeline."""
        self.task.start()
        # A phone call can't come back: the saved state would never be used.
        if self.bot is not None and self.row.kind != VoiceSession.Kind.PHONE:
            interval_secs = self.bot.saves_state_every_secs
            if interval_secs:
                self._spawn(self._keep_saving(interval_secs))

    def attach(self, socket: SessionSocket, answer: ClaimResult) -> SessionConnection:
        """A client got in; a client that was connected before is closed with 4001.

        Raises `NotAllowed` if the call has just ended.
        """
        if self.state is not LiveState.RUNNING or self.transport.state >= TransportState.CLOSING:
            raise NotAllowed("the session has ended")
        replaced = self.connection is not None
        connection = self.connection = self.transport.join(socket)
        connection.row_id = answer.connection
        self._tell_attached(answer, replaced=replaced)
        return connection

    def _tell_attached(self, answer: ClaimResult, *, replaced: bool) -> None:
        row = self.row
        if answer.first:
            record_event(row, Kind.CONNECTED, Actor.CLIENT)
            send_signal(signals.session_started, VoiceSession, session=row)
            return
        if replaced:
            record_event(row, Kind.REPLACED, Actor.CLIENT, close_code=CloseCode.REPLACED)
            send_signal(signals.session_replaced, VoiceSession, session=row)
        record_event(row, Kind.RESUMED, Actor.CLIENT, detail=store.PROCESS_LOST * answer.after_loss)
        send_signal(signals.session_resumed, VoiceSession, session=row)

    # --- ways to go -----------------------------------------------------------------------------

    def _client_left(self, connection: SessionConnection, code: int) -> None:
        if self.connection is connection:
            self.connection = None
        if connection.row_id is None:
            return
        reason = "replaced by another connection" if code == CloseCode.REPLACED else ""
        figures = connection.figures(code, reason)
        if code == CloseCode.REPLACED or self.state is not LiveState.RUNNING:
            self._spawn(self._store_figures(connection.row_id, figures))
            return
        if code not in CLIENT_IS_DONE:
            record_event(self.row, Kind.INTERRUPTED, close_code=code)
            send_signal(
                signals.session_interrupted, VoiceSession, session=self.row, close_code=code
            )
        self._spawn(self._store_client_left(connection.row_id, figures))

    async def _store_figures(self, connection_id: UUID, figures: Figures) -> None:
        # Another job may wait for the session's row now, and a database may have one writer only.
        await asyncio.sleep(FIGURES_DELAY_SECS)
        await retry_until_stored(partial(store.store_figures, connection_id, figures))

    async def _store_client_left(self, connection_id: UUID, figures: Figures) -> None:
        epoch = self.epoch
        async with self._bot_state.lock:
            state = await self._bot_state.take()
            close = partial(
                store.close_connection, self.row.pk, connection_id, figures, self.process, epoch
            )
            if await self._store_with(state, close):
                self._bot_state.stored = state

    async def _keep_saving(self, interval_secs: float) -> None:
        """Store what has changed in the bot's state now and then, as this process may be killed."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_secs):
                    await self.task.wait_ended()
                    return
            async with self._bot_state.lock:
                if self.state is LiveState.RUNNING:
                    await self._save_state()

    async def _save_state(self) -> None:
        state = await self._bot_state.take()
        if state is None or state == self._bot_state.stored:
            return
        job = partial(store.save_bot_state, self.row.pk, self.process, self.epoch, state)
        try:
            if await session_database.run(job):
                self._bot_state.stored = state
        except (DatabaseError, ValueError) as error:
            # Not its text: that may quote the state.
            logger.warning(
                "call %s: the bot's state could not be stored: %s",
                self.row.pk,
                type(error).__name__,
            )

    async def _store_with(
        self, state: dict[str, Any] | None, job: Callable[[dict[str, Any] | None], bool]
    ) -> bool:
        """Run a job that stores the bot's state too; without it if the database takes it never."""
        try:
            return await retry_until_stored(partial(job, state))
        except (DatabaseError, ValueError) as error:
            logger.warning(
                "call %s: the bot's state is lost: %s", self.row.pk, type(error).__name__
            )
            return await retry_until_stored(partial(job, None))

    async def release(self, code: int, reason: str, grace_secs: float) -> bool:
        """Let the session go on elsewhere: under its lock. False if it had been lost before."""
        if self.state is not LiveState.RUNNING:
            return False
        self.state = LiveState.RELEASING
        self.transport.drop_client(code, reason)
        async with self._bot_state.lock:
            state = await self._bot_state.take()
            if self.bot is not None:
                self.bot.mark_migrating()
            self.task.cancel(reason, code)
            let_go = partial(
                store.release, self.row.pk, self.process, self.epoch, grace_secs=grace_secs
            )
            released = await self._store_with(state, let_go)
        self.state = LiveState.RELEASED
        if released:
            record_event(self.row, Kind.MOVED, close_code=code, detail=reason)
            send_signal(signals.session_released, VoiceSession, session=self.row, reason=reason)
        return released

    def abandon(self) -> None:
        """The session is another process's: stop, and store nothing."""
        if self.state is not LiveState.RUNNING:
            return
        self.state = LiveState.RELEASED
        self.transport.drop_client(CloseCode.REPLACED, "replaced by another connection")
        if self.bot is not None:
            self.bot.mark_migrating()
        self.task.cancel("moved", CloseCode.REPLACED)

    def end(self, close_code: int, reason: str) -> None:
        """End the call at once. Does not wait."""
        self.task.cancel(reason, close_code)

    async def wait(self) -> None:
        """Wait until nothing of it is left here."""
        await self.task.wait()
        await self.transport.wait_closed()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class LiveSessions:
    """All of them; touched on the event loop only."""

    def __init__(self) -> None:
        self._sessions: dict[UUID, LiveSession] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Any:
        return iter(list(self._sessions.values()))

    def get(self, session_id: UUID) -> LiveSession | None:
        """The live session of that id, if its bot runs here."""
        live = self._sessions.get(session_id)
        return live if live is not None and live.state is LiveState.RUNNING else None

    def is_ending(self, session_id: UUID) -> bool:
        """Whether it has ended here, and the database is about to know."""
        live = self._sessions.get(session_id)
        return live is not None and live.state is LiveState.ENDED

    def lock(self, session_id: UUID) -> asyncio.Lock:
        """Held while the session's owner changes: one step at a time."""
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    def add(self, live: LiveSession) -> None:
        """Start a session's pipeline and watch over it to its end."""
        self._sessions[live.row.pk] = live
        if live.bot is not None:
            recorder = TranscriptRecorder(live.row)
            recorder.call_id = live.task.call_id
            recorder.attach(live.bot)
        watcher = asyncio.get_running_loop().create_task(self._watch(live))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        live.start()

    async def wait_empty(self, timeout_secs: float) -> None:
        """Wait until no call is left, or for so long."""
        if self._watchers:
            await asyncio.wait(self._watchers, timeout=timeout_secs)

    async def _watch(self, live: LiveSession) -> None:
        session_id = live.row.pk
        try:
            await live.task.wait_ended()
            if live.state is LiveState.RUNNING:
                live.state = LiveState.ENDED
                # The bot's last word comes first, but a slow one does not keep the session open.
                with suppress(TimeoutError):
                    await asyncio.wait_for(live.task.wait(), LAST_WORD_SECS)
                async with self.lock(session_id):
                    await self._end(live)
            else:
                # Releasing it holds the lock until it is stored.
                async with self.lock(session_id):
                    pass
        finally:
            if self._sessions.get(session_id) is live:
                del self._sessions[session_id]
        await live.wait()

    async def _end(self, live: LiveSession) -> None:
        figures = Figures(live.task.close_code, live.task.reason)
        await end_in_database(live.row.pk, live.process, live.epoch, figures, live.row)


async def end_in_database(
    session_id: UUID,
    process: UUID,
    epoch: int | None,
    figures: Figures,
    row: VoiceSession | None = None,
) -> None:
    """Have it stored that a session has ended, and announce it: under its lock.

    Nothing is announced if the session was not this process's by the claim `epoch` (None: any).
    """
    end = partial(store.end, session_id, process, epoch, at=timezone.now())
    try:
        ended_at = await retry_until_stored(partial(end, figures))
    except (DatabaseError, ValueError) as error:
        # Whatever is wrong with how it ended: that it has ended must be known.
        logger.warning(
            "call %s: how it ended can't be stored: %s", session_id, type(error).__name__
        )
        figures = Figures(CloseCode.SERVER_ERROR)
        ended_at = await retry_until_stored(partial(end, figures))
    if ended_at is None:
        return
    if row is None:
        row = await retry_until_stored(partial(store.load_session, session_id))
    row.state, row.ended_at = VoiceSession.State.ENDED, ended_at
    row.close_code, row.end_reason = figures.close_code, figures.reason[:200]
    announce_end(row)


def announce_end(row: VoiceSession) -> None:
    """A session has ended, and this process is the one that reports it."""
    code, reason = row.close_code, row.end_reason
    actor = _ENDED_BY.get(code or 0, Actor.SERVER)
    if code == CloseCode.SESSION_TIMEOUT:
        record_event(row, Kind.TIMEOUT, detail=reason)
    record_event(row, Kind.ENDED, actor, close_code=code, detail=reason)
    send_signal(signals.session_ended, VoiceSession, session=row, close_code=code, reason=reason)


_ENDED_BY: dict[int, SessionEvent.Actor] = {
    CloseCode.NORMAL: Actor.BOT,
    CloseCode.GOING_AWAY: Actor.CLIENT,
    CloseCode.NO_STATUS: Actor.CLIENT,
    CloseCode.ENDED_BY_OPERATOR: Actor.OPERATOR,
}

live_sessions = LiveSessions()
