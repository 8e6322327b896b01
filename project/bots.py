"""The demo project's bots."""

from django.conf import settings

from voicews.bots import Bot
from voicews.bridge import Bridge
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


class Remote(Bridge):
    """Joins the call to the voice server in the setting `REMOTE_BOT_URL`."""

    async def address(self) -> str:
        return str(settings.REMOTE_BOT_URL)
