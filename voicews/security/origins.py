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
from django.http.request import split_domain_port, validate_host

from voicews.conf import settings

# What Django itself takes for ALLOWED_HOSTS while DEBUG is on and the setting is empty.
DEBUG_HOSTS = (".localhost", "127.0.0.1", "[::1]")

#: So much (characters) of a header's value is shown.
MAX_SHOWN = 100

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


def origin_refusal(
    origin: str | None, host: str, allowed_origins: Sequence[str] | None = None
) -> str:
    """Which setting refuses a page, for the server's log; see `origin_allowed`."""
    if allowed_origins is not None:
        setting = "the transport's allowed_origins"
    elif settings.ALLOWED_ORIGINS is not None:
        setting = 'VOICEWS["ALLOWED_ORIGINS"]'
    elif "*" in django_settings.ALLOWED_HOSTS:
        # A proxy may have put a name of its own in the place of the one that the page asked.
        setting = f"the Host header, {_printable(host)}"
    else:
        setting = "ALLOWED_HOSTS"
    return f"pages of {_printable(origin or '')} may not connect: not in {setting}"


def handshake_host(scope: Any) -> str:
    """The host that a WebSocket's client asked for, by Django's rule for requests."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"")
    if django_settings.USE_X_FORWARDED_HOST:
        host = headers.get(b"x-forwarded-host", host)
    return str(host.decode("latin-1"))


def host_allowed(host: str) -> bool:
    """Whether a request with this `Host` header is answered: Django's rule for ALLOWED_HOSTS."""
    allowed = list(django_settings.ALLOWED_HOSTS)
    if django_settings.DEBUG and not allowed:
        allowed = list(DEBUG_HOSTS)
    return validate_host(split_domain_port(host)[0], allowed)


def _printable(text: str) -> str:
    kept = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    return "".join(character if character.isprintable() else "�" for character in kept)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def any_origin_allowed() -> bool:
    """True if the settings let pages of every site connect."""
    return settings.ALLOWED_ORIGINS is not None and "*" in settings.ALLOWED_ORIGINS
