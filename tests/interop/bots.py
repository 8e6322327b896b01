"""The bot that Pipecat's clients talk to: what tests.interop.pipecat_server is, in voicews."""

from typing import Any

from tests.interop.signals import tone
from voicews.bots import Bot
from voicews.frames import ClientMessageFrame, InputAudioRawFrame


class Echo(Bot):
    """Return the caller's audio, and the data of the client message ``echo``.

    The client message ``say`` (text, seconds) makes it say that text in so much time.
    """

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)

    def on_message(self, message: ClientMessageFrame) -> Any:
        if message.type == "say":
            rate = self.audio_out_sample_rate
            seconds = message.data["seconds"]
            self.play(tone(300, seconds, rate), text=message.data["text"], sample_rate=rate)
            return None
        if message.type != "echo":
            raise ValueError(f"unknown message {message.type}")
        return message.data
