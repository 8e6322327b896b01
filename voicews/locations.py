"""Where clients and providers reach this server: scheme, host, and the path that it is under.

A project under a sub-path knows it from `FORCE_SCRIPT_NAME` or from the server's `root_path`; the
setting `PUBLIC_URL` may have it too. Proxies strip it or keep it. Each URL of ours has it once.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings as django_settings
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.urls import get_script_prefix

from voicews.conf import settings

LOOPBACK = frozenset(["localhost", "127.0.0.1", "[::1]"])


def script_prefix() -> str:
    """The path that the project is under, as Django knows it, without a slash at its end."""
    return get_script_prefix().rstrip("/")


def scope_prefix(scope: Any) -> str:
    """The same for an ASGI connection, by Django's rule for requests."""
    prefix = django_settings.FORCE_SCRIPT_NAME or scope.get("root_path") or ""
    return str(prefix).rstrip("/")


def public_base(public_url: str, prefix: str) -> str:
    """`public_url` with the path that the project is under, once."""
    base = public_url.rstrip("/")
    path = urlsplit(base).path
    return base if path == prefix or path.endswith(prefix) else base + prefix


def path_below(path: str, prefix: str, public_url: str | None) -> str:
    """The rest of a path, below what a proxy may have left of the path that the project is under.

    `prefix` is what Django knows of that, `public_url` what the settings say.
    """
    outer = urlsplit(public_url or "").path.rstrip("/")
    for start in (prefix, outer):
        if start and path.startswith(f"{start}/"):
            return path[len(start) :]
    return path


def page_prefix(request: HttpRequest) -> str:
    """The path that the project is under, for the sockets of one of its pages."""
    prefix = str(request.META.get("SCRIPT_NAME", "")).rstrip("/")
    outer = urlsplit(settings.PUBLIC_URL or "").path
    # A project may have the path in its own URLs; routes of sockets don't know it.
    return outer if not prefix and outer and request.path.startswith(f"{outer}/") else prefix


def socket_scope(scope: Any) -> Any:
    """The scope of a WebSocket with its path as ASGI wants it: beginning with `root_path`, once."""
    prefix = scope_prefix(scope)
    rest = path_below(scope["path"], prefix, settings.PUBLIC_URL)
    return {**scope, "path": prefix + rest, "root_path": prefix}


def websocket_base(request: HttpRequest) -> str:
    """Where this request's client reaches the sockets: scheme, host, path prefix.

    Without `PUBLIC_URL` it is where the client reached this request. A proxy may have hidden that;
    the `Origin` header of one of our own pages shows it nevertheless.
    """
    prefix = str(request.META.get("SCRIPT_NAME", "")).rstrip("/")
    if settings.PUBLIC_URL:
        return re.sub("^http", "ws", public_base(settings.PUBLIC_URL, prefix))
    host = request.get_host()
    secure = request.is_secure()
    page = own_page(request, host)
    if page is not None:
        secure = secure or page.scheme == "https"
        host = page.netloc
    elif _scheme(request.headers.get("Origin")) == "https":
        # Browsers let a secure page ask a plain server on its own machine only.
        secure = secure or split_domain_port(host)[0] not in LOOPBACK
    return f"{'wss' if secure else 'ws'}://{host}{prefix}"


def own_page(request: HttpRequest, host: str) -> SplitResult | None:
    """The origin of the page that sent the request, if that is one of this very server."""
    origin = request.headers.get("Origin")
    if _scheme(origin) not in ("http", "https"):
        return None
    page = urlsplit(origin or "")
    fetch_site = request.headers.get("Sec-Fetch-Site")
    if fetch_site is not None:
        # The browser has compared the page's address with the one that it asked.
        return page if fetch_site == "same-origin" else None
    name, port = split_domain_port(host)
    page_name, page_port = split_domain_port(page.netloc.lower())
    return page if name == page_name and port in ("", page_port) else None


def _scheme(origin: str | None) -> str:
    try:
        parts = urlsplit(origin or "")
        _ = parts.port
    except ValueError:  # a port that is no number, an IPv6 address that is none
        return ""
    return parts.scheme if parts.netloc and "@" not in parts.netloc else ""
