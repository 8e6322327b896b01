"""What is wrong with how the server was started, which no `manage.py check` can see."""

from __future__ import annotations

import logging
import os
import sys

from django.conf import settings as django_settings

from voicews.servers.options import IN_MEMORY_LAYER, compresses

logger = logging.getLogger(__name__)

_warned: set[str] = set()


def warn_of_this_server() -> None:
    """Log, once, what makes calls dearer than they need be."""
    if compresses(sys.argv, os.environ):
        _warn(
            "uvicorn compresses every message, which nearly triples its work for no gain on audio: "
            "start it with --ws-per-message-deflate false"
        )


def warn_of_several_processes(count: int, age_secs: float, lease_secs: float) -> None:
    """Log, once, that processes can't tell each other about sessions.

    A process that has just begun, `age_secs` ago, may see the lease of the one before it.
    """
    if age_secs <= 2 * lease_secs:
        return
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    backend = layers.get("default", {}).get("BACKEND")
    if count > 1 and backend in (None, IN_MEMORY_LAYER):
        _warn(
            f"{count} server processes share the sessions without a channel layer that connects "
            "them: takeovers take seconds. Set CHANNEL_LAYERS to "
            "channels_redis.pubsub.RedisPubSubChannelLayer"
        )


def _warn(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        logger.warning(text)
