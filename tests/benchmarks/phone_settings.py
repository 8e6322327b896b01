"""The settings of the benchmarks with a test account at Twilio."""

from tests.benchmarks.settings import *  # noqa: F403 - how Django settings extend one another
from tests.benchmarks.settings import VOICEWS as OF_BROWSER_CALLS
from voicews.testing import account_options

VOICEWS = {
    **OF_BROWSER_CALLS,
    "BOTS": {"echo8k": "tests.benchmarks.bots.Echo8k"},
    "DEFAULT_BOT": "echo8k",
    # An API at which nobody listens, so that no benchmark ever asks the real one for anything.
    "PROVIDERS": {"twilio": account_options("twilio", "http://127.0.0.1:9")},
}
