"""The settings for bots that are Pipecat pipelines, with a test account at Twilio."""

import os

from tests.interop.pipecat_settings import *  # noqa: F403 - how Django settings extend one another
from tests.interop.pipecat_settings import VOICEWS as PIPECAT_VOICEWS
from voicews.testing import account_options

VOICEWS = {
    **PIPECAT_VOICEWS,
    # Providers see the server elsewhere than where it is, as behind every proxy.
    "PUBLIC_URL": "https://voice.example.com",
    "PROVIDERS": {"twilio": account_options("twilio", os.environ["PROVIDER_API_URL"])},
}
