"""Where the sockets are, and the ASGI application that a project serves.

This module may be imported before Django is set up, so that a project's ``asgi.py`` needs no
particular order of imports.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path, set_script_prefix

from voicews.servers import fast_path
from voicews.servers.readiness import lifespan, server_ready
from voicews.telephony import PROVIDERS

__all__ = [
    "voice_application",
    "websocket_urlpatterns",
]

logger = logging.getLogger(__name__)


@cache
def _session_consumer() -> Any:
    from voicews.consumers.voice import SessionConsumer

    return SessionConsumer.as_asgi()


async def session_socket(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application of a session's socket."""
    await _session_consumer()(scope, receive, send)


def _staff_socket(name: str) -> Any:
    """ASGI application of one of the admin's sockets, with the middleware that finds its user."""

    @cache
    def application() -> Any:
        from voicews.admin import sockets

        return sockets.application(getattr(sockets, name))

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await application()(scope, receive, send)

    return serve


@cache
def _phone_consumer() -> Any:
    from voicews.telephony.consumers import PhoneConsumer

    return PhoneConsumer.as_asgi()


async def phone_socket(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application of a phone call's socket."""
    await _phone_consumer()(scope, receive, send)


async def no_such_socket(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application that refuses a socket without a route; the client sees HTTP 403."""
    logger.info("no socket at this path: refused")
    await receive()
    await send({"type": "websocket.close"})


# Channels routes ASGI applications with Django's own paths, which are typed for views.
websocket_urlpatterns: list[Any] = [
    path("ws/voice/<uuid:session>/", cast("Any", session_socket)),
    # Providers add or drop the slash at the end as they like.
    re_path(
        rf"^ws/voice/(?P<provider>{'|'.join(PROVIDERS)})(?:/(?P<token>[0-9A-Za-z]+))?/?$",
        cast("Any", phone_socket),
    ),
    path("ws/voicews-admin/sessions/", _staff_socket("ListSocket")),
    path("ws/voicews-admin/sessions/<uuid:session>/", _staff_socket("SessionSocket")),
    path("ws/voicews-admin/sessions/<uuid:session>/listen/", _staff_socket("ListenSocket")),
]


def voice_application(
    http_application: Any, urlpatterns: Sequence[Any] = tuple(websocket_urlpatterns)
) -> Any:
    """The ASGI application that serves Django's HTTP, the voice sockets and the lifespan protocol.

    ``http_application`` is what ``get_asgi_application()`` returns. ``urlpatterns`` are the routes
    of the WebSockets; give them to add a project's own to ``websocket_urlpatterns``.
    """
    _phone_consumer()
    _session_consumer()  # now, because importing the media code would hold up the first call
    routes = URLRouter([*urlpatterns, re_path("", cast("Any", no_such_socket))])
    return ProtocolTypeRouter(
        {
            "http": _ready_first(http_application),
            "websocket": _ready_first(_completed(_located(routes))),
            "lifespan": lifespan,
        }
    )


def _ready_first(application: Any) -> Any:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        server_ready()
        await application(scope, receive, send)

    return serve


def _located(application: Any) -> Any:
    """Find the routes of a project under a sub-path, as Django finds its URLs."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        from voicews.locations import socket_scope

        scope = socket_scope(scope)
        # For `reverse`, in this connection's tasks only.
        set_script_prefix(f"{scope['root_path']}/")
        await application(scope, receive, send)

    return serve


def _completed(application: Any) -> Any:
    """Put right what the server's `send` and `receive` lack, below any middleware of the routes.

    A middleware hides the server from a consumer: so what has a limit, what a flood is and every
    close code are seen to here. ``scope["voicews.send"]`` leads past it, to break off.
    """

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        send = fast_path.wrap_send(send, scope)
        receive = fast_path.wrap_receive(receive, send)
        try:
            await application({**scope, "voicews.send": send}, receive, send)
        finally:
            connection = fast_path.connection_of(send)
            if connection is not None:
                connection.release()

    return serve
