"""What changes audio on its way: noise suppression, and whatever a project puts there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar

import numpy as np

from voicews.audio.pcm import INT16
from voicews.exceptions import ConfigurationError
from voicews.frames import FilterControlFrame, FilterEnableFrame, FilterUpdateSettingsFrame

__all__ = [
    "AudioFilter",
    "NoiseFilter",
]


class AudioFilter(ABC):
    """Changes all the audio of one direction of one call.

    Each method may be async. Classes written for Pipecat's `BaseAudioFilter` work as they are.
    """

    #: True: `filter` takes more than a millisecond, and runs in a thread instead of on the event
    #: loop. One chunk of a call at a time, in order.
    in_thread: ClassVar[bool] = False

    @abstractmethod
    def start(self, sample_rate: int, num_channels: int = 1) -> Awaitable[None] | None:
        """The call begins: audio is PCM16LE of `sample_rate` Hz."""

    @abstractmethod
    def stop(self) -> Awaitable[None] | None:
        """The call is over."""

    @abstractmethod
    def process_frame(self, frame: FilterControlFrame) -> Awaitable[None] | None:
        """Take a control frame."""

    @abstractmethod
    def filter(self, audio: bytes) -> Awaitable[bytes] | bytes:
        """The next chunk, filtered. What it holds back comes with later ones."""


class NoiseFilter(AudioFilter):
    """Takes steady noise away: fans, hum, hiss, streets. For `audio_in_filter`.

    WebRTC's noise suppression, for any rate; adds 6 ms at 16 kHz and 9 ms at 8 kHz. A
    `FilterUpdateSettingsFrame` changes `level`. Needs the extra `voicews[noise]`.
    """

    def __init__(self, *, level: int = 1, enabled: bool = True) -> None:
        """`level` 0 to 3: 6, 12, 18 or 21 dB less noise. More takes more of the voice too.

        Raises `ConfigurationError` for another level, and when the package is missing.
        """
        try:
            import pywebrtc_audio
        except ImportError:
            raise ConfigurationError(
                "NoiseFilter needs a package that is not installed: pip install 'voicews[noise]'"
            ) from None
        self._package = pywebrtc_audio
        self._enabled = self._was_enabled = enabled
        self._level = _check_level(level)
        self._format = (0, 0)
        self._processor: Any = None
        self._pending = b""
        self._frame_bytes = 0

    def start(self, sample_rate: int, num_channels: int = 1) -> None:
        self._format = (sample_rate, num_channels)
        self._frame_bytes = sample_rate // 100 * 2 * num_channels
        self._pending = b""
        self._make()

    def stop(self) -> None:
        self._processor = None

    def process_frame(self, frame: FilterControlFrame) -> None:
        if isinstance(frame, FilterEnableFrame):
            self._enabled = frame.enable
        elif isinstance(frame, FilterUpdateSettingsFrame):
            self.update_settings(frame.settings)

    def update_settings(self, settings: Mapping[str, Any]) -> None:
        """Change the `level`. Raises `ConfigurationError` for anything else."""
        unknown = ", ".join(repr(name) for name in settings if name != "level")
        if unknown:
            raise ConfigurationError(f"expected the setting level, found {unknown}")
        level = _check_level(settings.get("level", self._level))
        if level != self._level:
            self._level = level
            if self._processor is not None:
                self._make()

    def filter(self, audio: bytes) -> bytes:
        # Whole frames of 10 ms: it would fill up the last one of each chunk with silence.
        pending = self._pending + audio
        used = len(pending) // self._frame_bytes * self._frame_bytes
        self._pending = pending[used:]
        if not used:
            return b""
        samples = np.frombuffer(pending[:used], INT16)
        # Off, it goes on learning the noise.
        quieter = self._processor.process(samples)
        before, after = (quieter, samples) if self._was_enabled else (samples, quieter)
        if self._enabled == self._was_enabled:
            return bytes(before.tobytes())
        self._was_enabled = self._enabled
        # A fade, as the one is some milliseconds later than the other.
        channels = self._format[1]
        part = np.linspace(0.0, 1.0, used // (2 * channels)).repeat(channels)
        return np.rint(before * (1.0 - part) + after * part).astype(INT16).tobytes()

    def _make(self) -> None:
        rate, channels = self._format
        self._processor = self._package.AudioProcessor(
            sample_rate=rate,
            num_channels=channels,
            noise_suppression=True,
            ns_level=self._level,
        )


def _check_level(level: object) -> int:
    if level not in (0, 1, 2, 3):
        raise ConfigurationError(f"level: expected 0 to 3, found {level!r}")
    assert isinstance(level, int)
    return level
