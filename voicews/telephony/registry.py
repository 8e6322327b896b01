"""The providers that the settings switch on, and where they reach us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote
from uuid import UUID

from django.core.signals import setting_changed
from django.urls import reverse

from voicews.conf import VoicewsSettings, settings
from voicews.exceptions import ConfigurationError, NotAllowed
from voicews.locations import path_below, public_base, script_prefix
from voicews.models import VoiceSession
from voicews.telephony import Provider, Request, StreamTarget, create_provider
from voicews.telephony.tokens import Purpose, issue_phone_token

#: Where a call's socket is; see voicews.routing.
SOCKET_PATH = "/ws/voice/{provider}/{token}/"

# Each provider remembers the nonces that it has seen, so there is one of each in a process, for
# each path that the project is under: there is one of those, too.
_providers: dict[tuple[str, str], Provider] = {}


def public_http_url(found: VoicewsSettings, prefix: str) -> str:
    """Where providers reach us, a project that is under the path `prefix`.

    Raises `ConfigurationError` if the settings don't say.
    """
    if not found.PUBLIC_URL:
        raise ConfigurationError(
            "VOICEWS PUBLIC_URL: expected the URL at which providers reach this server"
        )
    return public_base(re.sub("^ws", "http", found.PUBLIC_URL), prefix)


def make_provider(name: str, found: VoicewsSettings) -> Provider:
    """The provider of that name. Raises `ConfigurationError` for what is missing or wrong."""
    return create_provider(name, public_http_url(found, script_prefix()), found.PROVIDERS[name])


def get_provider(name: str) -> Provider:
    """The provider of that name. Raises `NotAllowed` if the settings don't switch it on."""
    key = (name, script_prefix())
    provider = _providers.get(key)
    if provider is None:
        if name not in settings.PROVIDERS:
            raise NotAllowed("this provider is not configured in PROVIDERS")
        provider = _providers[key] = make_provider(name, settings)
    return provider


def stream_target(provider: Provider, session: VoiceSession, lifetime_secs: float) -> StreamTarget:
    """Where the audio of a session's call is to go."""
    token = issue_phone_token(Purpose.STREAM, provider.name, session.pk, lifetime_secs)
    base = re.sub("^http", "ws", provider.public_url)
    url = base + SOCKET_PATH.format(provider=provider.name, token=token)
    return StreamTarget(url=url, status_url=webhook_url(provider, "status"))


def webhook_url(provider: Provider, what: str, session: UUID | None = None, **query: str) -> str:
    """The URL of one of our views, `answer`, `status` or `transfer`, to give to the provider.

    With a session, the view knows from the URL which one it is about.
    """
    whole = reverse(f"voicews:phone-{what}", args=[provider.name])
    path = path_below(whole, script_prefix(), settings.PUBLIC_URL)
    if session is not None:
        query["call"] = issue_phone_token(Purpose.CALL, provider.name, session, CALL_TOKEN_SECS)
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return provider.callback_url(provider.public_url + path + (f"?{text}" if text else ""))


#: Webhooks about a call that we placed may come as long as the longest calls last.
CALL_TOKEN_SECS = 24 * 3600.0


def provider_request(
    method: str, path: str, query: bytes, headers: Mapping[str, str], body: bytes = b""
) -> Request:
    """A request in the form in which providers look at it; see `raw_path`."""
    return Request(
        method=method, path=path, query=query.decode("latin-1"), headers=headers, body=body
    )


def raw_path(scope: Mapping[str, object], path: str, prefix: str) -> str:
    """The path as it was on the wire, which signatures cover, below that of the provider's URL.

    `path` is the decoded one, `prefix` the path that the project is under.
    """
    raw = scope.get("raw_path")
    found = raw.decode("latin-1") if isinstance(raw, bytes) else quote(path)
    return path_below(found, prefix, settings.PUBLIC_URL)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "VOICEWS":
        _providers.clear()


setting_changed.connect(_forget, dispatch_uid="voicews.telephony.registry")
