"""The demo project with test accounts at all telephony providers, and bots for the tests."""

import os

from project.settings import *  # noqa: F403
from project.settings import VOICEWS as DEMO
from voicews.testing import CALLS, account_options

# Providers see the server elsewhere than where it is, as behind every proxy.
PUBLIC_URL = "https://voice.example.com"
PROVIDERS = {name: account_options(name, os.environ["PROVIDER_API_URL"]) for name in CALLS}
# The rate of the others: what is heard can be compared sample by sample.
PROVIDERS["vonage"]["sample_rate"] = 8000

VOICEWS = {
    **DEMO,
    "BOTS": {
        **DEMO["BOTS"],
        "exact_echo": "tests.telephony.simulators.project.bots.ExactEcho",
        "menu": "tests.telephony.simulators.project.bots.Menu",
        "talker": "tests.telephony.simulators.project.bots.Talker",
        "listener": "tests.telephony.simulators.project.bots.Listener",
    },
    "DEFAULT_BOT": "ivr",
    "PUBLIC_URL": PUBLIC_URL,
    "PROVIDERS": PROVIDERS,
    "CALL_START_TIMEOUT_SECS": 2.0,
}
