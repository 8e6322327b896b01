"""Chromium as the browser tests use it: no profile, a microphone that plays a file."""

from __future__ import annotations

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


#: The user refuses whenever a page asks for a microphone.
REFUSED_MICROPHONE = (_FAKE_DEVICES, "--deny-permission-prompts")

#: The machine has no microphone.
MISSING_MICROPHONE = (_ALLOW_MICROPHONE, "--disable-audio-input")
