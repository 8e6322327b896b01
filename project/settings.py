"""Settings of the demo project. Everything that a deployment changes comes from the environment."""

import os
from pathlib import Path
from typing import Any

import dj_database_url

from voicews.telephony import PROVIDERS

BASE_DIR = Path(__file__).resolve().parent.parent

# Published, so good for a demo only: the system check voicews.W006 says so when DEBUG is off.
DEMO_KEY = "django-insecure-voicews-demo"


def flag(name: str, default: bool) -> bool:
    """A yes or no from the environment. Raises ValueError for anything else."""
    value = os.environ.get(name, "").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    if value:
        raise ValueError(f"{name}: expected true or false, found {value!r}")
    return default


def items(name: str, default: str) -> list[str]:
    """A comma-separated list from the environment."""
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


def database(url: str) -> dict[str, Any]:
    """Django's settings for a database URL; SQLite gets what several writing threads need."""
    config: dict[str, Any] = dict(dj_database_url.parse(url, conn_health_checks=True))
    if config["ENGINE"] == "django.db.backends.sqlite3":
        # A transaction that reads first and writes later fails at once when another one wrote in
        # between, however long the timeout is; IMMEDIATE takes the write lock at the start.
        config["OPTIONS"] = {
            **config.get("OPTIONS", {}),
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    return config


def channel_layer(redis_url: str) -> dict[str, Any]:
    """Django's settings for a channel layer: Redis, or memory for a single process."""
    if not redis_url:
        return {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    return {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [redis_url]},
    }


def providers() -> dict[str, dict[str, Any]]:
    """The telephony providers whose options are in the environment: TWILIO_ACCOUNT_SID and so on.

    While DEBUG is on, `SIMULATED_PROVIDERS`, the URL of a stand-in for their APIs, switches the
    others on with the test accounts that `manage.py voicews_call` calls from.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, provider in PROVIDERS.items():
        for option in provider.options():
            if value := os.environ.get(f"{name}_{option.name}".upper()):
                found.setdefault(name, {})[option.name] = value
    api_url = os.environ.get("SIMULATED_PROVIDERS")
    if DEBUG and api_url:
        from voicews.testing import account_options

        for name in PROVIDERS.keys() - found.keys():
            found[name] = account_options(name, api_url)
    return found


DEBUG = flag("DEBUG", default=True)
SECRET_KEY = os.environ.get("SECRET_KEY", DEMO_KEY)
ALLOWED_HOSTS = items("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else "")

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "voicews",
    "project",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": database(os.environ.get("DATABASE_URL") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}"),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {"default": channel_layer(os.environ.get("REDIS_URL", ""))}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "build" / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "voicews": {"level": os.environ.get("LOG_LEVEL", "INFO")},
        # Django gives it a handler of its own while DEBUG is on: each line would come twice.
        "django": {"handlers": [], "level": "INFO"},
    },
}

# The socket of another voice server, a Pipecat bot's for instance: ws://localhost:7860/ws
REMOTE_BOT_URL = os.environ.get("REMOTE_BOT_URL", "")

VOICEWS: dict[str, Any] = {
    "BOTS": {
        "echo": "project.bots.Echo",
        "parrot": "project.bots.Parrot",
        "mirror": {"class": "project.bots.Mirror", "label": "Camera mirror"},
        "ivr": {"class": "project.bots.Ivr", "label": "Phone menu"},
        **({"remote": "project.bots.Remote"} if REMOTE_BOT_URL else {}),
    },
    "DEFAULT_BOT": "parrot",
    "MAY_CONNECT": "voicews.permissions.anybody",
    "PUBLIC_URL": os.environ.get("VOICEWS_PUBLIC_URL") or None,
    "PROVIDERS": providers(),
}
