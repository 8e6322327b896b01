from __future__ import annotations

import logging

import pytest

from tests.fakes import Tap as Watcher
from voicews.frames import Direction, Frame, InputTextFrame
from voicews.pipeline import FrameProcessor, Pipeline
from voicews.pipeline.tap import Tap


def texts(frames: list[Frame]) -> list[str]:
    return [frame.text for frame in frames if isinstance(frame, InputTextFrame)]


def test_it_hears_from_attach_to_detach() -> None:
    first, last = FrameProcessor(), Watcher()
    Pipeline([first, last])
    heard: list[Frame] = []
    tap = Tap(heard.append)
    first.push_frame(InputTextFrame("1"))
    tap.attach(first)
    first.push_frame(InputTextFrame("2"))
    first.push_frame(InputTextFrame("3"))
    tap.detach()
    first.push_frame(InputTextFrame("4"))
    assert texts(heard) == ["2", "3"]
    assert texts(last.downstream) == ["1", "2", "3", "4"]
    tap.detach()  # once more does nothing


def test_what_goes_upstream_passes_unheard() -> None:
    first, last = Watcher(), FrameProcessor()
    Pipeline([first, last])
    heard: list[Frame] = []
    Tap(heard.append).attach(first)
    last.push_frame(InputTextFrame("up"), Direction.UPSTREAM)
    assert heard == []
    assert texts(first.upstream) == ["up"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_several_listeners_come_and_go_in_any_order(order: tuple[int, ...]) -> None:
    first, last = FrameProcessor(), Watcher()
    Pipeline([first, last])
    heard: list[list[Frame]] = [[], [], []]
    taps = [Tap(frames.append) for frames in heard]
    for tap in taps:
        tap.attach(first)
    for count, gone in enumerate(order):
        first.push_frame(InputTextFrame(str(count)))
        taps[gone].detach()
    first.push_frame(InputTextFrame("last"))
    for count, gone in enumerate(order):
        assert len(heard[gone]) == count + 1
    assert texts(last.downstream) == ["0", "1", "2", "last"]
    assert last._previous is first
    assert first._next is last


def test_behind_the_last_processor() -> None:
    only = FrameProcessor()
    heard: list[Frame] = []
    tap = Tap(heard.append)
    tap.attach(only)
    only.push_frame(InputTextFrame("1"))
    tap.detach()
    only.push_frame(InputTextFrame("2"))
    assert texts(heard) == ["1"]
    assert only._next is None


def test_a_listener_that_fails_is_heard_no_more(caplog: pytest.LogCaptureFixture) -> None:
    first, last = FrameProcessor(), Watcher()
    Pipeline([first, last])
    calls: list[Frame] = []

    def fail(frame: Frame) -> None:
        calls.append(frame)
        raise ValueError("no more")

    Tap(fail).attach(first)
    with caplog.at_level(logging.ERROR):
        first.push_frame(InputTextFrame("1"))
        first.push_frame(InputTextFrame("2"))
    assert len(calls) == 1
    assert len(caplog.records) == 1
    assert texts(last.downstream) == ["1", "2"]
