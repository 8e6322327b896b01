"""A chain of processors."""

from __future__ import annotations

from collections.abc import Iterable

from voicews.exceptions import ConfigurationError
from voicews.pipeline.processor import FrameProcessor


class Pipeline:
    """Processors in the order in which audio from the client meets them.

    A pipeline among them stands for its own processors.
    """

    def __init__(self, processors: Iterable[FrameProcessor | Pipeline]) -> None:
        self.processors: list[FrameProcessor] = []
        for item in processors:
            self.processors.extend(item.processors if isinstance(item, Pipeline) else [item])
        if not self.processors:
            raise ConfigurationError("a pipeline needs at least one processor, found none")
        if len(set(self.processors)) < len(self.processors):
            raise ConfigurationError("a processor can stand in a pipeline only once")
        for one, following in zip(self.processors, self.processors[1:], strict=False):
            one.link(following)
