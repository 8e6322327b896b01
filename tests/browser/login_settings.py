"""The project of the browser tests, for users who are logged in."""

from tests.browser.settings import *  # noqa: F403 - how Django settings extend one another
from tests.browser.settings import VOICEWS

VOICEWS = {**VOICEWS, "MAY_CONNECT": "voicews.permissions.authenticated"}
LOGIN_URL = "admin:login"
