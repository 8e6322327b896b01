from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils.asyncio import async_unsafe
from django.utils.functional import SimpleLazyObject

from voicews.consumers.users import scope_user

ALICE = User(pk=1, username="alice")


@async_unsafe
def look_up() -> User:
    """As a query does, it fails on the event loop."""
    return ALICE


@pytest.mark.parametrize(
    ("user", "found"),
    [
        (ALICE, ALICE),
        (None, AnonymousUser()),
        (SimpleLazyObject(look_up), ALICE),
        (SimpleLazyObject(AnonymousUser), AnonymousUser()),
    ],
    ids=["user", "none", "lazy user", "lazy nobody"],
)
async def test_the_user_of_a_middleware_of_the_route(user: Any, found: Any) -> None:
    seen = await scope_user({"user": user})
    assert seen == found
    assert seen.is_authenticated is found.is_authenticated
