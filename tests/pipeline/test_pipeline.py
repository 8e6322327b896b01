from __future__ import annotations

import pytest

from tests.fakes import Tap
from voicews.exceptions import ConfigurationError
from voicews.frames import Direction, EndFrame
from voicews.pipeline import Pipeline


def test_frames_meet_the_processors_in_order() -> None:
    seen: list[str] = []

    class Noting(Tap):
        def process_frame(self, frame: object, direction: Direction) -> None:
            seen.append(self.name)
            super().process_frame(EndFrame(), direction)

    first, second, third = Noting("1"), Noting("2"), Noting("3")
    Pipeline([first, Pipeline([second]), third])
    first.process_frame(EndFrame(), Direction.DOWNSTREAM)
    assert seen == ["1", "2", "3"]
    seen.clear()
    third.process_frame(EndFrame(), Direction.UPSTREAM)
    assert seen == ["3", "2", "1"]


def test_a_pipeline_stands_for_its_processors() -> None:
    first, second, third = Tap(), Tap(), Tap()
    assert Pipeline([first, Pipeline([second, third])]).processors == [first, second, third]


def test_an_empty_pipeline_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one processor, found none"):
        Pipeline([])


def test_a_processor_stands_in_it_once() -> None:
    tap = Tap()
    with pytest.raises(ConfigurationError, match="only once"):
        Pipeline([tap, Tap(), Pipeline([tap])])
