"""A bot for the browser tests."""

import dataclasses

import numpy as np

from project.bots import Echo
from voicews.bots import Bot
from voicews.frames import OutputAudioRawFrame
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
