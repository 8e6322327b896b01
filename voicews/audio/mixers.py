"""What is heard under and between the bot's speech: an office, music on hold."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from voicews.audio.pcm import INT16, mix_channels
from voicews.audio.resampling import Resampler
from voicews.audio.wav import read_wav
from voicews.exceptions import AudioFormatError, ConfigurationError
from voicews.frames import MixerControlFrame, MixerEnableFrame, MixerUpdateSettingsFrame

if TYPE_CHECKING:
    from os import PathLike

__all__ = [
    "AudioMixer",
    "SoundFileMixer",
]

#: How long (seconds) the sound takes to come, to go, and to another volume: shorter is a click.
FADE_SECS: Final = 0.05
#: The bot is still speaking when it has been digitally silent for less (seconds) than this.
DUCK_HOLD_SECS: Final = 0.4
DUCK_ATTACK_SECS: Final = 0.06
DUCK_RELEASE_SECS: Final = 0.5
#: A loop up to this long (frames) is resampled as the circle that it is: its ends fit exactly.
_MAX_CIRCLE_FRAMES: Final = 6_000_000
#: What of a longer one's other end is put before and after it, for the filter.
_OVERLAP_FRAMES: Final = 4096

_Floats = NDArray[np.float32]
_Samples = NDArray[np.int16]


class AudioMixer(ABC):
    """Adds sound to all that one destination hears; while there is one, audio never stops.

    Each method may be async. Classes written for Pipecat's `BaseAudioMixer` work as they are. A
    mixer serves one destination of one call.
    """

    @abstractmethod
    def start(self, sample_rate: int, num_channels: int = 1) -> Awaitable[None] | None:
        """The call begins: audio is PCM16LE of `sample_rate` Hz."""

    @abstractmethod
    def stop(self) -> Awaitable[None] | None:
        """The call is over."""

    @abstractmethod
    def process_frame(self, frame: MixerControlFrame) -> Awaitable[None] | None:
        """Take a control frame."""

    @abstractmethod
    def mix(self, audio: bytes) -> Awaitable[bytes] | bytes:
        """`audio` with the sound in it: as long, and clipped. Zeros are silence."""


class SoundFileMixer(AudioMixer):
    """Plays WAV files of any rate and number of channels, over and over.

    A file is read and converted once a process, in a thread, and the first calls to need it are
    heard without until then. The settings that a `MixerUpdateSettingsFrame` changes are `sound`,
    which fades the new one in over the old, `volume`, `loop` and `ducking_db`.
    """

    def __init__(
        self,
        *,
        sound_files: Mapping[str, str | PathLike[str]],
        default_sound: str,
        volume: float = 0.4,
        mixing: bool = True,
        loop: bool = True,
        ducking_db: float = 0.0,
        crossfade_secs: float = 0.5,
    ) -> None:
        """`mixing`: whether it is on; `ducking_db`: how much softer it is while the bot speaks.

        Raises `ConfigurationError` for a file that isn't there and a value that makes no sense.
        """
        self._files = {name: Path(path) for name, path in sound_files.items()}
        for name, path in self._files.items():
            if not path.is_file():
                raise ConfigurationError(f"sound {name!r}: expected a file, found none at {path}")
        if crossfade_secs < 0:
            raise ConfigurationError(f"expected crossfade_secs >= 0, found {crossfade_secs}")
        self._crossfade_secs = crossfade_secs
        self._enabled = mixing
        self._rate, self._channels = 0, 1
        self._playing: _Voice | None = None
        self._fading: _Voice | None = None
        #: Frames of the cross-fade from one to the other which are over.
        self._faded = 0
        self._level = _Ramp(0.0)
        self._duck = _Ramp(1.0)
        self._quiet_secs = math.inf
        self._sound = ""
        self._volume, self._loop, self._ducked = 0.0, True, 1.0
        self.update_settings(
            {"loop": loop, "volume": volume, "ducking_db": ducking_db, "sound": default_sound}
        )

    def start(self, sample_rate: int, num_channels: int = 1) -> None:
        self._rate, self._channels = sample_rate, num_channels
        self._playing = self._voice()
        # All of them: a switch must not wait for a file.
        for path in self._files.values():
            _load(path, sample_rate, num_channels, self._loop)

    def stop(self) -> None:
        self._playing = self._fading = None

    def process_frame(self, frame: MixerControlFrame) -> None:
        if isinstance(frame, MixerEnableFrame):
            self._enabled = frame.enable
        elif isinstance(frame, MixerUpdateSettingsFrame):
            self.update_settings(frame.settings)

    def update_settings(self, settings: Mapping[str, Any]) -> None:
        """Change what is heard. Raises `ConfigurationError`, and then nothing has changed."""
        unknown = set(settings) - {"sound", "volume", "loop", "ducking_db"}
        if unknown:
            raise ConfigurationError(
                "expected the settings sound, volume, loop and ducking_db, "
                f"found {', '.join(map(repr, sorted(unknown)))}"
            )
        sound = settings.get("sound", self._sound)
        volume = float(settings.get("volume", self._volume))
        ducking_db = float(settings.get("ducking_db", -20.0 * math.log10(self._ducked)))
        if sound not in self._files:
            names = ", ".join(map(repr, sorted(self._files)))
            raise ConfigurationError(f"sound: expected one of {names}, found {sound!r}")
        for name, value in (("volume", volume), ("ducking_db", ducking_db)):
            if not (0 <= value < math.inf):
                raise ConfigurationError(f"{name}: expected >= 0, found {value}")
        self._volume = volume
        self._ducked = 10.0 ** (-ducking_db / 20.0)
        self._loop = bool(settings.get("loop", self._loop))
        if sound != self._sound:
            self._sound = sound
            if self._rate:
                self._fading, self._playing = self._playing, self._voice()
                self._faded = 0

    def mix(self, audio: bytes) -> bytes:
        frames = len(audio) // (2 * self._channels)
        if not frames or self._playing is None:
            return audio
        gain = self._gain(audio, frames)
        if gain is None:
            return audio
        sound = self._next_sound(frames)
        if sound is None:
            return audio
        mixed = np.frombuffer(audio, INT16).reshape(-1, self._channels) + sound * gain
        np.rint(mixed, out=mixed)
        return mixed.clip(-32768.0, 32767.0).astype(INT16).tobytes()

    def _voice(self) -> _Voice:
        return _Voice(_load(self._files[self._sound], self._rate, self._channels, self._loop))

    def _gain(self, audio: bytes, frames: int) -> _Floats | None:
        """What the next frames are multiplied by; None where that is nothing but 0."""
        secs = frames / self._rate
        self._quiet_secs = 0.0 if audio.strip(b"\0") else self._quiet_secs + secs
        target = self._volume if self._enabled else 0.0
        if target == self._level.value == 0.0:
            return None
        speaks = self._quiet_secs < DUCK_HOLD_SECS
        duck_secs = DUCK_ATTACK_SECS if speaks else DUCK_RELEASE_SECS
        gain = self._level.advance(target, frames, FADE_SECS * self._rate)
        duck = self._duck.advance(self._ducked if speaks else 1.0, frames, duck_secs * self._rate)
        return (gain * duck)[:, np.newaxis]

    def _next_sound(self, frames: int) -> _Floats | None:
        assert self._playing is not None
        sound = self._playing.read(frames, loop=self._loop)
        if self._fading is None:
            return sound
        old = self._fading.read(frames, loop=self._loop)
        if sound is None:
            return old
        faded, total = self._faded, self._crossfade_secs * self._rate
        self._faded += frames
        if old is None or faded >= total:
            self._fading = None
            return sound
        # Two sounds that have nothing to do with each other are as loud as one this way.
        part = (np.arange(frames, dtype=np.float32) + np.float32(faded)) / np.float32(total)
        angle = np.minimum(part, 1.0)[:, np.newaxis] * np.float32(math.pi / 2)
        mixed: _Floats = sound * np.sin(angle) + old * np.cos(angle)
        return mixed


class _Voice:
    """One sound being played."""

    __slots__ = ("_loading", "_position")

    def __init__(self, loading: Future[_Samples]) -> None:
        self._loading: Future[_Samples] | None = loading
        self._position = 0

    def read(self, frames: int, *, loop: bool) -> _Floats | None:
        """The next frames, [frames, channels]; None while there are none.

        Raises what the reading of the file raised, once.
        """
        loading = self._loading
        if loading is None or not loading.done():
            return None
        if loading.exception() is not None:
            self._loading = None
        sound = loading.result()
        start, length = self._position, len(sound)
        self._position += frames
        if start + frames <= length:
            return sound[start : start + frames].astype(np.float32)
        if loop:
            self._position %= length
            return sound.take(range(start, start + frames), axis=0, mode="wrap").astype(np.float32)
        rest = np.zeros((frames, sound.shape[1]), np.float32)
        if start < length:
            rest[: length - start] = sound[start:]
        return rest


class _Ramp:
    """A value that moves to where it should be at a limited speed."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def advance(self, target: float, frames: int, frames_per_unit: float) -> _Floats:
        """The value at each of the next frames; 1.0 takes it `frames_per_unit`."""
        if self.value == target:
            return np.full(frames, target, np.float32)
        step = math.copysign(1.0 / frames_per_unit, target - self.value)
        steps = np.arange(1, frames + 1, dtype=np.float32) * np.float32(step)
        values: _Floats = np.clip(
            np.float32(self.value) + steps, min(self.value, target), max(self.value, target)
        )
        reached = abs(target - self.value) <= frames / frames_per_unit
        self.value = target if reached else float(values[-1])
        return values


