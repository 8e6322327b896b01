"""The demo project's settings with the bot that Pipecat's clients talk to."""

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import VOICEWS

VOICEWS = {**VOICEWS, "BOTS": {"echo": "tests.interop.bots.Echo"}, "DEFAULT_BOT": "echo"}
