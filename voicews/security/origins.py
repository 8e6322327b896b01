"""Which web pages may connect: one rule for the connect endpoint and for the sockets.

A browser says in ``Origin`` which site's page it acts for, and sends its user's cookies along for
every site. Other clients send no ``Origin``: their token is all that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlparse, urlsplit

from channels.security.websocket import OriginValidator
from django.conf import settings as django_settings

from voicews.conf import settings

# What Django itself takes for ALLOWED_HOSTS while DEBUG is on and the setting is empty.
DEBUG_HOSTS = (".localhost", "127.0.0.1", "[::1]")

# The validator is only asked for its answer, so it wraps no application.
_NOTHING: Any = None


def origin_allowed(
    origin: str | None, host: str, allowed_origins: Sequence[str] | None = None
) -> bool:
    """True if a client with this ``Origin`` header (None: it sent none) may connect.

    ``host`` is the request's ``Host`` header. ``allowed_origins`` are patterns as Channels'
    ``OriginValidator`` takes them; None takes ``VOICEWS["ALLOWED_ORIGINS"]``, and if that is None
    too, the page's host must be one of ``ALLOWED_HOSTS``, or the one of ``VOICEWS["PUBLIC_URL"]``.
    A ``*`` in ALLOWED_HOSTS trusts every name of this server, not every site: then the page must
    come from ``host`` itself.
    """
    if origin is None:
        return True
    patterns = settings.ALLOWED_ORIGINS if allowed_origins is None else tuple(allowed_origins)
    if patterns is None:
        hosts = list(django_settings.ALLOWED_HOSTS)
        if django_settings.DEBUG and not hosts:
            hosts = list(DEBUG_HOSTS)
        if settings.PUBLIC_URL:
            hosts.append(_hostname(settings.PUBLIC_URL))
        patterns = tuple(_hostname(f"//{host}") if name == "*" else name for name in hosts)
    try:
        parsed = urlparse(origin)
        _ = parsed.port
        return bool(OriginValidator(_NOTHING, patterns).valid_origin(parsed))
    except ValueError:  # a port that is no number, an IPv6 address that is none
        return False


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def any_origin_allowed() -> bool:
    """True if the settings let pages of every site connect."""
    return settings.ALLOWED_ORIGINS is not None and "*" in settings.ALLOWED_ORIGINS
