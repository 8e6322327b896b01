"""Pipecat pipelines as bots, Pipecat serializers on our sockets: the extra `voicews[pipecat]`."""

try:
    import pipecat as _pipecat  # noqa: F401 - says what is missing before anything else fails
except ImportError as error:
    raise ImportError(
        "voicews.contrib.pipecat needs Pipecat: pip install 'voicews[pipecat]'"
    ) from error

from voicews.contrib.pipecat.bot import PipecatBot
from voicews.contrib.pipecat.serializer import PipecatSerializer
from voicews.contrib.pipecat.transport import VoicewsTransport

__all__ = ["PipecatBot", "PipecatSerializer", "VoicewsTransport"]
