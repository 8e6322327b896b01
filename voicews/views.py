"""The connect endpoint, which gives a client its socket and its token, and the demo page."""

from __future__ import annotations

import inspect
import json
import logging
import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.http.request import UnreadablePostError
from django.shortcuts import resolve_url
from django.templatetags.static import static
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils.cache import patch_vary_headers
from django.views.generic import TemplateView

from voicews.conf import BOT_NAME_MAX_LENGTH, BotSettings, settings
from voicews.endpoints import BodyTooLong, Endpoint, read_body, request_user
from voicews.exceptions import Busy
from voicews.locations import websocket_base
from voicews.models import VoiceSession
from voicews.permissions import may_connect, refusal
from voicews.security.addresses import valid_address
from voicews.security.origins import any_origin_allowed, origin_allowed, origin_refusal
from voicews.security.tokens import issue_connect_token
from voicews.security.users import storable_user
from voicews.sessions.admission import delete_unjoined_sessions
from voicews.sessions.db_threads import session_database
from voicews.sessions.health import health_of, report_of_wsgi
from voicews.sessions.process import Process, this_process
from voicews.sessions.store import has_room, sessions_of_user

__all__ = [
    "ConnectView",
    "DemoView",
    "HealthView",
    "ReadyView",
]

logger = logging.getLogger(__name__)

# A connect request is a bot's name; some clients add a few keys of their own.
MAX_BODY_BYTES = 16 * 1024

# How long a process that has just begun to serve may take to answer for itself.
STARTED_TIMEOUT_SECS = 2.0

# Where a session's socket is, unless a project has a consumer of its own; see voicews.routing.
WEBSOCKET_PATH = "/ws/voice/{session}/"


def client_address(request: HttpRequest) -> str | None:
    """The address that the request came from; None if the server says none (a Unix socket)."""
    return valid_address(request.META.get("REMOTE_ADDR", ""))


class HealthView(Endpoint):
    """GET: is this server process well? The answer is JSON; 503 if calls suffer.

    A channel layer that is away makes it `degraded`, with 200: calls go on without. A WSGI server
    runs no calls: it says how the database is.
    """

    async def get(self, request: HttpRequest) -> HttpResponse:
        if isinstance(request, ASGIRequest):
            report = await health_of(await _started_process()).report()
        else:
            report = await report_of_wsgi()
        status = 503 if report["status"] == "failed" else 200
        return JsonResponse(report, status=status, headers={"Cache-Control": "no-store"})


class ReadyView(Endpoint):
    """GET: may a load balancer send new calls here? 200 if so; 503 while draining or full.

    A WSGI server, which takes no sockets, says whether one of the processes that do has room.
    """

    async def get(self, request: HttpRequest) -> HttpResponse:
        if isinstance(request, ASGIRequest):
            ready = (await _started_process()).takes_calls
        else:
            ready = await _any_room()
        status = 200 if ready else 503
        return JsonResponse({"ready": ready}, status=status, headers={"Cache-Control": "no-store"})


async def _any_room() -> bool:
    try:
        return await session_database.run(has_room)
    except DatabaseError:
        return False


async def _started_process() -> Process:
    process = this_process()
    with suppress(Busy):  # it then says itself that it isn't ready
        await process.started(STARTED_TIMEOUT_SECS)
    return process


def login_url() -> str:
    """Where a visitor logs in; empty if LOGIN_URL leads to no page of this project."""
    try:
        url = resolve_url(django_settings.LOGIN_URL)
        parts = urlsplit(url)
        if not parts.netloc:
            resolve("/" + parts.path.removeprefix(get_script_prefix()).removeprefix("/"))
    except (NoReverseMatch, Resolver404):
        return ""
    return url


class Refused(Exception):
    """Ends a connect request with an HTTP status and a text for the client."""

    def __init__(self, status: int, info: str, login_url: str = "") -> None:
        super().__init__(info)
        self.status = status
        self.info = info
        self.login_url = login_url

    def response(self) -> JsonResponse:
        headers = {"Allow": "POST, OPTIONS"} if self.status == 405 else None
        answer = {"info": self.info, **({"login_url": self.login_url} if self.login_url else {})}
        return JsonResponse(answer, status=self.status, headers=headers)


