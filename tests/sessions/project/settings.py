"""The demo project with bots that keep a log, and what a test changes by its environment."""

from __future__ import annotations

import json
import os

from project.settings import *  # noqa: F403

DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]

for name, value in json.loads(os.environ.get("TEST_DATABASE", "{}")).items():
    DATABASES["default"][name] = value  # noqa: F405

LAYERS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
if layer := os.environ.get("TEST_LAYER"):
    CHANNEL_LAYERS = {
        "default": {"BACKEND": LAYERS[layer], "CONFIG": {"hosts": [os.environ["REDIS_URL"]]}}
    }

if os.environ.get("TEST_DATABASE_DELAY_FILE"):
    DATABASES["default"]["ENGINE"] = "tests.sessions.project.slow_database"  # noqa: F405

VOICEWS = {
    "BOTS": {
        "watched": "tests.sessions.project.bots.Watched",
        "counter": "tests.sessions.project.bots.Counter",
        "echo": "project.bots.Echo",
    },
    "DEFAULT_BOT": "watched",
    "MAY_CONNECT": "voicews.permissions.anybody",
    "TOKEN_MAX_AGE_SECS": 600,
    **json.loads(os.environ.get("TEST_VOICEWS", "{}")),
}
