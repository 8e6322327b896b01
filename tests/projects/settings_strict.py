"""A project of its own mind: transactions for every view, logins for every page, local times."""

from project.settings import *  # noqa: F403 - how Django settings extend one another
from project.settings import BASE_DIR, DATABASES, MIDDLEWARE

DATABASES = {
    "default": {**DATABASES["default"], "ATOMIC_REQUESTS": True},
    "other": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"file:{BASE_DIR.name}?mode=memory&cache=shared",
        "ATOMIC_REQUESTS": True,
    },
}
MIDDLEWARE = [
    *MIDDLEWARE,
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "tests.projects.middleware.body_reader",
]
USE_TZ = False
TIME_ZONE = "America/Chicago"
