"""The server's options, as far as its command line and environment show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

IN_MEMORY_LAYER = "channels.layers.InMemoryChannelLayer"
COMPRESSION_OPTION = "--ws-per-message-deflate"
COMPRESSION_VARIABLE = "UVICORN_WS_PER_MESSAGE_DEFLATE"


def compresses(argv: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether this is uvicorn's command, and it compresses."""
    if not argv or "uvicorn" not in argv[0]:
        return False
    value = environment.get(COMPRESSION_VARIABLE, "true")
    for index, argument in enumerate(argv):
        name, _equals, given = argument.partition("=")
        if name == COMPRESSION_OPTION:
            value = given or (argv[index + 1] if index + 1 < len(argv) else value)
    return value.lower() not in {"false", "0", "no", "off", "f", "n"}
