"""Telephony companies: what their webhooks say, how to answer, how to know them, what to ask.

`create_provider("twilio", public_url, options)` gives the company; `ApiClient` sends the requests
that it builds. Nothing here imports Django.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from voicews.exceptions import ConfigurationError
from voicews.telephony.base import (
    Answer,
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
)
from voicews.telephony.client import ApiClient
from voicews.telephony.exotel import Exotel
from voicews.telephony.genesys import Genesys
from voicews.telephony.options import Option
from voicews.telephony.plivo import Plivo
from voicews.telephony.telnyx import Telnyx
from voicews.telephony.twilio import Twilio
from voicews.telephony.vonage import Vonage

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
    "Answer",
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
    "create_provider",
]
