"""Channels consumers that carry voice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import AnonymousUser

from voicews.bots import Bot
from voicews.conf import settings
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.models import VoiceSession
from voicews.origins import origin_allowed
from voicews.permissions import may_connect
from voicews.pipeline import Pipeline, PipelineTask
from voicews.sessions import admit, bot_ready_extras, live_sessions
from voicews.transports import (
    ChannelsWebsocketParams,
    ChannelsWebsocketTransport,
    WebsocketServerTransport,
    asgi,
)
from voicews.transports.base import Connection, TransportState
from voicews.transports.channels import ConsumerSocket

logger = logging.getLogger(__name__)

#: A socket that wants a session which another one holds must say something by then (seconds).
FIRST_MESSAGE_TIMEOUT_SECS = 10.0
#: A client that is turned away gets so long (seconds) to close its side.
DROP_TIMEOUT_SECS = 1.0
#: So often (messages) a busy socket lets others go first, and its allowance is looked at.
FAIRNESS_MESSAGES = 64


class VoiceConsumer(AsyncWebsocketConsumer):
    """One socket, one call. Set `bot`, or build a pipeline of your own:

        class Support(VoiceConsumer):
            def build_pipeline(self, transport):
                return Pipeline([transport.input(), MyProcessor(), transport.output()])

    It has a receive loop of its own: Channels' `dispatch` goes through a thread for every message,
    which costs more than all that voicews does with one. `connect`, `receive` and `disconnect` are
    what they are in Channels.
    """

    #: The bot: a class, or its name in `VOICEWS["BOTS"]`.
    bot: ClassVar[str | type[Bot] | None] = None
    #: A longer message closes the socket with 1009.
    max_message_bytes: ClassVar[int] = 1024 * 1024
    #: Messages that a client may send in the long run, and in one go: more is closed with 1008.
    max_messages_per_sec: ClassVar[int] = 200
    max_messages_burst: ClassVar[int] = 3000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection: Connection | None = None
        self.task: PipelineTask | None = None
        self._serving: asyncio.Task[Any] | None = None
        self._aborted = False
        self._is_accepted = False
        self._dropping: asyncio.Task[None] | None = None

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

    async def accept(self, *args: Any, **kwargs: Any) -> None:
        """Let the client in."""
        await super().accept(*args, **kwargs)
        self._is_accepted = True

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take one message."""
        data = text_data if bytes_data is None else bytes_data
        if self.connection is not None and data is not None:
            await self.connection.receive(data)

    async def disconnect(self, code: int) -> None:
        """The socket is gone."""
        if self.connection is not None:
            self.connection.disconnect(code)
        if self.task is not None:
            # Also when one of the processors kept to itself that the client has left.
            self.task.cancel("client left", code)
            await self.task.wait()

    # --- the machinery --------------------------------------------------------------------------

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters in the socket's URL."""
        return parse_qs(self.scope.get("query_string", b"").decode("latin-1"))

    def check_origin(self, allowed_origins: Sequence[str] | None) -> None:
        """Raise `NotAllowed` if a web page that may not connect opens this socket."""
        headers = dict(self.scope["headers"])
        origin = headers.get(b"origin")
        if not origin_allowed(
            None if origin is None else origin.decode("latin-1"),
            headers.get(b"host", b"").decode("latin-1"),
            allowed_origins,
        ):
            raise NotAllowed("pages of this site may not connect")

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
        """Close the socket; what comes from it until then is ignored. Does not wait."""
        if self.connection is not None:
            self.connection.drop(code, reason)
        elif self._dropping is None:
            self._dropping = asyncio.get_running_loop().create_task(self._drop(code, reason))

    def abort(self) -> None:
        """Stop reading from the socket, and let go of it."""
        if self._serving is not None and not self._aborted:
            self._aborted = True
            self._serving.cancel()

    async def _drop(self, code: int, reason: str) -> None:
        with suppress(Exception):  # each server has its own for "the peer is gone"
            async with asyncio.timeout(DROP_TIMEOUT_SECS):
                await self.close(code, reason)
        # The peer's answer ends the reading, and normally does so before this.
        asyncio.get_running_loop().call_later(DROP_TIMEOUT_SECS, self.abort)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.base_send = asgi.complete(send)
        code = 1006
        try:
            await receive()  # websocket.connect
            if await self._open():
                self._serving = asyncio.current_task()
                code = await self._receive_messages(receive)
        except asyncio.CancelledError:
            if not self._aborted or self._serving is None:
                raise
            self._serving.uncancel()
        finally:
            self._serving = None
            await self.disconnect(code)

    async def _open(self) -> bool:
        try:
            await self.connect()
        except NotAllowed as error:
            logger.info("socket refused: %s", error)
            await self._refuse(1008, str(error))
        except Exception:
            logger.exception("socket refused: it could not be opened")
            await self._refuse(1011, "server error")
        else:
            return True
        return False

    async def _refuse(self, code: int, reason: str) -> None:
        # A page can't see why a handshake failed, so our own client asks to be let in and told.
        # Pipecat's would wait for ever behind an accepted handshake: it takes the HTTP 403.
        if not self._is_accepted and self.query.get("client") == ["voicews"]:
            await self.accept()
        await self.close(code, reason)

    async def _receive_messages(self, receive: Any) -> int:
        """Take messages until the socket is gone; returns its close code."""
        loop = asyncio.get_running_loop()
        burst = float(self.max_messages_burst)
        allowance, checked_at, count = burst, loop.time(), 0
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return int(message.get("code") or 1005)
            bytes_data = message.get("bytes")
            text_data = message.get("text")
            if len(text_data if bytes_data is None else bytes_data) > self.max_message_bytes:
                self.drop(1009, f"more than {self.max_message_bytes} bytes in a message")
                continue
            await self.receive(text_data, bytes_data)
            count += 1
            if count % FAIRNESS_MESSAGES:
                continue
            now = loop.time()
            earned = (now - checked_at) * self.max_messages_per_sec
            allowance = min(burst, allowance + earned) - FAIRNESS_MESSAGES
            checked_at = now
            if allowance < 0:
                self.drop(1008, f"more than {self.max_messages_per_sec} messages a second")
            # receive() doesn't pause while messages wait: without this, a flood starves the others.
            await asyncio.sleep(0)


