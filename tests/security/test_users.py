from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.utils.functional import SimpleLazyObject

from voicews.security.users import storable_user


class TokenUser:
    """What middleware for tokens makes of one, without a table."""

    is_authenticated = True
    pk = 1


@pytest.mark.parametrize(
    "user", [None, AnonymousUser(), SimpleLazyObject(AnonymousUser), TokenUser(), User()]
)
def test_no_row_can_refer_to(user: Any) -> None:
    assert storable_user(user) is None


@pytest.mark.django_db
def test_a_user_made_of_a_token_may_be_in_the_database() -> None:
    alice = User.objects.create_user("alice")
    assert storable_user(User(pk=alice.pk)) == alice
    assert storable_user(User(pk=alice.pk + 1)) is None
    assert storable_user(SimpleLazyObject(lambda: alice)) == alice
