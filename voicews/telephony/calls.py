"""What can be done with phone calls: place one, transfer it, press keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from voicews.close_codes import CloseCode
from voicews.conf import settings
from voicews.exceptions import CallFailed, ConfigurationError, NotAllowed
from voicews.models import VoiceSession
from voicews.security.users import storable_user
from voicews.serializers.telephony import MAX_PARAMETERS, MAX_TEXT_LENGTH, TelephonySerializer
from voicews.sessions.db_threads import session_database
from voicews.sessions.live import announce_end, live_sessions
from voicews.sessions.process import this_process
from voicews.sessions.store import end_unstarted, load_session, request_end
from voicews.sessions.timeline import timeline
from voicews.telephony import CallStatus, Dial, NotSupported, Provider, store
from voicews.telephony.api import describe, request, send
from voicews.telephony.registry import get_provider, stream_target, webhook_url

__all__ = [
    "dial",
]

logger = logging.getLogger(__name__)

#: How long (seconds) the called phone may ring, and how long the provider may
#: wait before that.
RING_TIMEOUT_SECS = 60
MAX_QUEUE_SECS = 600.0
#: What the database keeps of a number.
MAX_NUMBER_LENGTH = 64


async def dial(
    provider_name: str, to_number: str, *, from_number: str = "", bot: str = "", user: Any = None
) -> VoiceSession:
    """Place a call that a bot answers. Numbers are E.164, with the plus.

    Without `from_number` it is the provider's only `PhoneNumber`; without `bot`, that number's.
    Returns when the provider has accepted the call. Raises `NotAllowed` for a provider that is
    switched off, `ConfigurationError` if number or bot are missing, `ValueError` for a number that
    is none, `CallFailed` if it said no.
    """
    for name, number in (("to", to_number), ("from", from_number or to_number)):
        if not _is_number(number):
            raise ValueError(f"{name}: expected a number such as +15551234567")
    provider = get_provider(provider_name)
    session = await session_database.run(
        partial(_new_session, provider, to_number, from_number, bot, user)
    )
    try:
        call = Dial(
            to_number=to_number,
            from_number=session.from_number,
            answer_url=webhook_url(provider, "answer", session.pk),
            status_url=webhook_url(provider, "status", session.pk),
            stream=stream_target(provider, session, RING_TIMEOUT_SECS + MAX_QUEUE_SECS),
            ring_timeout_secs=RING_TIMEOUT_SECS,
        )
        result = await request(provider.dial(call))
    except NotSupported as error:
        await _failed(session.pk, str(error))
        raise CallFailed(str(error)) from None
    except (CallFailed, ConfigurationError, ValueError) as error:
        await _failed(session.pk, str(error))
        raise
    # Plivo's is the request's id, not the call's: its webhooks tell that.
    if result.call_id and provider.name != "plivo":
        await session_database.run(
            partial(store.bind_call, session.pk, result.call_id, session.from_number, to_number)
        )
    return await session_database.run(partial(load_session, session.pk))


def _new_session(
    provider: Provider, to_number: str, from_number: str, bot: str, user: Any
) -> VoiceSession:
    if not from_number:
        own = store.own_number(provider.name)
        if own is None:
            raise ConfigurationError(
                f"from: expected a number, as there isn't just one phone number for {provider.name}"
            )
        from_number = own.number
    name = bot or store.bot_for(provider.name, from_number)
    if name not in settings.BOTS:
        raise ConfigurationError(f"VOICEWS BOTS: expected a bot {name!r}, found none")
    return VoiceSession.objects.create(
        bot=name,
        kind=VoiceSession.Kind.PHONE,
        provider=provider.name,
        direction=VoiceSession.CallDirection.OUTBOUND,
        from_number=from_number,
        to_number=to_number,
        call_status=CallStatus.QUEUED.value,
        user=storable_user(user),
    )


async def _failed(session_id: UUID, reason: str) -> None:
    rows = VoiceSession.objects.filter(pk=session_id)
    await session_database.run(partial(rows.update, call_status=CallStatus.FAILED.value))
    await end_call(session_id, CloseCode.SERVER_ERROR, reason)


class PhoneCall:
    """A bot's hold on the telephone at the other end; `Bot.phone_line`."""

    def __init__(
        self, provider: Provider, session: VoiceSession, serializer: TelephonySerializer
    ) -> None:
        self._provider = provider
        self._session = session
        self._call_id = session.call_id
        self._serializer = serializer
        self._keys: asyncio.Queue[str] = asyncio.Queue()
        self._presser: asyncio.Task[None] | None = None

    async def transfer(self, number: str) -> None:
        """Hand the caller over to another number. Raises `CallFailed` if that can't be done."""
        if not _is_number(number):
            raise CallFailed("transfer: expected a number such as +15551234567")
        provider = self._provider
        url = webhook_url(provider, "transfer", self._session.pk, to=number)
        try:
            wanted = provider.transfer(self._call_id, number, document_url=url)
        except (NotSupported, ValueError) as error:
            raise CallFailed(f"transfer: {error}") from None
        # Before it is done: the stream ends with it, and must not take the call along.
        await session_database.run(
            partial(store.set_hang_up, self._session.pk, "", store.TRANSFERRED)
        )
        try:
            await request(wanted)
        except CallFailed:
            await session_database.run(
                partial(store.set_hang_up, self._session.pk, store.TRANSFERRED, "")
            )
            raise

    def set_output_variables(self, variables: Mapping[str, str]) -> None:
        """Tell the provider's flow something, when the call goes on in it.

        Raises `CallFailed` where there is no flow, `ValueError` for what it doesn't take.
        """
        if not self._serializer.takes_output_variables:
            raise CallFailed(f"output variables: {self._provider.name} has no flow that takes them")
        merged = {**self._serializer.output_variables, **variables}
        if len(merged) > MAX_PARAMETERS or not all(_is_variable(*pair) for pair in merged.items()):
            raise ValueError(
                f"output variables: expected up to {MAX_PARAMETERS} strings of up to "
                f"{MAX_TEXT_LENGTH} characters"
            )
        self._serializer.output_variables = merged

    @property
    def presses_keys(self) -> bool:
        """Whether the provider has a request for that, and the options that it needs."""
        try:
            self._provider.send_dtmf(self._call_id, "1")
        except (NotSupported, ConfigurationError):
            return False
        return True

    def press(self, buttons: str) -> None:
        """Have the provider press keys, after those before. Does not wait."""
        self._keys.put_nowait(buttons)
        if self._presser is None or self._presser.done():
            self._presser = asyncio.get_running_loop().create_task(self._press())

    async def _press(self) -> None:
        while not self._keys.empty():
            wanted = self._provider.send_dtmf(self._call_id, self._keys.get_nowait())
            result = await send(wanted)
            if not result.ok:
                logger.warning("call %s: keys: %s", self._session.pk, describe(result))


