"""Bots that return the caller's audio, at the caller's rate and resampled, and the pictures."""

import dataclasses

from voicews.bots import Bot
from voicews.frames import InputAudioRawFrame, InputImageRawFrame
from voicews.transports import ChannelsWebsocketParams


class Echo24k(Bot):
    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)


class Echo16k(Echo24k):
    audio_out_sample_rate = 16000


class Echo8k(Echo24k):
    audio_in_sample_rate = 8000
    audio_out_sample_rate = 8000


class Mirror16k(Echo16k):
    """Shows every picture again, at half its size: each is decoded, reduced and encoded."""

    video_out_enabled = True

    def transport_params(self) -> ChannelsWebsocketParams:
        return dataclasses.replace(
            super().transport_params(),
            video_in_framerate=30,
            video_out_is_live=True,
            video_out_framerate=30,
            video_out_width=320,
            video_out_height=240,
        )

    def on_image(self, image: InputImageRawFrame) -> None:
        self.show(image.image)
