"""The demo project with what the browser tests need: a recorder, a bot for the keypad, a page."""

import os
from typing import Any

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import BASE_DIR
from project.settings import STATICFILES_DIRS as STATIC_OF_THE_PROJECT
from project.settings import TEMPLATES as TEMPLATES_OF_THE_PROJECT
from project.settings import VOICEWS as VOICEWS_OF_THE_PROJECT

HERE = BASE_DIR / "tests" / "browser"

ROOT_URLCONF = "tests.browser.urls"
STATICFILES_DIRS = [*STATIC_OF_THE_PROJECT, HERE / "static"]
TEMPLATES: list[dict[str, Any]] = [
    {**TEMPLATES_OF_THE_PROJECT[0], "DIRS": [HERE / "templates", BASE_DIR / "templates"]}
]
VOICEWS: dict[str, Any] = {
    **VOICEWS_OF_THE_PROJECT,
    "BOTS": {**VOICEWS_OF_THE_PROJECT["BOTS"], "keypad": "tests.browser.bots.Keypad"},
    "TOKEN_MAX_AGE_SECS": float(os.environ.get("TOKEN_MAX_AGE_SECS", "60")),
    # A server that is asked to stop hands its calls over at once.
    "DRAIN_TIMEOUT_SECS": 0,
}
