"""The bot that Pipecat's clients talk to: what tests.interop.pipecat_server is, in voicews."""

from typing import Any

from voicews.bots import Bot
from voicews.frames import ClientMessageFrame, InputAudioRawFrame


class Echo(Bot):
    """Return the caller's audio, and the data of the client message ``echo``."""

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)

    def on_message(self, message: ClientMessageFrame) -> Any:
        if message.type != "echo":
            raise ValueError(f"unknown message {message.type}")
        return message.data
