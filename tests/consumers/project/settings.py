"""The demo project's settings with short times, and bots that behave badly."""

from typing import Any

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import INSTALLED_APPS, VOICEWS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.consumers.project"]
ASGI_APPLICATION = "tests.consumers.project.asgi.application"

BOTS = {
    "echo": "project.bots.Echo",
    "parrot": "project.bots.Parrot",
    "exact_echo": "tests.consumers.project.bots.ExactEcho",
    "counter": "tests.consumers.project.bots.Counter",
    "brief": "tests.consumers.project.bots.Brief",
    "failing": "tests.consumers.project.bots.Failing",
    "failing_async": "tests.consumers.project.bots.FailingAsync",
    "stuck": "tests.consumers.project.bots.Stuck",
    "slow": "tests.consumers.project.bots.Slow",
    "talkative": "tests.consumers.project.bots.Talkative",
    "strict": "tests.consumers.project.bots.Strict",
}
CHANGES: dict[str, Any] = {
    "BOTS": BOTS,
    "DEFAULT_BOT": "echo",
    "RECONNECT_GRACE_SECS": 1.0,
    "LEASE_SECS": 3.0,
}
VOICEWS = {**VOICEWS, **CHANGES}
