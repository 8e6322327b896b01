"""Mixers and filters that were written for Pipecat, in a transport of ours."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any, disable-error-code=import-untyped

import asyncio
from typing import Any

from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
from pipecat.audio.mixers.base_audio_mixer import BaseAudioMixer
from pipecat.frames import frames as pipecat

from tests.fakes import ramp, virtual_time
from tests.transports.calls import RATE, Call
from voicews.frames import (
    FilterEnableFrame,
    FilterUpdateSettingsFrame,
    InputAudioRawFrame,
    MixerEnableFrame,
    MixerUpdateSettingsFrame,
)


class Parts:
    """What both have in common: it remembers, and asks for Pipecat's own classes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def start(self, sample_rate: int) -> None:
        self.calls.append(sample_rate)

    async def stop(self) -> None:
        self.calls.append("stop")

    async def process_frame(self, frame: Any) -> None:
        if isinstance(frame, pipecat.MixerEnableFrame | pipecat.FilterEnableFrame):
            self.calls.append(frame.enable)
        elif isinstance(
            frame, pipecat.MixerUpdateSettingsFrame | pipecat.FilterUpdateSettingsFrame
        ):
            self.calls.append(dict(frame.settings))


class Mixer(Parts, BaseAudioMixer):
    async def mix(self, audio: bytes) -> bytes:
        return b"\1\0" * (len(audio) // 2)


class Filter(Parts, BaseAudioFilter):
    async def filter(self, audio: bytes) -> bytes:
        return audio[::-1]


@virtual_time
async def test_a_mixer() -> None:
    mixer = Mixer()
    call = Call(audio_out_mixer=mixer).start()
    call.tap.push_frame(MixerEnableFrame(enable=False))
    call.tap.push_frame(MixerUpdateSettingsFrame({"volume": 0.5}))
    call.say(0.5)
    await asyncio.sleep(1)
    assert set(call.pcm()) == {0, 1}
    assert call.secs() > 0.9
    await call.finish()
    assert mixer.calls == [RATE, False, {"volume": 0.5}, "stop"]


@virtual_time
async def test_a_filter_for_each_direction() -> None:
    ins, outs = Filter(), Filter()
    call = Call(audio_in_filter=ins, audio_out_filter=outs).start()
    call.ask(FilterEnableFrame(enable=True))
    call.tap.push_frame(FilterUpdateSettingsFrame({"level": 1}))
    await call.hear(ramp(320))
    call.play(ramp(960))
    await asyncio.sleep(0.5)
    assert call.tap.down(InputAudioRawFrame) == [InputAudioRawFrame(ramp(320)[::-1], 16000)]
    assert call.pcm() == ramp(960)[::-1]
    await call.finish()
    assert ins.calls == [16000, True, "stop"]
    assert outs.calls == [RATE, {"level": 1}, "stop"]
