"""The webhooks of telephony providers: what to do with a call, how it does.

Each request must be signed by the provider, as seen at the setting `PUBLIC_URL`. 403 for one that
isn't, 400 for one that can't be understood, 404 for a provider that is not switched on, 413, 503
when the database is away; never 500 for what a stranger sends.
"""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from django.core.exceptions import BadRequest
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError

from voicews.close_codes import CloseCode
from voicews.conf import settings
from voicews.endpoints import BodyTooLong, Endpoint, read_body
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.locations import script_prefix
from voicews.models import VoiceSession
from voicews.security.addresses import valid_address
from voicews.sessions.db_threads import session_database
from voicews.sessions.store import has_room
from voicews.telephony import (
    ApiRequest,
    CallEvent,
    NotSupported,
    Provider,
    Request,
    WebhookResponse,
    store,
)
from voicews.telephony.api import describe, send
from voicews.telephony.calls import end_call
from voicews.telephony.registry import get_provider, provider_request, raw_path, stream_target
from voicews.telephony.tokens import Purpose, check_phone_token

logger = logging.getLogger(__name__)

#: The longest webhooks are JSON of a few kilobytes.
MAX_BODY_BYTES = 64 * 1024
MAX_NUMBER_LENGTH = 64

Address = str | None


class WebhookView(Endpoint):
    """What the webhooks have in common: authentication, and the answer to a refused request."""

    http_method_names = ["get", "post", "head", "options"]

    async def get(self, request: HttpRequest, provider: str) -> HttpResponse:
        return await self.take(request, provider)

    async def post(self, request: HttpRequest, provider: str) -> HttpResponse:
        return await self.take(request, provider)

    async def take(self, request: HttpRequest, name: str) -> HttpResponse:
        """WebhookResponse one webhook, whatever it is."""
        try:
            found = get_provider(name)
            if not found.sends_webhooks:
                raise NotAllowed("this provider sends no webhooks")
        except NotAllowed as error:
            return _text(404, str(error))
        except ConfigurationError as error:
            logger.warning("%s webhook can't be answered: %s", name, error)
            return _text(503, "not available")
        try:
            webhook = read_webhook(request)
            found.verify_webhook(webhook)
            return await self.answer(found, webhook, valid_address(request.META.get("REMOTE_ADDR")))
        except NotAllowed as error:
            logger.warning("%s webhook refused: %s", name, error)
            return _text(403, "not allowed")
        except (InvalidMessage, BadRequest, UnreadablePostError) as error:
            logger.warning("%s webhook not understood: %s", name, error)
            return _text(400, "not understood")
        except BodyTooLong:
            return _text(413, f"expected at most {MAX_BODY_BYTES} bytes")
        except (ConfigurationError, NotSupported) as error:
            logger.warning("%s webhook can't be answered: %s", name, error)
            return _text(503, "not available")
        except DatabaseError:
            logger.exception("%s webhook: the database failed", name)
            return _text(503, "try again later")

    async def answer(
        self, provider: Provider, webhook: Request, address: str | None
    ) -> HttpResponse:
        """WebhookResponse a webhook that the provider has sent."""
        raise NotImplementedError


