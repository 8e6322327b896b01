"""Middleware as projects have it."""

from __future__ import annotations

from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.utils.functional import SimpleLazyObject


def _user_of_token(request: Any) -> Any:
    name = request.headers.get("Authorization", "").removeprefix("Token ")
    return User.objects.filter(username=name).first()


def token_user(get_response: Any) -> Any:
    """A plain one, which puts the token's user over the session's."""

    def middleware(request: Any) -> Any:
        if "Authorization" in request.headers:
            request.user = _user_of_token(request)
        return get_response(request)

    return middleware


def lazy_token_user(get_response: Any) -> Any:
    """The same, looked up when somebody asks."""

    def middleware(request: Any) -> Any:
        if "Authorization" in request.headers:
            request.user = SimpleLazyObject(lambda: _user_of_token(request))
        return get_response(request)

    return middleware


class AsyncTokenUser:
    """An `async` one, which says it as `request.auser` alone."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        if "Authorization" in request.headers:
            user = await sync_to_async(_user_of_token)(request)

            async def auser() -> Any:
                return user

            request.auser = auser
        return await self.get_response(request)


class StatelessUser:
    """Somebody whom a token names, and no table."""

    is_authenticated = True
    is_active = True
    pk = 4711


def stateless_user(get_response: Any) -> Any:
    """The user is what the token says, without a look at the database."""

    def middleware(request: Any) -> Any:
        request.user = StatelessUser()
        return get_response(request)

    return middleware


def body_reader(get_response: Any) -> Any:
    """Notes the length of every request's body, after the view."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-Body-Length"] = str(len(request.body))
        return response

    return middleware