class ConnectView(Endpoint):
    """POST a JSON object with the name of a bot, or nothing; get ``{"ws_url", "token"}``.

    Answers every error as JSON with the text ``info``, and with ``login_url`` where a visitor was
    refused who can log in: 400 for a body that is not understood, 403
    for who may not connect and for pages of foreign sites, 404 for a bot that doesn't exist, 405,
    413, and 503 when the database is away, when all processes are full, and when the user has too
    many calls.

    It is exempt from Django's CSRF token, which clients that aren't our pages can't have. Instead
    the ``Origin`` header, which a page can't forge or leave out of a POST, must be allowed.
    """

    # The only bot that this endpoint connects to; None lets the client choose.
    bot: str | None = None
    websocket_path = WEBSOCKET_PATH

    async def post(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(await self.connect(request, self._read_body(request)))

    async def options(self, request: HttpRequest) -> HttpResponse:  # type: ignore[override]
        return HttpResponse(status=204, headers={"Allow": "POST, OPTIONS"})

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        try:
            self._check_origin(request)
        except Refused as refused:
            return refused.response()
        response = await self._answer(request)
        self._allow_reading(request, response)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        try:
            if request.method == "OPTIONS":
                return await self.options(request)
            if request.method == "POST":
                return await self.post(request)
            raise Refused(405, "expected POST")
        except Refused as refused:
            return refused.response()
        except DatabaseError:
            logger.exception("connect: the database failed")
            return Refused(503, "try again later").response()
        except Exception:
            logger.exception("connect: failed")
            return Refused(500, "server error").response()

    async def connect(self, request: HttpRequest, body: dict[str, Any]) -> dict[str, str]:
        """A new session's socket and token. Raises Refused."""
        bot = self._choose_bot(body)
        user = await request_user(request)
        if not await may_connect(user, bot, request):
            raise Refused(403, refusal(user), "" if user.is_authenticated else login_url())
        stored_user = await sync_to_async(storable_user)(user)
        await self._check_room(request, stored_user)
        await delete_unjoined_sessions()
        session = await VoiceSession.objects.acreate(
            bot=bot,
            user=stored_user,
            client_address=client_address(request),
            user_agent=request.headers.get("User-Agent", "")[:300],
        )
        return {
            "ws_url": websocket_base(request) + self.websocket_path.format(session=session.id),
            "token": issue_connect_token(session.id),
        }

    @staticmethod
    async def _check_room(request: HttpRequest, user: Any) -> None:
        """Refuse a call that would find no room now. The socket is what decides."""
        if isinstance(request, ASGIRequest) and this_process().is_draining:
            raise Refused(503, "the server restarts")
        if settings.MAX_SESSIONS_PER_PROCESS is not None and not await sync_to_async(has_room)():
            raise Refused(503, "no capacity for another call")
        limit = settings.MAX_SESSIONS_PER_USER
        if limit is None or user is None:
            return
        count = await sync_to_async(sessions_of_user)(user.pk, settings.TOKEN_MAX_AGE_SECS)
        if count >= limit:
            raise Refused(503, f"you have {limit} calls already")

    def _choose_bot(self, body: dict[str, Any]) -> str:
        name = body.get("bot")
        if name is not None and not isinstance(name, str):
            raise Refused(400, "bot: expected a string")
        if self.bot is not None and name not in {None, "", self.bot}:
            raise Refused(404, "this endpoint does not serve that bot")
        bot = settings.bot(self.bot or name)
        if bot is not None:
            return bot.name
        if self.bot is not None and self.websocket_path != WEBSOCKET_PATH:
            # The consumer there has a pipeline of its own.
            return self.bot[:BOT_NAME_MAX_LENGTH]
        raise Refused(404, "there is no such bot")

    @staticmethod
    def _read_body(request: HttpRequest) -> dict[str, Any]:
        try:
            raw = read_body(request, MAX_BODY_BYTES)
        except UnreadablePostError:
            raise Refused(400, "the request body was incomplete") from None
        except BodyTooLong:
            raise Refused(413, f"expected at most {MAX_BODY_BYTES} bytes") from None
        if not raw.strip():
            return {}
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise Refused(400, "expected a JSON object") from None
        if not isinstance(body, dict):
            raise Refused(400, "expected a JSON object")
        return body

    @staticmethod
    def _check_origin(request: HttpRequest) -> None:
        try:
            host = request.get_host()
        except DisallowedHost:
            raise Refused(400, "Host is not in ALLOWED_HOSTS") from None
        origin = request.headers.get("Origin")
        if not origin_allowed(origin, host):
            raise Refused(403, origin_refusal(origin, host))

    @staticmethod
    def _allow_reading(request: HttpRequest, response: HttpResponse) -> None:
        """Let an allowed page of another site read the answer, and ask beforehand if it may."""
        patch_vary_headers(response, ["Origin"])
        response["Cache-Control"] = "no-store"
        origin = request.headers.get("Origin")
        if origin is None:
            return
        if any_origin_allowed():
            # Everyone may read what everyone may have, not what a visitor's cookies open.
            response["Access-Control-Allow-Origin"] = "*"
        else:
            response["Access-Control-Allow-Origin"] = origin
            response["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            response["Access-Control-Allow-Methods"] = "POST"
            wanted = request.headers.get("Access-Control-Request-Headers", "")
            if re.fullmatch(r"[A-Za-z0-9, _-]{1,500}", wanted):
                response["Access-Control-Allow-Headers"] = wanted
            response["Access-Control-Max-Age"] = "600"


def bot_choices() -> list[dict[str, str]]:
    """Name, label and description of each bot; the class gives what BOTS doesn't."""
    return [_bot_choice(bot) for bot in settings.BOTS.values()]


def _bot_choice(bot: BotSettings) -> dict[str, str]:
    label, description = bot.label, bot.description
    if not (label and description):
        cls = bot.load()
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", cls.__name__)
        label = label or words[:1] + words[1:].lower()
        # Only its own docstring: an inherited one describes another class.
        first_line = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
        description = description or first_line
    return {"name": bot.name, "label": label, "description": description}


class DemoView(TemplateView):
    """A page on which to talk with the project's bots."""

    template_name = "voicews/demo.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        default = settings.bot()
        config = {
            "connectUrl": reverse("voicews:connect"),
            "bots": bot_choices(),
            "defaultBot": default.name if default else None,
        }
        return {**super().get_context_data(**kwargs), "config": config}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Content-Security-Policy"] = self._content_security_policy(request)
        return response

    @staticmethod
    def _content_security_policy(request: HttpRequest) -> str:
        """Static files and this server's sockets; no inline code, no other host."""
        url = urlsplit(static("voicews/"))
        files = f"'self' {url.scheme or request.scheme}://{url.netloc}" if url.netloc else "'self'"
        sockets = urlsplit(websocket_base(request))
        return "; ".join(
            (
                "default-src 'none'",
                f"script-src {files}",
                f"style-src {files}",
                f"img-src {files} data:",
                f"font-src {files}",
                # Not every browser takes 'self' for the sockets of the page's own host.
                f"connect-src 'self' {sockets.scheme}://{sockets.netloc}",
                "base-uri 'none'",
                "form-action 'self'",
                "frame-ancestors 'self'",
            )
        )