# --- files ------------------------------------------------------------------------------------

_lock = threading.Lock()
_loaded: dict[tuple[Path, int, int, int, int, bool], Future[_Samples]] = {}
_threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voicews-sounds")


def _load(path: Path, sample_rate: int, num_channels: int, loop: bool) -> Future[_Samples]:
    """The file's samples, [frames, channels], in this format: read once, by a thread."""
    stat = path.stat()
    key = (path.resolve(), stat.st_mtime_ns, stat.st_size, sample_rate, num_channels, loop)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _threads.submit(_read, path, sample_rate, num_channels, loop)
        return _loaded[key]


def _read(path: Path, sample_rate: int, num_channels: int, loop: bool) -> _Samples:
    pcm, rate, channels = read_wav(path)
    if not pcm:
        raise AudioFormatError(f"{path.name}: expected a WAV file with sound in it, found none")
    if channels != num_channels:
        if channels > 2:
            pcm = mix_channels(pcm, channels, 1)
            channels = 1
        pcm = mix_channels(pcm, channels, num_channels)
    samples: _Samples = np.frombuffer(pcm, INT16).reshape(-1, num_channels)
    if rate == sample_rate:
        return samples
    if loop and len(samples) <= _MAX_CIRCLE_FRAMES:
        return _resample_circle(samples, round(len(samples) * sample_rate / rate))
    overlap = min(_OVERLAP_FRAMES, len(samples)) if loop else 0
    resampler = Resampler(rate, sample_rate, num_channels)
    around = np.concatenate([samples[len(samples) - overlap :], samples, samples[:overlap]])
    converted = resampler.process(around.tobytes()) + resampler.flush()
    start = round(overlap * sample_rate / rate)
    length = round(len(samples) * sample_rate / rate)
    result: _Samples = np.frombuffer(converted, INT16).reshape(-1, num_channels)
    return result[start : start + length]


def _resample_circle(samples: _Samples, length: int) -> _Samples:
    """Exactly `length` frames that follow each other as they did, the last and the first too."""
    length = max(1, length)
    spectrum = np.fft.rfft(samples, axis=0)
    bins = length // 2 + 1
    cut = np.zeros((bins, samples.shape[1]), spectrum.dtype)
    # What lies at the lower half of the rates itself belongs to neither of its sides.
    kept = min(bins, len(spectrum), (min(length, len(samples)) - 1) // 2 + 1)
    cut[:kept] = spectrum[:kept]
    floats = np.fft.irfft(cut, length, axis=0) * (length / len(samples))
    return np.rint(floats).clip(-32768, 32767).astype(INT16)
