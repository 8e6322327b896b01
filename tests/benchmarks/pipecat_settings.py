"""The settings of the benchmarks with a bot that is a Pipecat pipeline."""

from tests.benchmarks.settings import *  # noqa: F403 - how Django settings extend one another
from tests.benchmarks.settings import VOICEWS as OF_THE_OTHERS

VOICEWS = {
    **OF_THE_OTHERS,
    "BOTS": {"echo16k": "tests.benchmarks.pipecat_bots.Echo16k"},
    "DEFAULT_BOT": "echo16k",
}
