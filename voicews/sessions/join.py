"""How a socket gets into a session, be it a browser's or a telephone provider's."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from voicews.close_codes import CloseCode
from voicews.conf import Policy
from voicews.exceptions import Busy, NotAllowed, Replaced
from voicews.sessions.live import LiveSession, LiveSessions, SessionConnection, SessionSocket
from voicews.sessions.rules import SocketState
from voicews.sessions.store import ClaimResult, Client
from voicews.sessions.takeover import Takeovers

logger = logging.getLogger(__name__)

#: A socket that wants a session which another one holds must say something by then (seconds).
FIRST_MESSAGE_TIMEOUT_SECS = 10.0
#: What it says while its claim is under way: enough for a greeting, not for audio.
MAX_PENDING_MESSAGES = 64
MAX_PENDING_BYTES = 64 * 1024


class Joiner(Protocol):
    """What a join asks of the consumer whose socket it is."""

    def start_session(self, answer: ClaimResult) -> LiveSession:
        """Begin to run the session in this process, which has just got it. Does not wait."""

    def session_socket(self) -> SessionSocket:
        """The socket, as the session's transport sees it."""

    def joined(self, connection: SessionConnection) -> None:
        """What the socket says goes to the session from now on."""

    def drop(self, code: int, reason: str) -> None:
        """Close the socket. Does not wait."""


class Join:
    """One socket's way into a session: see `SocketState` for its steps.

    `arrive` asks for the session on behalf of a socket that has said nothing; `enter` begins to
    feed the bot, if it got it. Otherwise the first message is a claim: `receive` takes it. What the
    database has granted is run, even if the socket is gone by then: its session then waits for the
    client, or ends, as if the socket had been lost a moment later. With `once`, the session must
    not have had a client before.
    """

    def __init__(
        self,
        takeovers: Takeovers,
        live_sessions: LiveSessions,
        joiner: Joiner,
        session_id: UUID,
        client: Client,
        policy: Policy,
        *,
        once: bool = False,
    ) -> None:
        self.state = SocketState.SILENT
        self.session_id = session_id
        self.client = client
        self.policy = policy
        self.news = asyncio.Event()
        self.is_overtaken = False
        self._takeovers = takeovers
        self._live_sessions = live_sessions
        self._joiner = joiner
        self._once = once
        self._granted: tuple[LiveSession, ClaimResult]
        self._pending: deque[str | bytes] = deque()
        self._pending_bytes = 0
        self._claiming: asyncio.Task[None] | None = None
        self._close_code: int = CloseCode.ABNORMAL

    async def arrive(self, max_per_user: int | None) -> bool:
        """Ask for the session; False if a client is there, or in another process.

        Raises `NotAllowed` if it has ended, `Busy` if its user has `max_per_user` others.
        """
        return await self._takeovers.arrive(self, max_per_user)

    def enter(self) -> bool:
        """Begin to feed the bot, now that the socket has been accepted. False if it may not yet.

        Raises `Replaced` if another one got the session meanwhile, `NotAllowed` if it has ended.
        """
        if self.state is SocketState.ADMITTED:
            self._joiner.joined(self._attach())
        elif self.state is SocketState.SILENT:
            asyncio.get_running_loop().call_later(FIRST_MESSAGE_TIMEOUT_SECS, self._check_joined)
        return self.state is SocketState.ACTIVE

    def receive(self, data: str | bytes) -> None:
        """Take a message of a socket that is not in: its first one, which is valid, is a claim."""
        if self.state is SocketState.CLOSED:
            return
        if self.state is SocketState.SILENT:
            self.state = SocketState.CLAIMING
            self._claiming = asyncio.get_running_loop().create_task(self._claim())
        elif (
            len(self._pending) >= MAX_PENDING_MESSAGES
            or self._pending_bytes + len(data) > MAX_PENDING_BYTES
        ):
            return
        self._pending.append(data)
        self._pending_bytes += len(data)

    async def leave(self, close_code: int) -> None:
        """The socket is gone."""
        was, self.state = self.state, SocketState.CLOSED
        self._close_code = close_code
        self.overtake()
        if self._claiming is not None:
            await asyncio.wait([self._claiming])
        elif was is SocketState.ADMITTED:
            self._attach_and_leave()

    # --- as a claimant ----------------------------------------------------------------------------

    def overtake(self) -> None:
        """A newer socket wants the session."""
        self.is_overtaken = True
        self.news.set()

    def admit(self, answer: ClaimResult) -> None:
        """The session is this socket's: called under its lock."""
        if self._once and not answer.first:
            raise NotAllowed("token was used before")
        live = self._live_sessions.get(self.session_id) or self._joiner.start_session(answer)
        live.epoch = answer.epoch
        self._granted = live, answer
        if self.state is not SocketState.CLOSED:
            self.state = SocketState.ADMITTED
        elif self._claiming is None:
            self._attach_and_leave()

    # --- steps ------------------------------------------------------------------------------------

    def _attach(self) -> SessionConnection:
        live, answer = self._granted
        if live.epoch != answer.epoch:
            raise Replaced
        connection = live.attach(self._joiner.session_socket(), answer)
        if self.state is not SocketState.CLOSED:
            self.state = SocketState.ACTIVE
        return connection

    def _attach_and_leave(self) -> None:
        with suppress(Replaced, NotAllowed):
            self._attach().disconnect(self._close_code)

    async def _claim(self) -> None:
        try:
            await self._takeovers.claim(self)
            connection = self._attach()
        except Exception as error:  # noqa: BLE001 - `refusal` logs what is unexpected
            self._joiner.drop(*refusal(error, f"call {self.session_id}: a client could not get in"))
            return
        while self._pending:
            await connection.receive(self._pending.popleft())
        self._joiner.joined(connection)
        if self.state is SocketState.CLOSED:
            connection.disconnect(self._close_code)

    def _check_joined(self) -> None:
        if self.state is SocketState.SILENT:
            self._joiner.drop(
                CloseCode.NOT_ALLOWED, f"no message within {FIRST_MESSAGE_TIMEOUT_SECS:g} s"
            )


def refusal(error: Exception, unexpected: str) -> tuple[int, str]:
    """The close code and the reason for a socket that can't join; logs what is our own fault."""
    if isinstance(error, Replaced):
        return CloseCode.REPLACED, str(error)
    if isinstance(error, NotAllowed):
        return CloseCode.NOT_ALLOWED, str(error)
    if isinstance(error, Busy):
        return error.close_code, str(error)
    logger.error("%s", unexpected, exc_info=error)
    return CloseCode.SERVER_ERROR, "server error"