class AnswerView(WebhookView):
    """An incoming call, or a placed one that was answered: connects it to a bot.

    The bot is the one in the query (`?bot=`), else that of the `PhoneNumber`, else the default.
    What isn't a question is taken as a status: some providers have one URL for both.
    """

    async def answer(
        self, provider: Provider, webhook: Request, address: str | None
    ) -> HttpResponse:
        event = provider.parse_webhook(webhook)
        placed = _placed_session(provider, webhook)
        if not event.wants_answer:
            await record(event, placed)
            return _text(200, "")
        try:
            if placed is not None:
                job = partial(store.placed_session, placed, provider.name, event.call_id)
                session, is_new = await session_database.run(job), True
            else:
                session, is_new = await self._incoming(event, webhook, address)
        except NotAllowed as error:
            logger.warning("%s call %s refused: %s", provider.name, event.call_id, error)
            return await respond(provider.reject(event))
        answer = provider.answer(
            event, stream_target(provider, session, settings.TOKEN_MAX_AGE_SECS)
        )
        if answer.request is None:
            return await respond(answer)
        # The same webhook may come twice, but the command is given once.
        if is_new and not await command(answer.request):
            # No socket will be opened: the caller must not wait for it.
            await end_call(
                session.pk, CloseCode.SERVER_ERROR, "the provider didn't take the answer"
            )
        return _text(200, "")

    async def _incoming(
        self, event: CallEvent, webhook: Request, address: Address
    ) -> tuple[VoiceSession, bool]:
        bot = webhook.query_fields.get("bot", [""])[-1]
        if not bot:
            ours = event.from_number if event.direction == "outbound" else event.to_number
            bot = await session_database.run(partial(store.bot_for, event.provider, ours))
        if bot not in settings.BOTS:
            raise NotAllowed("there is no such bot")
        if not await session_database.run(has_room):
            raise NotAllowed("no capacity for another call")
        return await session_database.run(partial(store.call_session, event, bot, address))


class StatusView(WebhookView):
    """How a call or its stream does: noted, and the end of a call ends its session."""

    async def answer(
        self, provider: Provider, webhook: Request, address: str | None
    ) -> HttpResponse:
        await record(provider.parse_webhook(webhook), _placed_session(provider, webhook))
        return _text(200, "")


class TransferView(WebhookView):
    """Where a provider fetches the order to hand a caller over; its URL is ours, and signed."""

    async def answer(
        self, provider: Provider, webhook: Request, address: str | None
    ) -> HttpResponse:
        number = webhook.query_fields.get("to", [""])[-1]
        if _placed_session(provider, webhook) is None or not 0 < len(number) <= MAX_NUMBER_LENGTH:
            raise NotAllowed("not a transfer that this server requested")
        if not number.isprintable():
            raise InvalidMessage("to: expected characters that can be shown")
        return await respond(provider.transfer_document(number))


async def record(event: CallEvent, session_id: UUID | None) -> None:
    """Note what a webhook says; a session whose call is over is ended."""
    over = await session_database.run(partial(store.record_status, event, session_id))
    if over is None:
        return
    if event.status is not None:
        await end_call(over.pk, CloseCode.GOING_AWAY, f"the call is over: {event.status.value}")
    else:
        # A call of Telnyx's Call Control goes on without its stream.
        await end_call(over.pk, CloseCode.SERVER_ERROR, f"the stream failed: {event.error}")


async def respond(answer: WebhookResponse) -> HttpResponse:
    """The response to a webhook; what is to be asked of the provider is asked first."""
    if answer.request is not None:
        await command(answer.request)
    return HttpResponse(answer.body, content_type=answer.content_type)


async def command(request: ApiRequest) -> bool:
    """Have the provider do what is to be done with a call; whether it did."""
    result = await send(request)
    if not result.ok:
        logger.error("%s: %s", request.action, describe(result))
    return result.ok


def _placed_session(provider: Provider, webhook: Request) -> UUID | None:
    """The session of a call that we placed: its webhooks have a token of ours in their URL."""
    token = webhook.query_fields.get("call", [""])[-1]
    return check_phone_token(Purpose.CALL, provider.name, token) if token else None


def read_webhook(request: HttpRequest) -> Request:
    """The request as its provider signed it."""
    body = read_body(request, MAX_BODY_BYTES)
    scope = getattr(request, "scope", {})
    query = scope.get("query_string")
    if not isinstance(query, bytes):
        query = request.META.get("QUERY_STRING", "").encode("latin-1")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return provider_request(
        request.method or "GET",
        raw_path(scope, request.path, script_prefix()),
        query,
        headers,
        body,
    )


def _text(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain")
