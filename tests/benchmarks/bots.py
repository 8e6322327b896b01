"""Bots that return the caller's audio, at the caller's rate and resampled."""

from voicews.bots import Bot
from voicews.frames import InputAudioRawFrame


class Echo24k(Bot):
    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)


class Echo16k(Echo24k):
    audio_out_sample_rate = 16000


class Echo8k(Echo24k):
    audio_in_sample_rate = 8000
    audio_out_sample_rate = 8000
