"""Listening to a pipeline while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from voicews.frames import Direction, Frame
from voicews.pipeline.processor import FrameProcessor

logger = logging.getLogger(__name__)


class Tap(FrameProcessor):
    """Hears every frame that another processor pushes downstream, from `attach` to `detach`.

    It is in the chain only while there is a listener, and costs nothing otherwise. `hear` is
    called with each frame and must not block; one that fails is heard no more.
    """

    def __init__(self, hear: Callable[[Frame], None]) -> None:
        super().__init__(name="tap")
        self._hear: Callable[[Frame], None] | None = hear

    def attach(self, processor: FrameProcessor) -> None:
        """Step into the chain behind `processor`; between two frames."""
        following = processor._next
        processor.link(self)
        if following is not None:
            self.link(following)

    def detach(self) -> None:
        """Step out of the chain."""
        previous, following = self._previous, self._next
        if previous is None:
            return
        if following is not None:
            previous.link(following)
        else:
            previous._next = None
        self._previous = self._next = None

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if direction is Direction.DOWNSTREAM and self._hear is not None:
            try:
                self._hear(frame)
            except Exception:
                logger.exception("call %s: an observer of the pipeline failed", self.call_id)
                self._hear = None
        self.push_frame(frame, direction)
