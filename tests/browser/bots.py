"""A bot for the browser tests."""

import base64
import dataclasses
import time
from typing import Any

import numpy as np

from project.bots import Echo
from voicews.bots import Bot
from voicews.frames import (
    ClientMessageFrame,
    InputAudioRawFrame,
    InputImageRawFrame,
    OutputAudioRawFrame,
)
from voicews.serializers import OpusFrameSerializer
from voicews.transports import ChannelsWebsocketParams


class Keypad(Bot):
    """Says which button was pressed, and hangs up at #."""

    def on_dtmf(self, button: str) -> None:
        self.send_message({"button": button})
        if button == "#":
            self.hang_up("pressed #")


class Stage(Bot):
    """Plays two tones at the same time: 440 Hz of its own, 1000 Hz for the destination "music"."""

    def transport_params(self) -> ChannelsWebsocketParams:
        params = super().transport_params()
        return dataclasses.replace(params, audio_out_destinations=["music"])

    def on_start(self) -> None:
        for hz, destination in ((440, None), (1000, "music")):
            times = np.arange(24000 * 20) / 24000
            tone = (8000 * np.sin(2 * np.pi * hz * times)).astype("<i2").tobytes()
            self.push_frame(OutputAudioRawFrame(tone, 24000, transport_destination=destination))


class Thin(Echo):
    """An echo in Opus, for clients that take it."""

    def transport_params(self) -> ChannelsWebsocketParams:
        return dataclasses.replace(
            super().transport_params(), serializer=OpusFrameSerializer(), audio_out_bitrate=24000
        )


class Recorder(Thin):
    """Keeps what it hears and sees, with the times of arrival, and tells it when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[tuple[float, bytes]] = []
        self.pictures: list[dict[str, Any]] = []
        self.sample_rate = self.audio_in_sample_rate

    def transport_params(self) -> ChannelsWebsocketParams:
        return dataclasses.replace(super().transport_params(), video_in_framerate=5)

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.sample_rate = audio.sample_rate
        self.chunks.append((time.monotonic(), audio.audio))

    def on_image(self, image: InputImageRawFrame) -> None:
        self.pictures.append(
            {"at": time.monotonic(), "bytes": len(image.image), "size": image.size}
        )

    def on_message(self, message: ClientMessageFrame) -> Any:
        if message.type == "pictures":
            return self.pictures
        return {
            "pcm": base64.b64encode(b"".join(pcm for _, pcm in self.chunks)).decode(),
            "sample_rate": self.sample_rate,
            "arrivals": [[at, len(pcm) // 2] for at, pcm in self.chunks],
        }
