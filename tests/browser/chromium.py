"""Chromium as the browser tests use it: no profile, a microphone that plays a file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
)
_FAKE_DEVICES = "--use-fake-device-for-media-stream"
_ALLOW_MICROPHONE = "--use-fake-ui-for-media-stream"


def launch(playwright: Playwright, *flags: str) -> Browser:
    """A browser with a new, empty profile."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium was not found; run: make setup-test")
    return playwright.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])


def microphone(path: Path, *, repeat: bool = True) -> tuple[str, ...]:
    """Flags for a microphone that plays a WAV file from its start each time it is opened."""
    file = f"{path}" if repeat else f"{path}%noloop"
    return (_ALLOW_MICROPHONE, _FAKE_DEVICES, f"--use-file-for-fake-audio-capture={file}")


def camera(
    path: Path,
    left: tuple[int, int, int],
    right: tuple[int, int, int],
    *,
    speckles: bool = False,
) -> tuple[str, ...]:
    """Flags for a camera that sees one colour in each half; the screen is chosen by itself.

    With `speckles` there are spots of 8 pixels all over it, so that a JPEG of it is not tiny.
    """
    width, height = 640, 480
    header = f"YUV4MPEG2 W{width} H{height} F20:1 Ip A1:1 C420jpeg\n".encode()
    planes = bytearray()
    for plane, size in enumerate((width, width // 2, width // 2)):
        row = bytes([_yuv(left)[plane]]) * (size // 2) + bytes([_yuv(right)[plane]]) * (size // 2)
        if plane == 0 and speckles:
            planes += _speckled(row, height)
        else:
            planes += row * (height if plane == 0 else height // 2)
    path.write_bytes(header + (b"FRAME\n" + bytes(planes)) * 4)
    return (
        _ALLOW_MICROPHONE,
        _FAKE_DEVICES,
        f"--use-file-for-fake-video-capture={path}",
        "--auto-select-desktop-capture-source=Entire screen",
    )


def _speckled(row: bytes, height: int, spot: int = 8) -> bytes:
    """So many rows like this one, whose luma differs from spot to spot."""
    choice = random.Random(1)
    rows = bytearray()
    for _ in range(height // spot):
        shifts = [choice.randint(-20, 20) for _ in range(len(row) // spot)]
        line = bytes(
            min(235, max(16, luma + shifts[column // spot])) for column, luma in enumerate(row)
        )
        rows += line * spot
    return bytes(rows)


def _yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """ITU-R BT.601 in the range of television, as Chromium reads such a file."""
    red, green, blue = colour
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(16 + luma * 219 / 255),
        round(128 + 0.564 * (blue - luma) * 224 / 255),
        round(128 + 0.713 * (red - luma) * 224 / 255),
    )


#: The user refuses whenever a page asks for a microphone.
REFUSED_MICROPHONE = (_FAKE_DEVICES, "--deny-permission-prompts")

#: The machine has no microphone.
MISSING_MICROPHONE = (_ALLOW_MICROPHONE, "--disable-audio-input")
