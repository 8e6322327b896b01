"""IP addresses, as the database takes them."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address


def valid_address(address: object) -> str | None:
    """The address, or None if it is none: a server on a Unix socket has no other to tell."""
    try:
        validate_ipv46_address(str(address))
    except ValidationError:
        return None
    return str(address)
