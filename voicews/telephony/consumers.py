"""The socket of a phone call: one consumer for all providers.

It recognises the provider from its path and takes messages with that provider's serializer until
one says which call this is. That call must be the one that the webhook was about. Only then is
there a transport, because only then sample rate and packets are certain.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from voicews.bots import Bot
from voicews.close_codes import CloseCode
from voicews.conf import Policy, settings
from voicews.consumers.voice import VoiceConsumer, load_bot, with_time_limits
from voicews.exceptions import (
    AudioFormatError,
    InvalidMessage,
    NotAllowed,
    VoicewsError,
)
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    CancelFrame,
    Frame,
    PingFrame,
    PongFrame,
    ProtocolRequestFrame,
)
from voicews.locations import script_prefix
from voicews.models import VoiceSession
from voicews.serializers.telephony import StreamState, TelephonySerializer, UnusableStart
from voicews.sessions import live_sessions
from voicews.sessions.db_threads import session_database
from voicews.sessions.join import Join, refusal
from voicews.sessions.live import (
    LiveSession,
    SessionConnection,
    SessionSocket,
    SessionTransport,
)
from voicews.sessions.process import Process, this_process
from voicews.sessions.rules import Lease
from voicews.sessions.store import ClaimResult, Client, find_session
from voicews.telephony import CallEvent, CallStatus, EventKind, Provider, store
from voicews.telephony.calls import PhoneCall, end_unstarted_call
from voicews.telephony.registry import get_provider, provider_request, raw_path
from voicews.telephony.tokens import Purpose, check_phone_token
from voicews.transports import ChannelsWebsocketParams

logger = logging.getLogger(__name__)

#: Messages before the call has started that make no sense.
MAX_INVALID_MESSAGES = 3
#: How long (seconds) a provider that answers our goodbye may take.
GOODBYE_TIMEOUT_SECS = 2.0
#: What a socket that its provider closes in order has for a close code. Not 1005: uvicorn says that
#: of broken connections too, and one request to hang up too many does no harm.
ORDERLY = frozenset([CloseCode.NORMAL, CloseCode.GOING_AWAY])


#: Where a stream is while its provider answers our goodbye.
_ANSWERS_GOODBYE = frozenset([StreamState.STARTED, StreamState.REFUSED])


class CallState(enum.IntEnum):
    #: Nothing has said yet which call it is.
    WAITING = 0
    STARTED = 1
    #: A provider that tries the connection: its protocol is answered, no bot is bothered.
    PROBED = 2
    #: Our side has ended it, or refused it.
    OVER = 3


class PhoneSocket(SessionSocket):
    """A provider's socket; sends a last message where the protocol wants one before the close."""

    def __init__(self, consumer: PhoneConsumer, lease: Lease) -> None:
        super().__init__(consumer, lease)
        self._consumer = consumer

    async def close(self, code: int, reason: str) -> None:
        await self._consumer.wait_for_goodbye()
        await super().close(code, reason)


