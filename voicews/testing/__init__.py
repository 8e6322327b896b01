"""What a project's own tests import: a bot in a call without a server, phone calls without a phone.

`BotCall` is a call with one bot, on a virtual clock: no server, no socket, no database::

    from voicews.testing import BotCall, virtual_time

    @virtual_time
    async def test_menu():
        async with BotCall(Menu()) as call:
            await call.press("2")
            await call.wait_speaking()
            await call.wait_quiet()
        assert call.texts == ["Hello", "You pressed 2"]

`place_call` simulates a telephony provider's call to a server that runs::

    from voicews.testing import place_call

    async def test_greeting(live_server):
        async with place_call("twilio", live_server.url) as call:
            await call.wait_heard(2.0)          # seconds of the bot's audio
            await call.say(read_wav("yes.wav"))
            await call.press("1")
            await call.wait_quiet()
        assert call.violations == []

A simulated call follows the provider's documents: it sends the signed webhook request, reads the
answer, opens the signed socket, sends audio in real time and plays what it receives; marks are
confirmed when the audio before them has been played. `call.heard` is the audio with the times at
which it is heard, `call.timeline` what happened, `call.violations` what the server did against the
documents. `ProviderApi` stands in for the providers' REST APIs. `account_options` gives the
options of test accounts for VOICEWS["PROVIDERS"]. Nothing here needs Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from voicews.exceptions import ConfigurationError
from voicews.telephony import Provider, create_provider
from voicews.testing.accounts import TELNYX_PRIVATE_KEY, TELNYX_PUBLIC_KEY, account_options
from voicews.testing.api import ApiCall, ProviderApi
from voicews.testing.bot_call import BotCall, RecordingLine, RequestFailed
from voicews.testing.call import CallRefused, Event, SimulatedCall, Trouble, Violation
from voicews.testing.call_control import CallControlCall
from voicews.testing.exotel import ExotelCall
from voicews.testing.genesys import GenesysCall
from voicews.testing.heard import Gap, Heard, Piece
from voicews.testing.http import HttpResponse
from voicews.testing.plivo import PlivoCall
from voicews.testing.telnyx import TelnyxCall
from voicews.testing.twilio import TwilioCall
from voicews.testing.virtual_clock import VirtualClockLoop, run_virtual, settle, virtual_time
from voicews.testing.vonage import VonageCall

#: The simulator of every provider, by its name in URLs and settings.
CALLS: Final[Mapping[str, type[SimulatedCall[Any]]]] = MappingProxyType(
    {
        "twilio": TwilioCall,
        "telnyx": TelnyxCall,
        "plivo": PlivoCall,
        "exotel": ExotelCall,
        "vonage": VonageCall,
        "genesys": GenesysCall,
    }
)


def place_call(
    provider: str | Provider,
    server_url: str,
    *,
    public_url: str = "",
    call_control: bool = False,
    **options: Any,
) -> SimulatedCall[Any]:
    """A call from a provider, to be entered with `async with`; see `SimulatedCall`.

    A provider's name stands for its test account, reached at `public_url`, which is `server_url`
    unless it is said. With `call_control`, Telnyx's call is a `CallControlCall`, as those that are
    placed are anyway. Raises `ConfigurationError` for a provider that there isn't.
    """
    if isinstance(provider, str):
        provider = create_provider(provider, public_url or server_url, account_options(provider))
    simulator = CALLS.get(provider.name)
    if simulator is None:
        raise ConfigurationError(f"expected one of {', '.join(CALLS)}, found {provider.name!r}")
    if simulator is TelnyxCall and (call_control or options.get("placed") is not None):
        simulator = CallControlCall
    elif call_control:
        raise ConfigurationError(f"call_control: expected telnyx, found {provider.name!r}")
    return simulator(provider, server_url, **options)


__all__ = [
    "CALLS",
    "TELNYX_PRIVATE_KEY",
    "TELNYX_PUBLIC_KEY",
    "ApiCall",
    "BotCall",
    "CallControlCall",
    "CallRefused",
    "Event",
    "ExotelCall",
    "Gap",
    "GenesysCall",
    "Heard",
    "HttpResponse",
    "Piece",
    "PlivoCall",
    "ProviderApi",
    "RecordingLine",
    "RequestFailed",
    "SimulatedCall",
    "TelnyxCall",
    "Trouble",
    "TwilioCall",
    "Violation",
    "VirtualClockLoop",
    "VonageCall",
    "account_options",
    "place_call",
    "run_virtual",
    "settle",
    "virtual_time",
]
