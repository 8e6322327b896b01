"""Channels consumers that carry voice."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, ClassVar

from voicews.bots import Bot
from voicews.close_codes import CloseCode
from voicews.conf import Policy, settings
from voicews.consumers.base import SocketConsumer
from voicews.consumers.users import scope_user
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed, Replaced
from voicews.models import VoiceSession
from voicews.permissions import may_connect, refusal
from voicews.pipeline import Pipeline, PipelineTask
from voicews.pipeline.rtvi import RTVIProcessor
from voicews.sessions import admit, bot_ready_extras, live_sessions
from voicews.sessions.join import Join
from voicews.sessions.live import (
    LiveSession,
    SessionConnection,
    SessionSocket,
    SessionTransport,
)
from voicews.sessions.process import Process, this_process
from voicews.sessions.rules import SocketState
from voicews.sessions.store import ClaimResult, Client
from voicews.transports import (
    ChannelsWebsocketParams,
    ChannelsWebsocketTransport,
    WebsocketServerTransport,
)
from voicews.transports.base import Connection

logger = logging.getLogger(__name__)


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

        The default asks the setting `MAY_CONNECT`, with the user that a middleware of the route
        found, or that is logged in.
        """
        user = await scope_user(self.scope)
        name = self.bot if isinstance(self.bot, str) else ""
        if not await may_connect(user, name, self.scope):
            raise NotAllowed(refusal(user))

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
            pipeline = self._with_rtvi(self.build_pipeline(transport), transport)
        else:
            pipeline = bot.build_pipeline(transport, self.bot_ready_extras())
        return PipelineTask(pipeline, call_id=call_id)

    def _with_rtvi(self, pipeline: Pipeline, transport: WebsocketServerTransport) -> Pipeline:
        """The pipeline with what answers a client's handshake, unless it has that itself."""
        processors = pipeline.processors
        if any(isinstance(one, RTVIProcessor) for one in processors):
            return pipeline
        source = transport.input()
        after = processors.index(source) + 1 if source in processors else 0
        rtvi = RTVIProcessor(bot_ready_extras=self.bot_ready_extras())
        return Pipeline([*processors[:after], rtvi, *processors[after:]])

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

    A subclass that overrides `build_pipeline` has that pipeline in the place of the session's bot.

    The session's pipeline outlives the socket: a client that lost it may come back within
    `RECONNECT_GRACE_SECS`, in whichever server process. A client that comes while another one is
    there is considered at its first valid message, so that a stray socket evicts no client; then
    `takeover` decides.
    """

    takes_now: ClassVar[bool] = True
    #: "replace" or "reject"; None takes the setting `TAKEOVER`.
    takeover: ClassVar[str | None] = None

    session: VoiceSession

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._process: Process
        self._join: Join | None = None
        self._candidate: tuple[Bot | None, SessionTransport] | None = None
        self._transport: SessionTransport

    async def authorize(self) -> None:
        """The token must open the session; a user who is logged in joins no other user's."""
        token = self.query.get("token", [None])[-1]
        self.session = await admit(self.scope["url_route"]["kwargs"]["session"], token)
        owner = self.session.user_id
        if not owner:
            return
        # The route has no `AuthMiddlewareStack`: the cookie is looked at all the same.
        user = await scope_user(self.scope)
        if user.is_authenticated and user.pk != owner:
            raise NotAllowed("the session is another user's")

    def build_bot(self) -> Bot | None:
        """The bot that the session was made for; None if the class has a pipeline of its own."""
        if type(self).build_pipeline is not VoiceConsumer.build_pipeline:
            return None
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
        join = self._join = Join(
            self._process.takeovers,
            live_sessions,
            self,
            self.session.pk,
            Client(self.client_address, self.header("user-agent")),
            Policy(self.takeover or settings.TAKEOVER),
        )
        await join.arrive(settings.MAX_SESSIONS_PER_USER)
        await self.accept()
        try:
            join.enter()
        except Replaced as error:
            self.drop(CloseCode.REPLACED, str(error))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        data = text_data if bytes_data is None else bytes_data
        if data is None:
            return
        if self.connection is not None:
            await self.connection.receive(data)
            return
        assert self._join is not None
        if self._join.state is SocketState.SILENT:
            try:
                await self._transport.check_message(data)
            except InvalidMessage as error:
                self.drop(CloseCode.BAD_DATA, str(error))
                return
        self._join.receive(data)

    async def disconnect(self, code: int) -> None:
        if self._join is not None:
            await self._join.leave(code)
        await super().disconnect(code)

    # --- what a join asks for -------------------------------------------------------------------

    def start_session(self, answer: ClaimResult) -> LiveSession:
        """Build the session's pipeline, and run it in this process from now on."""
        row = answer.session
        assert row is not None
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

    def session_socket(self) -> SessionSocket:
        """The socket, as the session's transport sees it."""
        return SessionSocket(self, self._process.lease)

    def joined(self, connection: SessionConnection) -> None:
        """What the socket says goes to the session from now on."""
        self.connection = connection

    # --- building -------------------------------------------------------------------------------

    def _build_candidate(self) -> SessionTransport:
        bot = self.build_bot()
        transport = SessionTransport(self.transport_params(bot))
        self._candidate = (bot, transport)
        return transport


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
