"""Who opens a socket."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from django.apps import apps
from django.contrib.auth.models import AnonymousUser


async def scope_user(scope: Any) -> Any:
    """The user that a middleware of the route has found; without one, the session cookie's.

    So a route works without `AuthMiddlewareStack`. An `AnonymousUser` if no user is logged in.
    """
    if "user" in scope:
        # A project's middleware may have left a lazy one: it is looked up here, in a thread.
        return await sync_to_async(lambda: scope["user"] or AnonymousUser())()
    if not apps.is_installed("django.contrib.sessions"):
        return AnonymousUser()
    found: dict[str, Any] = {}

    async def look(inner_scope: Any, receive: Any, send: Any) -> None:
        found["user"] = inner_scope["user"]

    stack: Any = AuthMiddlewareStack(look)
    await stack(dict(scope), None, None)
    # The middleware's is lazy, and found by now.
    return found["user"]
