from __future__ import annotations

import inspect

import pytest

from voicews import frames
from voicews.frames import (
    AudioRawFrame,
    CancelFrame,
    ControlFrame,
    DataFrame,
    EndFrame,
    Frame,
    ImageRawFrame,
    InputAudioRawFrame,
    InputFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    SystemFrame,
)

KINDS = (SystemFrame, ControlFrame, InputFrame, DataFrame)
CONCRETE = [
    frame
    for _, frame in inspect.getmembers(frames, inspect.isclass)
    if issubclass(frame, Frame) and frame not in (Frame, AudioRawFrame, ImageRawFrame, *KINDS)
]


@pytest.mark.parametrize("frame", CONCRETE)
def test_every_frame_is_of_one_kind(frame: type[Frame]) -> None:
    assert sum(issubclass(frame, kind) for kind in KINDS) == 1


@pytest.mark.parametrize("frame", CONCRETE)
def test_frames_have_slots_only(frame: type[Frame]) -> None:
    assert not hasattr(frame.__new__(frame), "__dict__")


def test_what_an_interruption_drops_is_what_the_bot_says() -> None:
    assert issubclass(OutputAudioRawFrame, DataFrame)
    assert not issubclass(InputAudioRawFrame, DataFrame)
    assert issubclass(EndFrame, ControlFrame)
    assert issubclass(CancelFrame, SystemFrame)
    assert issubclass(InterruptionFrame, SystemFrame)


@pytest.mark.parametrize(
    ("num_bytes", "rate", "channels", "num_frames", "secs"),
    [
        (640, 16000, 1, 320, 0.02),
        (1920, 24000, 2, 480, 0.02),
        (0, 8000, 1, 0, 0.0),
        (2, 8000, 1, 1, 1 / 8000),
    ],
)
def test_length_of_audio(
    num_bytes: int, rate: int, channels: int, num_frames: int, secs: float
) -> None:
    audio = AudioRawFrame(bytes(num_bytes), rate, channels)
    assert audio.num_frames == num_frames
    assert audio.duration_secs == pytest.approx(secs)
    assert audio.pts is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("StartInterruptionFrame", frames.InterruptionFrame),
        ("TransportMessageFrame", frames.OutputTransportMessageFrame),
        ("TransportMessageUrgentFrame", frames.OutputTransportMessageUrgentFrame),
        ("InputTransportMessageUrgentFrame", frames.InputTransportMessageFrame),
        ("InputTextRawFrame", frames.InputTextFrame),
        ("InputTransportStartAudioStreamingFrame", frames.StartInputFrame),
        ("EndWorkerFrame", frames.EndRequestFrame),
        ("EndTaskFrame", frames.EndRequestFrame),
        ("CancelTaskFrame", frames.CancelWorkerFrame),
    ],
)
def test_other_names_of_a_frame_lead_to_it(theirs: str, ours: type[Frame]) -> None:
    assert getattr(frames, theirs) is ours
    assert theirs in frames.__all__


def test_a_cancel_ends_the_call_at_once() -> None:
    assert frames.CancelWorkerFrame("why").at_once
    assert not frames.EndWorkerFrame("why").at_once
