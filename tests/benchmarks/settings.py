"""The demo project's settings as a production server has them, with bots for the benchmarks."""

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import VOICEWS

DEBUG = False
SECRET_KEY = "a key for the benchmarks only, long enough to raise no warning"
ALLOWED_HOSTS = ["127.0.0.1"]
VOICEWS = {
    **VOICEWS,
    "BOTS": {
        "echo16k": "tests.benchmarks.bots.Echo16k",
        "echo24k": "tests.benchmarks.bots.Echo24k",
        "mirror16k": "tests.benchmarks.bots.Mirror16k",
    },
    "DEFAULT_BOT": "echo16k",
}
