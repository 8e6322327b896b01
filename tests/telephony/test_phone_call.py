"""What a bot can have its call's provider do, as far as that needs no call."""

from __future__ import annotations

import pytest

from voicews.bots import Bot
from voicews.exceptions import CallFailed, InvalidState
from voicews.models import VoiceSession
from voicews.serializers.genesys import GenesysSerializer
from voicews.serializers.telephony import TelephonySerializer
from voicews.serializers.twilio import TwilioSerializer
from voicews.telephony.calls import PhoneCall
from voicews.telephony.providers.genesys import Genesys


def bot_in_a_call(serializer: TelephonySerializer) -> Bot:
    provider = Genesys(public_url="https://example.com", api_key="k", client_secret="aHVzaA==")
    bot = Bot()
    bot.phone_line = PhoneCall(provider, VoiceSession(call_id="c1"), serializer)
    return bot


def test_output_variables_are_gathered_for_the_goodbye() -> None:
    serializer = GenesysSerializer()
    bot = bot_in_a_call(serializer)
    bot.set_output_variables({"intent": "billing", "language": "de"})
    bot.set_output_variables({"language": "en"})
    assert serializer.output_variables == {"intent": "billing", "language": "en"}


@pytest.mark.parametrize(
    "variables", [{"a": 5}, {5: "a"}, {"a": "x" * 1025}, {str(n): "" for n in range(65)}]
)
def test_output_variables_that_no_flow_takes(variables: dict[str, str]) -> None:
    serializer = GenesysSerializer()
    with pytest.raises(ValueError, match="output variables: expected up to 64 strings"):
        bot_in_a_call(serializer).set_output_variables(variables)
    assert serializer.output_variables == {}


def test_output_variables_where_there_is_no_flow() -> None:
    with pytest.raises(CallFailed, match="no flow"):
        bot_in_a_call(TwilioSerializer()).set_output_variables({"a": "b"})
    with pytest.raises(InvalidState, match="expected a phone call"):
        Bot().set_output_variables({"a": "b"})
