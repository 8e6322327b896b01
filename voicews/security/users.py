"""Users, as the database takes them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model


def storable_user(user: Any) -> Any:
    """The user, if a row can refer to it; else None.

    There may be none, an anonymous one, and one that was made of a token: the database need not
    know it. Runs a query for one that wasn't read from there.
    """
    if not getattr(user, "is_authenticated", False) or getattr(user, "pk", None) is None:
        return None
    if not isinstance(user, get_user_model()):
        return None
    rows = get_user_model()._default_manager.filter(pk=user.pk)
    return None if user._state.adding and not rows.exists() else user
