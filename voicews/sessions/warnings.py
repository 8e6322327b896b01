"""What is wrong with how the server was started, which no `manage.py check` can see."""

from __future__ import annotations

import logging
import os
import sys

from django.conf import settings as django_settings

logger = logging.getLogger(__name__)

IN_MEMORY_LAYER = "channels.layers.InMemoryChannelLayer"
NO_COMPRESSION = "--ws-per-message-deflate"

_warned: set[str] = set()


def warn_of_this_server() -> None:
    """Log, once, what makes calls dearer than they need be."""
    if compresses(sys.argv, os.environ):
        _warn(
            "uvicorn compresses every message, which nearly triples its work for no gain on audio: "
            "start it with --ws-per-message-deflate false"
        )


def warn_of_several_processes(count: int) -> None:
    """Log, once, that processes can't tell each other about sessions."""
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    backend = layers.get("default", {}).get("BACKEND")
    if count > 1 and backend in (None, IN_MEMORY_LAYER):
        _warn(
            f"{count} server processes share the sessions without a channel layer that connects "
            "them: takeovers take seconds. Set CHANNEL_LAYERS to "
            "channels_redis.pubsub.RedisPubSubChannelLayer"
        )


def compresses(argv: list[str], environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether this is uvicorn's command, and it compresses."""
    if not argv or "uvicorn" not in argv[0]:
        return False
    value = environment.get("UVICORN_WS_PER_MESSAGE_DEFLATE", "true")
    for index, argument in enumerate(argv):
        name, _equals, given = argument.partition("=")
        if name == NO_COMPRESSION:
            value = given or (argv[index + 1] if index + 1 < len(argv) else value)
    return value.lower() not in {"false", "0", "no", "off", "f", "n"}


def _warn(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        logger.warning(text)
