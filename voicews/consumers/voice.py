"""Channels consumers that carry voice."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, ClassVar

from django.contrib.auth.models import AnonymousUser

from voicews.bots import Bot
from voicews.close_codes import CloseCode
from voicews.conf import Policy, settings
from voicews.consumers.base import SocketConsumer
from voicews.exceptions import Busy, ConfigurationError, InvalidMessage, NotAllowed, Replaced
from voicews.models import VoiceSession
from voicews.permissions import may_connect
from voicews.pipeline import Pipeline, PipelineTask
from voicews.sessions import admit, bot_ready_extras, live_sessions
from voicews.sessions.live import LiveSession, SessionSocket, SessionTransport
from voicews.sessions.process import Process, this_process
from voicews.sessions.store import ClaimResult, Client
from voicews.sessions.takeover import Claimant
from voicews.transports import (
    ChannelsWebsocketParams,
    ChannelsWebsocketTransport,
    WebsocketServerTransport,
)
from voicews.transports.base import Connection

logger = logging.getLogger(__name__)

#: A socket that wants a session which another one holds must say something by then (seconds).
FIRST_MESSAGE_TIMEOUT_SECS = 10.0
#: What it says while its claim is under way: enough for a greeting, not for audio.
MAX_PENDING_MESSAGES = 64


class VoiceConsumer(SocketConsumer):
    """One socket, one call. Set `bot`, or build a pipeline of your own:

    class Support(VoiceConsumer):
        def build_pipeline(self, transport):
            return Pipeline([transport.input(), MyProcessor(), transport.output()])
    """

    #: The bot: a class, or its name in `VOICEWS["BOTS"]`.
    bot: ClassVar[str | type[Bot] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection: Connection | None = None
        self.task: PipelineTask | None = None

    # --- what subclasses override ---------------------------------------------------------------

    async def authorize(self) -> None:
        """Raise `NotAllowed` if this socket may not be opened; its text goes to the client.

        The default asks the setting `MAY_CONNECT`, with the user that Channels'
        `AuthMiddlewareStack` found.
        """
        user = self.scope.get("user") or AnonymousUser()
        name = self.bot if isinstance(self.bot, str) else ""
        if not await may_connect(user, name, self.scope):
            raise NotAllowed("you may not connect to this bot")

    def build_bot(self) -> Bot | None:
        """The bot of this call; None if `build_pipeline` does without."""
        if isinstance(self.bot, str):
            return load_bot(self.bot)()
        return self.bot() if self.bot is not None else None

    def transport_params(self, bot: Bot | None) -> ChannelsWebsocketParams:
        """The transport's parameters for this call."""
        if bot is not None:
            return bot.transport_params()
        return ChannelsWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, audio_out_auto_silence=False
        )

    def build_pipeline(self, transport: WebsocketServerTransport) -> Pipeline:
        """The processors of this call, where there is no bot."""
        raise ConfigurationError(f"{type(self).__name__} has neither a bot nor a pipeline")

    # --- as in Channels -------------------------------------------------------------------------

    async def connect(self) -> None:
        """Accept the socket and start the pipeline. Raises `NotAllowed` to refuse it."""
        await self.authorize()
        bot = self.build_bot()
        params = self.transport_params(bot)
        self.check_origin(params.allowed_origins)
        transport = ChannelsWebsocketTransport(self, params)
        task = self.build_task(bot, transport, f"{id(self):x}")
        await self.accept()
        self.task = task
        task.start()
        self.connection = transport.connection

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take one message."""
        data = text_data if bytes_data is None else bytes_data
        if self.connection is not None and data is not None:
            await self.connection.receive(data)

    def receive_now(self, data: str | bytes) -> bool:
        if self.connection is None:
            return False
        self.connection.receive_now(data)
        return True

    async def disconnect(self, code: int) -> None:
        """The socket is gone."""
        if self.connection is not None:
            self.connection.disconnect(code)
        if self.task is not None:
            # Also when one of the processors kept to itself that the client has left.
            self.task.cancel("client left", code)
            await self.task.wait()

    # --- the machinery --------------------------------------------------------------------------

    def build_task(
        self, bot: Bot | None, transport: WebsocketServerTransport, call_id: str
    ) -> PipelineTask:
        """The pipeline of one call, ready to start."""
        if bot is None:
            pipeline = self.build_pipeline(transport)
        else:
            pipeline = bot.build_pipeline(transport, self.bot_ready_extras())
        return PipelineTask(pipeline, call_id=call_id)

    def bot_ready_extras(self) -> Any:
        """A function that returns what `bot-ready` says on top of the standard."""
        return lambda: {"voicews": {}}

    def drop(self, code: int, reason: str) -> None:
        if self.connection is not None:
            self.connection.drop(code, reason)
        else:
            super().drop(code, reason)


class SessionConsumer(VoiceConsumer):
    """The app's own socket: joins the session in its URL, if its token opens that.

    The session's pipeline outlives the socket: a client that lost it may come back within
    `RECONNECT_GRACE_SECS`, in whichever server process. A client that comes while another one is
    there is considered at its first valid message, so that a stray socket evicts nobody; then
    `takeover` decides.
    """

    #: "replace" or "reject"; None takes the setting `TAKEOVER`.
    takeover: ClassVar[str | None] = None

    session: VoiceSession

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._process: Process
        self._claimant: Claimant
        self._live: LiveSession | None = None
        self._answer: ClaimResult | None = None
        self._candidate: tuple[Bot | None, SessionTransport] | None = None
        self._transport: SessionTransport
        self._claiming: asyncio.Task[None] | None = None
        self._pending: deque[str | bytes] = deque()
        self._gone_code: int | None = None

    async def authorize(self) -> None:
        """The token must open the session; a user who is logged in joins no other user's."""
        token = self.query.get("token", [None])[-1]
        self.session = await admit(self.scope["url_route"]["kwargs"]["session"], token)
        user: Any = self.scope.get("user")
        owner = self.session.user_id
        if owner and user and user.is_authenticated and user.pk != owner:
            raise NotAllowed("the session is another user's")

    def build_bot(self) -> Bot | None:
        """The bot that the session was made for."""
        bot = load_bot(self.session.bot)()
        bot.session = self.session
        return bot

    def transport_params(self, bot: Bot | None) -> ChannelsWebsocketParams:
        return with_time_limits(super().transport_params(bot))

    def bot_ready_extras(self) -> Any:
        return partial(bot_ready_extras, self.session.pk)

    async def connect(self) -> None:
        await self.authorize()
        self._process = this_process()
        live = live_sessions.get(self.session.pk)
        self._transport = live.transport if live is not None else self._build_candidate()
        self.check_origin(self._transport.allowed_origins)
        await self._process.started()
        self._process.check_room(self.session.pk)
        self._claimant = Claimant(
            self.session.pk,
            Client(self.client_address, self.header("user-agent")[:300]),
            Policy(self.takeover or settings.TAKEOVER),
            self._admit,
        )
        await self._process.takeovers.arrive(self._claimant, settings.MAX_SESSIONS_PER_USER)
        await self.accept()
        if self._answer is None:
            asyncio.get_running_loop().call_later(FIRST_MESSAGE_TIMEOUT_SECS, self._check_joined)
            return
        try:
            self.connection = self._attach()
        except Replaced as error:
            self.drop(CloseCode.REPLACED, str(error))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        data = text_data if bytes_data is None else bytes_data
        if data is None:
            return
        if self.connection is not None:
            # Nothing reaches the bot of a session that may be another process's by now.
            if self._process.lease.is_valid(monotonic()):
                await self.connection.receive(data)
            return
        if self._claiming is None and self._answer is None:
            try:
                self._transport.check_message(data)
            except InvalidMessage as error:
                self.drop(CloseCode.BAD_DATA, str(error))
                return
            self._claiming = asyncio.get_running_loop().create_task(self._claim())
        if len(self._pending) < MAX_PENDING_MESSAGES:
            self._pending.append(data)

    def receive_now(self, data: str | bytes) -> bool:
        if self.connection is None:
            return False
        if self._process.lease.is_valid(monotonic()):
            self.connection.receive_now(data)
        return True

    async def disconnect(self, code: int) -> None:
        self._gone_code = code
        if self._claiming is not None:
            self._claimant.overtake()
            await asyncio.wait([self._claiming])
        elif self._answer is not None and self.connection is None:
            # It got in, but was gone before it could be let in: as if it had been there.
            with suppress(Replaced, NotAllowed):
                self.connection = self._attach()
        await super().disconnect(code)

    # --- claims ---------------------------------------------------------------------------------

    def _admit(self, answer: ClaimResult) -> None:
        """The session is this socket's: called under its lock."""
        self._live = live_sessions.get(self.session.pk) or self._start(answer)
        self._live.epoch = answer.epoch
        self._answer = answer

    def _attach(self) -> Connection:
        """Begin to feed the bot. Raises `Replaced` if another one got the session meanwhile."""
        assert self._live is not None
        assert self._answer is not None
        if self._live.epoch != self._answer.epoch:
            raise Replaced
        return self._live.attach(SessionSocket(self, self._process.lease), self._answer)

    async def _claim(self) -> None:
        try:
            await self._process.takeovers.claim(self._claimant)
            connection = self._attach()
        except Replaced as error:
            self.drop(CloseCode.REPLACED, str(error))
        except Busy as error:
            self.drop(error.close_code, str(error))
        except NotAllowed as error:
            self.drop(CloseCode.NOT_ALLOWED, str(error))
        except Exception:
            logger.exception("call %s: a client could not get in", self.session.pk)
            self.drop(CloseCode.SERVER_ERROR, "server error")
        else:
            while self._pending:
                await connection.receive(self._pending.popleft())
            self.connection = connection
            if self._gone_code is not None:
                connection.disconnect(self._gone_code)

    def _check_joined(self) -> None:
        if self._claiming is None and self.connection is None:
            self.drop(CloseCode.NOT_ALLOWED, f"no message within {FIRST_MESSAGE_TIMEOUT_SECS:g} s")

    # --- building -------------------------------------------------------------------------------

    def _build_candidate(self) -> SessionTransport:
        bot = self.build_bot()
        transport = SessionTransport(self.transport_params(bot))
        self._candidate = (bot, transport)
        return transport

    def _start(self, answer: ClaimResult) -> LiveSession:
        """The session's pipeline, in this process from now on."""
        row = answer.session
        assert row is not None
        row.user = self.session.user
        self.session = row
        if self._candidate is None:
            self._build_candidate()
        assert self._candidate is not None
        bot, transport = self._candidate
        if bot is not None:
            bot.session = row
            if row.bot_state and not answer.first:
                bot.resume_from(row.bot_state)
        task = self.build_task(bot, transport, str(row.pk))
        live = LiveSession(row, self._process.id, bot, transport, task)
        live_sessions.add(live)
        return live


def load_bot(name: str) -> type[Bot]:
    """The class of the bot `name`. Raises `ConfigurationError` if the settings name none."""
    found = settings.bot(name)
    if found is None:
        raise ConfigurationError(f"VOICEWS BOTS: expected a bot {name!r}, found none")
    return found.load()


def with_time_limits(params: ChannelsWebsocketParams) -> ChannelsWebsocketParams:
    """The parameters of a session's transport, with the settings' limits where they have none."""
    if params.session_timeout is None:
        params.session_timeout = settings.SESSION_TIMEOUT_SECS
    if params.idle_timeout is None:
        params.idle_timeout = settings.IDLE_TIMEOUT_SECS
    if params.reconnect_grace is None:
        params.reconnect_grace = settings.RECONNECT_GRACE_SECS
    return params
