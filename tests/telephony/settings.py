"""The demo project with an impatient socket, and a bot that uses the telephone."""

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import VOICEWS as PROJECT_VOICEWS

VOICEWS = {
    **PROJECT_VOICEWS,
    "BOTS": {**PROJECT_VOICEWS["BOTS"], "operator": "tests.telephony.bots.Operator"},
    "DEFAULT_BOT": "ivr",
    "CALL_START_TIMEOUT_SECS": 1.5,
}
