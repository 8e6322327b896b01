"""The demo project's settings with bots that are Pipecat pipelines."""

from typing import Any

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import VOICEWS

CHANGES: dict[str, Any] = {
    "BOTS": {
        "echo": "tests.interop.pipecat_bots.Echo",
        "speaker": "tests.interop.pipecat_bots.Speaker",
    },
    "DEFAULT_BOT": "echo",
    "RECONNECT_GRACE_SECS": 2,
}
VOICEWS = {**VOICEWS, **CHANGES}
