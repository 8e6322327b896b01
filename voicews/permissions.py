"""Who may connect: the functions that ``VOICEWS["MAY_CONNECT"]`` can name, and how it is asked.

Such a function is called as ``may_connect(user, bot_name, request_or_scope)`` with the asking user
(an ``AnonymousUser`` without a login), the name of the bot, and the ``HttpRequest`` of the
connect endpoint, or the ASGI scope where a socket is opened without one. It answers True or False,
may be ``async``, and runs in a thread, where it may query the database, when it is not.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from voicews.conf import load, settings
from voicews.exceptions import ConfigurationError

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.http import HttpRequest

    User = AbstractBaseUser | AnonymousUser
    RequestOrScope = HttpRequest | Mapping[str, Any]

__all__ = [
    "anybody",
    "authenticated",
]


def anybody(user: User, bot_name: str, request_or_scope: RequestOrScope) -> bool:
    """Everybody may connect: for demos and for public bots."""
    return True


def authenticated(user: User, bot_name: str, request_or_scope: RequestOrScope) -> bool:
    """Users who are logged in may connect."""
    return user.is_authenticated


async def may_connect(user: User, bot_name: str, request_or_scope: RequestOrScope) -> bool:
    """What the project's function answers. Raises ConfigurationError when it can't be imported."""
    function = load(settings.MAY_CONNECT, "MAY_CONNECT")
    if not callable(function):
        raise ConfigurationError(f"VOICEWS MAY_CONNECT: expected a function, found {function!r}")
    if inspect.iscoroutinefunction(function):
        return bool(await function(user, bot_name, request_or_scope))
    answer = await sync_to_async(lambda: function(user, bot_name, request_or_scope))()
    # A decorator may hide that it is `async`, and every coroutine is true.
    return bool(await answer if inspect.isawaitable(answer) else answer)


def refusal(user: User) -> str:
    """The text for a user whom `may_connect` refuses."""
    if user.is_authenticated:
        return "you may not connect to this bot"
    return "you may not connect to this bot: you are not logged in"
