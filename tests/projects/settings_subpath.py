"""The demo project under a sub-path, as its environment says."""

import os

from project.settings import *  # noqa: F403 - how Django settings extend one another

FORCE_SCRIPT_NAME = os.environ.get("TEST_FORCE_SCRIPT_NAME") or None
ROOT_URLCONF = os.environ.get("TEST_URLCONF", "project.urls")
