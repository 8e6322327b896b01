"""The demo project's settings with short times, and bots that behave badly."""

from typing import Any

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import INSTALLED_APPS, VOICEWS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.sockets.project"]
ASGI_APPLICATION = "tests.sockets.project.asgi.application"

BOTS = {
    "echo": "project.bots.Echo",
    "parrot": "project.bots.Parrot",
    "exact_echo": "tests.sockets.project.bots.ExactEcho",
    "counter": "tests.sockets.project.bots.Counter",
    "brief": "tests.sockets.project.bots.Brief",
    "failing": "tests.sockets.project.bots.Failing",
    "failing_async": "tests.sockets.project.bots.FailingAsync",
    "stuck": "tests.sockets.project.bots.Stuck",
    "slow": "tests.sockets.project.bots.Slow",
    "talkative": "tests.sockets.project.bots.Talkative",
    "strict": "tests.sockets.project.bots.Strict",
}
CHANGES: dict[str, Any] = {
    "BOTS": BOTS,
    "DEFAULT_BOT": "echo",
    "RECONNECT_GRACE_SECS": 1.0,
    "LEASE_SECS": 3.0,
}
VOICEWS = {**VOICEWS, **CHANGES}
