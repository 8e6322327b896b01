"""The demo project's bots."""

from voicews.bots import Bot
from voicews.frames import AudioRawFrame, ClientMessageFrame, InputAudioRawFrame


class Echo(Bot):
    """Returns everything at once, as it comes in."""

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)

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
