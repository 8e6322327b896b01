"""What the HTTP endpoints need to work in any project: under its middleware, behind its proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.auth import aget_user
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.middleware import auser as session_auser
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.http import HttpRequest
from django.views import View
from django.views.decorators.csrf import csrf_exempt

ViewFunction = TypeVar("ViewFunction", bound=Callable[..., Any])


class BodyTooLong(Exception):
    """The body of a request has more bytes than the endpoint takes."""


def non_atomic(view: ViewFunction) -> ViewFunction:
    """Keep a view out of `ATOMIC_REQUESTS`, whichever databases have it.

    Django refuses to run async views in it; and what another process is told of must be committed.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class Endpoint(View):
    """A view for programs: it authenticates requests itself, not by the project's middleware."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        # Not on `dispatch`, which a subclass may override.
        return csrf_exempt(login_not_required(non_atomic(super().as_view(**initkwargs))))


def read_body(request: HttpRequest, max_bytes: int) -> bytes:
    """The request's body, which middleware may read again afterwards.

    Raises `BodyTooLong`, and `UnreadablePostError` if the client broke off.
    """
    # What middleware has read, it may have read to the end.
    body = request.body if hasattr(request, "_body") else request.read(max_bytes + 1)
    is_too_long = len(body) > max_bytes
    if not hasattr(request, "_body"):
        # What Django's own `request.body` sets. It has no limit where the length isn't announced.
        request._body = b"" if is_too_long else body
    if is_too_long:
        raise BodyTooLong
    return body


async def request_user(request: HttpRequest) -> Any:
    """The user that the project's middleware has set; an `AnonymousUser` if there is none.

    What a middleware has put over the session's user, as `request.user` or as `request.auser`,
    counts more than that.
    """
    user = await sync_to_async(_sync_user)(request)
    auser: Any = getattr(request, "auser", None)
    if auser is not None and getattr(auser, "func", None) is not session_auser:
        session = getattr(request, "session", None)
        from_session = AnonymousUser() if session is None else await aget_user(request)
        if user is None or user == from_session:
            user = await auser()
    return AnonymousUser() if user is None else user


def _sync_user(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    # A lazy one is looked up here, in a thread.
    return user if hasattr(user, "is_authenticated") else None
