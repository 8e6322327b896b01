"""The demo project's bots."""

import asyncio
import math
from array import array

import numpy as np
from django.conf import settings

from voicews.bots import Bot
from voicews.bridge import Bridge
from voicews.frames import (
    AudioRawFrame,
    ClientMessageFrame,
    InputAudioRawFrame,
    InputImageRawFrame,
)
from voicews.transports import ChannelsWebsocketParams
from voicews.video.images import decode


class Echo(Bot):
    """Returns everything at once, as it comes in."""

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio, live=True)

    def on_message(self, message: ClientMessageFrame) -> object:
        return message.data


class Parrot(Bot):
    """Waits until you stop speaking, then says it back; falls silent when you talk over it."""

    async def on_utterance(self, utterance: AudioRawFrame) -> None:
        await self.play(utterance)

    def on_text(self, text: str) -> None:
        self.say_text(text, spoken=False)

    def on_message(self, message: ClientMessageFrame) -> object:
        return message.data


def tone(frequency: float, duration_ms: int) -> bytes:
    """A sine of 8000 Hz mono PCM, without a click at its ends."""
    count = 8 * duration_ms
    samples = array("h")
    for index in range(count):
        loudness = 8000 * min(1.0, index / 80, (count - index) / 80)
        samples.append(int(loudness * math.sin(math.tau * frequency * index / 8000)))
    return samples.tobytes()


class Ivr(Bot):
    """A menu of tones for telephone keys: 1 echoes, 2 plays a ladder, 0 greets again, 9 hangs up.

    Any other key silences it.
    """

    audio_in_sample_rate = 8000
    audio_out_sample_rate = 8000

    greeting = tone(440, 200) + tone(660, 300)
    ladder = b"".join(tone(440 * 2 ** (step / 12), 150) for step in (0, 2, 4, 5, 7, 9, 11, 12))
    goodbye = tone(660, 200) + tone(440, 300)

    def __init__(self) -> None:
        super().__init__()
        self.echoes = False

    def on_start(self) -> None:
        self.greet()

    def greet(self) -> None:
        self.play(self.greeting, text="♪ hello")

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        if self.echoes:
            self.send_audio(audio, live=True)

    def on_dtmf(self, button: str) -> None:
        self.interrupt()
        self.echoes = button == "1"
        if button == "2":
            self.play(self.ladder, text="♪ a ladder")
        elif button == "0":
            self.greet()
        elif button == "9":
            self.play(self.goodbye, text="♪ goodbye")
            self.hang_up()


class Mirror(Bot):
    """Shows you your own camera, with the level of your voice drawn over it, and echoes you."""

    audio_in_sample_rate = 24000
    video_out_enabled = True

    def __init__(self) -> None:
        super().__init__()
        self.level = 0.0

    def transport_params(self) -> ChannelsWebsocketParams:
        params = super().transport_params()
        params.video_in_framerate = 8
        params.video_out_is_live = True
        params.video_out_width, params.video_out_height = 640, 480
        return params

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        samples = np.frombuffer(audio.audio, "<i2").astype(np.float32)
        loudness = float(np.sqrt(np.mean(samples**2))) / 8000 if len(samples) else 0.0
        self.level = max(loudness, self.level * 0.9)
        self.send_audio(audio, live=True)

    async def on_image(self, image: InputImageRawFrame) -> None:
        pixels, size = await asyncio.to_thread(decode, image.image, max_size=(640, 480))
        self.show(draw_level(pixels, size, self.level), size=size, format="RGB")


def draw_level(pixels: bytes, size: tuple[int, int], level: float) -> bytes:
    """RGB pixels with a green bar at the bottom, as long as a voice is loud (0 to 1)."""
    width, height = size
    picture = np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
    bar = picture[height * 15 // 16 :]
    bar[:] = bar // 3
    bar[:, : round(width * min(1.0, level))] = (40, 200, 80)
    return picture.tobytes()


class Remote(Bridge):
    """Joins the call to the voice server in the setting `REMOTE_BOT_URL`."""

    async def address(self) -> str:
        return str(settings.REMOTE_BOT_URL)
