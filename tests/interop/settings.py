"""The demo project's settings with the bot that Pipecat's clients talk to."""

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import BASE_DIR, REMOTE_BOT_URL, STATICFILES_DIRS, VOICEWS

STATICFILES_DIRS = [*STATICFILES_DIRS, BASE_DIR / "tests" / "interop" / "build"]

VOICEWS = {
    **VOICEWS,
    "BOTS": {"echo": "tests.interop.bots.Echo", "remote": "project.bots.Remote"},
    "DEFAULT_BOT": "remote" if REMOTE_BOT_URL else "echo",
}
