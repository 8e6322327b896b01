"""What is done to audio between the play queue and the socket: filter, volume and mixer."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from voicews.audio.filters import AudioFilter
from voicews.audio.mixers import AudioMixer
from voicews.audio.pcm import fade, scale
from voicews.frames import FilterControlFrame, MixerControlFrame

#: Where filters and analyzers run that take longer than the event loop may wait.
audio_threads = ThreadPoolExecutor(thread_name_prefix="voicews-audio")

#: Called with what went wrong, and in doing what.
Report = Callable[[BaseException, str], None]


class AudioPart:
    """A filter or a mixer, plain or async or written for Pipecat, used in one way.

    What fails is reported, and the audio passes as it is.
    """

    def __init__(
        self, part: AudioFilter | AudioMixer, method: Literal["filter", "mix"], report: Report
    ) -> None:
        self._part = part
        self._method: Callable[[bytes], Any] = getattr(part, method)
        self._name = type(part).__name__
        self._report = report
        self._works = False
        self._in_thread = getattr(part, "in_thread", False)
        #: Whether `process_later` has to be used.
        self.waits = self._in_thread or inspect.iscoroutinefunction(self._method)

    def start(self, sample_rate: int, num_channels: int) -> Awaitable[None] | None:
        """The call begins; what is returned must be awaited before anything is processed."""
        parameters = inspect.signature(self._part.start).parameters
        # One written for Pipecat takes the rate only.
        takes = (sample_rate, num_channels)[: 1 if len(parameters) == 1 else 2]
        self._works = True
        starting = self._call(lambda: self._part.start(*takes), "start")
        return None if starting is None else self._started(starting)

    async def _started(self, starting: Awaitable[bool]) -> None:
        self._works = False
        self._works = await starting

    async def stop(self) -> None:
        """The call is over."""
        self._works = False
        stopping = self._call(self._part.stop, "stop")
        if stopping is not None:
            await stopping

    def control(self, frame: FilterControlFrame | MixerControlFrame) -> Awaitable[bool] | None:
        """Hand over a control frame; what is returned must be awaited."""
        return self._call(lambda: self._part.process_frame(self._known(frame)), "take a setting")

    def process(self, pcm: bytes) -> bytes:
        """The chunk, filtered or mixed; only where `waits` is False."""
        if not self._works:
            return pcm
        try:
            return bytes(self._method(pcm))
        except Exception as error:  # noqa: BLE001 - a project's own
            self._report(error, f"in {self._name}")
            return pcm

    async def process_later(self, pcm: bytes) -> bytes:
        """The same, whatever it is."""
        if not self.waits or not self._works:
            return self.process(pcm)
        try:
            if self._in_thread:
                loop = asyncio.get_running_loop()
                return bytes(await loop.run_in_executor(audio_threads, self._method, pcm))
            return bytes(await self._method(pcm))
        except Exception as error:  # noqa: BLE001 - a project's own
            self._report(error, f"in {self._name}")
            return pcm

    def _call(self, call: Callable[[], Any], doing: str) -> Awaitable[bool] | None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - a project's own
            self._report(error, f"to {doing} in {self._name}")
            self._works = self._works and doing != "start"
            return None
        return self._finish(result, doing) if inspect.isawaitable(result) else None

    async def _finish(self, awaitable: Awaitable[None], doing: str) -> bool:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - a project's own
            self._report(error, f"to {doing} in {self._name}")
            return False
        return True

    def _known(self, frame: Any) -> Any:
        """The frame as the part knows it: one written for Pipecat asks for Pipecat's class."""
        peer = sys.modules.get("pipecat.frames.frames")
        if peer is None or not any(
            kind.__module__.startswith("pipecat.") for kind in type(self._part).__mro__
        ):
            return frame
        value = frame.enable if hasattr(frame, "enable") else frame.settings
        return getattr(peer, type(frame).__name__)(value)


class OutputEffects:
    """Filter, volume and mixer of one destination, in this order."""

    def __init__(
        self,
        filter_: AudioFilter | None,
        mixer: AudioMixer | None,
        volume: float,
        num_channels: int,
        report: Report,
    ) -> None:
        self.filter = None if filter_ is None else AudioPart(filter_, "filter", report)
        self.mixer = None if mixer is None else AudioPart(mixer, "mix", report)
        self._parts = [part for part in (self.filter, self.mixer) if part is not None]
        self._channels = num_channels
        self._volume, self._gain = volume, 1.0
        self._applied = volume
        #: Whether `process_later` has to be used.
        self.waits = any(part.waits for part in self._parts)

    def start(self, sample_rate: int) -> Awaitable[object] | None:
        """The call begins; what is returned must be awaited before anything is processed."""
        starting = [part.start(sample_rate, self._channels) for part in self._parts]
        waits = [awaitable for awaitable in starting if awaitable is not None]
        return asyncio.gather(*waits) if waits else None

    async def stop(self) -> None:
        """The call is over."""
        for part in self._parts:
            await part.stop()

    def set_volume(self, volume: float) -> None:
        """The next chunk is faded to it."""
        self._volume = volume

    def set_gain(self, gain: float) -> None:
        """What the volume is multiplied by; the next chunk is faded to it."""
        self._gain = gain

    def process(self, pcm: bytes) -> bytes:
        """The chunk as it is heard; only where `waits` is False."""
        if self.filter is not None:
            pcm = self.filter.process(pcm)
        pcm = self._scale(pcm)
        return pcm if self.mixer is None else self.mixer.process(pcm)

    async def process_later(self, pcm: bytes) -> bytes:
        """The same, whatever filter and mixer are."""
        if self.filter is not None:
            pcm = await self.filter.process_later(pcm)
        pcm = self._scale(pcm)
        return pcm if self.mixer is None else await self.mixer.process_later(pcm)

    def _scale(self, pcm: bytes) -> bytes:
        wanted, applied = self._volume * self._gain, self._applied
        if wanted == applied or not pcm:
            return pcm if applied == 1.0 else scale(pcm, applied)
        self._applied = wanted
        return fade(pcm, applied, wanted, self._channels)