class SessionConsumer(VoiceConsumer):
    """The app's own socket: joins the session in its URL, if its token opens that.

    The session's pipeline outlives the socket: a client that lost it may come back within
    `RECONNECT_GRACE_SECS`. A client that comes while another one is there replaces it with its
    first valid message, so that a stray socket evicts nobody.
    """

    session: VoiceSession

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transport: WebsocketServerTransport | None = None

    async def authorize(self) -> None:
        token = self.query.get("token", [None])[-1]
        self.session = await admit(self.scope["url_route"]["kwargs"]["session"], token)

    def build_bot(self) -> Bot | None:
        """The bot that the session was made for."""
        bot = load_bot(self.session.bot)()
        bot.session = self.session
        return bot

    def transport_params(self, bot: Bot | None) -> ChannelsWebsocketParams:
        params = super().transport_params(bot)
        if params.session_timeout is None:
            params.session_timeout = settings.SESSION_TIMEOUT_SECS
        if params.reconnect_grace is None:
            params.reconnect_grace = settings.RECONNECT_GRACE_SECS
        return params

    def bot_ready_extras(self) -> Any:
        return partial(bot_ready_extras, self.session.pk)

    async def connect(self) -> None:
        await self.authorize()
        live = live_sessions.join(self.session, self._build)
        self.check_origin(live.transport.allowed_origins)
        await self.accept()
        self._transport = live.transport
        if live.transport.state is TransportState.WAITING:
            self._join(live.transport)
        else:
            asyncio.get_running_loop().call_later(FIRST_MESSAGE_TIMEOUT_SECS, self._check_joined)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.connection is None and self._transport is not None:
            data = text_data if bytes_data is None else bytes_data
            try:
                self._transport.check_message(data or b"")
            except InvalidMessage as error:
                self.drop(1007, str(error))
                self._transport = None
                return
            if self._transport.state is TransportState.CLOSED:
                self.drop(1008, "the session has ended")
                self._transport = None
                return
            self._join(self._transport)
        await super().receive(text_data, bytes_data)

    def _build(self) -> tuple[WebsocketServerTransport, PipelineTask]:
        bot = self.build_bot()
        params = self.transport_params(bot)
        # Before there is a live session that waits for this client.
        self.check_origin(params.allowed_origins)
        transport = WebsocketServerTransport(params)
        return transport, self.build_task(bot, transport, str(self.session.pk))

    def _join(self, transport: WebsocketServerTransport) -> None:
        self.connection = transport.connect(ConsumerSocket(self))
        self._transport = None

    def _check_joined(self) -> None:
        if self.connection is None:
            self.drop(1008, "nothing was said")


def load_bot(name: str) -> type[Bot]:
    """The class of the bot `name`. Raises `ConfigurationError` if the settings name none."""
    found = settings.bot(name)
    if found is None:
        raise ConfigurationError(f"VOICEWS BOTS: expected a bot {name!r}, found none")
    return found.load()