class PhoneConsumer(VoiceConsumer):
    """Serves `ws/voice/<provider>/<token>/`, and `ws/voice/<provider>/` without webhook."""

    max_message_bytes: ClassVar[int] = 256 * 1024

    session: VoiceSession | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.session = None
        self._state = CallState.WAITING
        self._provider: Provider
        self._serializer: TelephonySerializer
        self._process: Process
        self._candidate: tuple[Bot, SessionTransport]
        self._join: Join | None = None
        self._invalid = 0
        self._goodbye = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._refusing: asyncio.Task[None] | None = None

    async def authorize(self) -> None:
        """The provider must have signed the upgrade, if it does that; the token opens a session."""
        arguments = self.scope["url_route"]["kwargs"]
        self._provider = provider = get_provider(arguments["provider"])
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self.scope["headers"]
        }
        upgrade = provider_request(
            "GET",
            raw_path(self.scope, self.scope["path"], script_prefix()),
            self.scope.get("query_string", b""),
            headers,
        )
        provider.verify_upgrade(upgrade)
        if nonce := provider.upgrade_nonce(upgrade):
            await session_database.run(partial(store.use_nonce, provider.name, nonce))
        if not provider.sends_webhooks:
            return
        token = arguments.get("token", "")
        session_id = check_phone_token(Purpose.STREAM, provider.name, token)
        session = await session_database.run(partial(find_session, session_id))
        if session.kind != VoiceSession.Kind.PHONE or session.provider != provider.name:
            raise NotAllowed("token is for another provider")
        if session.state != VoiceSession.State.CREATED:
            raise NotAllowed("token was used before")
        self.session = session

    async def connect(self) -> None:
        try:
            await self.authorize()
        except NotAllowed as error:
            name = self.scope["url_route"]["kwargs"]["provider"]
            logger.warning("%s socket refused: %s", name, error)
            raise
        self._serializer = self._provider.new_serializer()
        await self.accept()
        self._deadline = asyncio.get_running_loop().call_later(
            settings.CALL_START_TIMEOUT_SECS, self._check_started
        )

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        data = text_data if bytes_data is None else bytes_data
        if data is None:
            return
        if self.connection is not None and self.connection.is_open:
            await self.connection.receive(data)
        elif self._state is CallState.WAITING:
            await self._receive_start(data)
        else:
            await self._receive_aside(data)

    def receive_now(self, data: str | bytes) -> bool:
        if self.connection is None or not self.connection.is_open:
            return False
        self.connection.receive_now(data)
        return True

    async def disconnect(self, code: int) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._goodbye.set()
        # Providers close with what they like when the caller has hung up.
        code = CloseCode.GOING_AWAY if code in ORDERLY else code
        if self.connection is not None:
            self.connection.disconnect(code)
        elif self._join is not None:
            await self._join.leave(code)

    def drop(self, code: int, reason: str) -> None:
        self._state = CallState.OVER
        super().drop(code, reason)

    async def wait_for_goodbye(self) -> None:
        """Wait until the provider has answered our last message, where it does."""
        serializer = self._serializer
        if serializer.answers_goodbye and serializer.state in _ANSWERS_GOODBYE:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._goodbye.wait(), GOODBYE_TIMEOUT_SECS)

    # --- before the call, and beside it -----------------------------------------------------------

    async def _receive_start(self, data: str | bytes) -> None:
        try:
            frame = self._serializer.deserialize(data)
        except UnusableStart as error:
            logger.warning("%s call refused: %s", self._provider.name, error)
            self._refuse_call(CloseCode.BAD_DATA, str(error))
            return
        except (InvalidMessage, AudioFormatError) as error:
            self._invalid += 1
            logger.warning("%s socket: bad message: %s", self._provider.name, error)
            if self._invalid >= MAX_INVALID_MESSAGES:
                self._refuse_call(CloseCode.BAD_DATA, "expected the start of a stream")
            return
        if not isinstance(frame, CallStartedFrame):
            return
        if frame.is_probe:
            self._state = CallState.PROBED
            await self._say(frame)
            return
        try:
            await self._start_call(frame)
        except Exception as error:  # noqa: BLE001 - `refusal` logs what is unexpected
            if isinstance(error, VoicewsError):
                logger.warning("%s call refused: %s", self._provider.name, error)
            code, reason = refusal(error, f"{self._provider.name} call could not be started")
            # Of a stream that may not have it, the session is another's: that one may go on.
            self._refuse_call(code, reason, ends_session=not isinstance(error, NotAllowed))

    def _refuse_call(self, code: int, reason: str, *, ends_session: bool = True) -> None:
        """End a call that can't begin, on the wire as its provider does it. Does not wait.

        Where closing the socket doesn't end the call, the end of its session has it hung up.
        """
        self._state = CallState.OVER
        self._refusing = asyncio.get_running_loop().create_task(
            self._say_no(code, reason, self.session if ends_session else None)
        )

    async def _say_no(self, code: int, reason: str, session: VoiceSession | None) -> None:
        await self._say(CancelFrame(reason, code))
        await self.wait_for_goodbye()
        self.drop(code, reason)
        if session is not None:
            try:
                await end_unstarted_call(session.pk, code, reason)
            except Exception:
                logger.exception("session %s of a refused call could not be ended", session.pk)

    async def _receive_aside(self, data: str | bytes) -> None:
        """A message of a probe, or one that comes while the socket is being closed."""
        try:
            frame = self._serializer.deserialize(data)
        except (InvalidMessage, AudioFormatError):
            return
        if isinstance(frame, PingFrame):
            await self._say(PongFrame(frame.id))
        elif isinstance(frame, ProtocolRequestFrame):
            await self._say(frame)
        elif isinstance(frame, CallEndedFrame):
            await self._say(frame)
            self._goodbye.set()
            if self._state is CallState.PROBED:
                self.drop(CloseCode.NORMAL, "")

    async def _say(self, frame: Frame) -> None:
        data = self._serializer.serialize(frame)
        if data is not None:
            message: Any = {"type": "websocket.send"}
            message["text" if isinstance(data, str) else "bytes"] = data
            with suppress(Exception):  # each server has its own for "the peer is gone"
                await self.base_send(message)

    def _check_started(self) -> None:
        if self._state is CallState.WAITING:
            logger.warning("%s socket: no call started in time", self._provider.name)
            self._refuse_call(CloseCode.NOT_ALLOWED, "no call started in time")

    # --- the call ---------------------------------------------------------------------------------

    async def _start_call(self, frame: CallStartedFrame) -> None:
        """Join the session, as the one client that it may ever have."""
        self._process = this_process()
        if self.session is None:
            self.session = await self._new_session(frame)
        else:
            job = partial(
                store.stream_began,
                self.session.pk,
                frame.call_id,
                frame.from_number,
                frame.to_number,
            )
            if not await session_database.run(job):
                raise NotAllowed("the stream is another call's")
        await self._process.started()
        self._process.check_room(self.session.pk)
        bot = load_bot(self.session.bot)()
        transport = SessionTransport(self._phone_params(bot))
        self._candidate = (bot, transport)
        join = self._join = Join(
            self._process.takeovers,
            live_sessions,
            self,
            self.session.pk,
            Client(self.client_address, self.header("user-agent")),
            Policy.REJECT,
            once=True,
        )
        if not await join.arrive(None):
            raise NotAllowed("token was used before")
        join.enter()
        self._state = CallState.STARTED
        transport.begin_call(frame)

    def session_socket(self) -> SessionSocket:
        """The socket, as the session's transport sees it."""
        return PhoneSocket(self, self._process.lease)

    def joined(self, connection: SessionConnection) -> None:
        """What the socket says goes to the session from now on."""
        self.connection = connection

    async def _new_session(self, frame: CallStartedFrame) -> VoiceSession:
        """The session of a call that no webhook has announced."""
        bot = self.query.get("bot", [""])[-1]
        if not bot:
            job = partial(store.bot_for, self._provider.name, frame.to_number)
            bot = await session_database.run(job)
        if bot not in settings.BOTS:
            raise NotAllowed("there is no such bot")
        event = CallEvent(
            provider=self._provider.name,
            kind=EventKind.CALL,
            status=CallStatus.IN_PROGRESS,
            call_id=frame.call_id,
            from_number=frame.from_number,
            to_number=frame.to_number,
        )
        session, is_new = await session_database.run(
            partial(store.call_session, event, bot, self.client_address)
        )
        if not is_new:
            raise NotAllowed("the call has a stream already")
        return session

    def _phone_params(self, bot: Bot) -> ChannelsWebsocketParams:
        serializer = self._serializer
        params = self.transport_params(bot)
        params.serializer = serializer
        params.add_wav_header = False
        params.audio_out_channels = 1
        params.video_in_enabled = params.video_out_enabled = False
        params.audio_out_sample_rate = serializer.sample_rate
        params.fixed_audio_packet_size = serializer.packet_bytes
        params.pad_last_audio_packet = True
        # A lost socket is not given back: what is left of the call is hung up.
        params.reconnect_grace = 0.0
        if serializer.answers_goodbye:
            params.ws_close_timeout = max(params.ws_close_timeout, GOODBYE_TIMEOUT_SECS + 0.5)
        return with_time_limits(params)

    def start_session(self, answer: ClaimResult) -> LiveSession:
        """Build the call's pipeline, and run it in this process from now on."""
        row = answer.session
        assert row is not None
        bot, transport = self._candidate
        bot.session = self.session = row
        call = PhoneCall(self._provider, row, self._serializer)
        bot.phone_line = call
        if call.presses_keys:
            transport.press_keys_with(call.press)
        task = self.build_task(bot, transport, str(row.pk))
        live = LiveSession(row, self._process.id, bot, transport, task)
        live_sessions.add(live)
        return live
