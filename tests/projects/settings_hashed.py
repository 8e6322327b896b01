"""The demo project as a deployment that serves its static files with WhiteNoise."""

import os
from pathlib import Path

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import MIDDLEWARE

MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware", *MIDDLEWARE]
STATIC_ROOT = Path(os.environ["TEST_STATIC_ROOT"])
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": os.environ["TEST_STORAGE"]},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = os.environ["TEST_KEEP_ONLY_HASHED"] == "1"