def _is_number(number: object) -> bool:
    """Whether it can be sent to a provider: some take other addresses than E.164."""
    return (
        isinstance(number, str)
        and 0 < len(number) <= MAX_NUMBER_LENGTH
        and number.isascii()
        and number.isprintable()
        and " " not in number
    )


def _is_variable(name: object, value: object) -> bool:
    return all(isinstance(one, str) and len(one) <= MAX_TEXT_LENGTH for one in (name, value))


async def end_unstarted_call(session_id: UUID, close_code: int, reason: str) -> None:
    """End a call's session if no stream of it has begun; nothing otherwise."""
    job = partial(end_unstarted, session_id, close_code, reason)
    if await session_database.run(job):
        await _announce_end(session_id)


async def _announce_end(session_id: UUID) -> None:
    row = await session_database.run(partial(load_session, session_id))
    announce_end(row)
    await timeline.flush()


async def end_call(session_id: UUID, close_code: int, reason: str) -> None:
    """End a call's session, in whichever process it lives; nothing if it has ended."""
    job = partial(request_end, session_id, close_code, reason)
    try:
        at_once, where = await session_database.run(job)
    except NotAllowed:
        return
    if at_once:
        await _announce_end(session_id)
        return
    live = live_sessions.get(session_id)
    if live is not None:
        live.end(close_code, reason)
    else:
        # Without it, the next heartbeat reports it.
        control = this_process().control
        await control.send(
            where.channel, "end", session=str(session_id), code=close_code, reason=reason
        )
