"""The demo project with what the browser tests need: a recorder, a bot for the keypad, a page."""

import os

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import BASE_DIR, STATICFILES_DIRS, TEMPLATES, VOICEWS

HERE = BASE_DIR / "tests" / "browser"

ROOT_URLCONF = "tests.browser.urls"
STATICFILES_DIRS = [*STATICFILES_DIRS, HERE / "static"]
TEMPLATES = [{**TEMPLATES[0], "DIRS": [HERE / "templates", BASE_DIR / "templates"]}]
VOICEWS = {
    **VOICEWS,
    "BOTS": {
        **VOICEWS["BOTS"],
        "keypad": "tests.browser.bots.Keypad",
        "stage": "tests.browser.bots.Stage",
        "thin": "tests.browser.bots.Thin",
        "recorder": "tests.browser.bots.Recorder",
    },
    "TOKEN_MAX_AGE_SECS": float(os.environ.get("TOKEN_MAX_AGE_SECS", "60")),
    # A server that is asked to stop hands its calls over at once.
    "DRAIN_TIMEOUT_SECS": 0,
}
