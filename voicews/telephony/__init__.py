"""Telephone calls: the providers, their webhooks, their sockets, and the requests to them.

`providers/` knows the companies and imports no Django: `create_provider("twilio", public_url,
options)` gives one. The other modules are the Django side. How a call gets here (`registry.py` has
the URLs, `tokens.py` the tokens):

1. The provider asks `/voice/<provider>/answer/` (`voicews:phone-answer`), signed. The view makes a
   `VoiceSession` of kind phone and answers with the URL of a socket.
2. The provider opens `/ws/voice/<provider>/<token>/`. The token, hexadecimal digits, opens that one
   session, once. Genesys sends no webhook: it opens `/ws/voice/genesys/`, signed.
3. The first message that matters names the call: it must be the one that the webhook was about.
4. `/voice/<provider>/status/` (`voicews:phone-status`) reports the call's state.
5. When the session ends from our side, the provider is asked once to hang up.

A call that we place begins with `calls.dial`, which makes the session first.
Switched on by `VOICEWS["PROVIDERS"]`, reached at `VOICEWS["PUBLIC_URL"]`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from voicews.exceptions import ConfigurationError
from voicews.telephony.providers.base import (
    ApiRequest,
    ApiResult,
    CallEvent,
    CallStatus,
    Dial,
    EventKind,
    NotSupported,
    Outcome,
    Provider,
    Request,
    StreamTarget,
    WebhookResponse,
)
from voicews.telephony.providers.exotel import Exotel
from voicews.telephony.providers.genesys import Genesys
from voicews.telephony.providers.http import ApiClient
from voicews.telephony.providers.options import Option
from voicews.telephony.providers.plivo import Plivo
from voicews.telephony.providers.telnyx import Telnyx
from voicews.telephony.providers.twilio import Twilio
from voicews.telephony.providers.vonage import Vonage

#: Every provider, by its name in URLs and settings.
PROVIDERS: Final[Mapping[str, type[Provider]]] = MappingProxyType(
    {provider.name: provider for provider in (Twilio, Telnyx, Plivo, Exotel, Vonage, Genesys)}
)


def create_provider(name: str, public_url: str, options: Mapping[str, Any]) -> Provider:
    """The provider `name`, with its credentials from settings.

    Raises `ConfigurationError` that says what is wrong, without the credentials.
    """
    provider = PROVIDERS.get(name)
    if provider is None:
        raise ConfigurationError(f"expected one of {', '.join(PROVIDERS)}, found {name!r}")
    return provider.from_options(public_url, options)


__all__ = [
    "PROVIDERS",
    "ApiClient",
    "ApiRequest",
    "ApiResult",
    "CallEvent",
    "CallStatus",
    "Dial",
    "EventKind",
    "Exotel",
    "Genesys",
    "NotSupported",
    "Option",
    "Outcome",
    "Plivo",
    "Provider",
    "Request",
    "StreamTarget",
    "Telnyx",
    "Twilio",
    "Vonage",
    "WebhookResponse",
    "create_provider",
]
