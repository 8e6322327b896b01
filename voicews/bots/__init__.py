"""A bot: the application's side of a call, as handlers.

::

    class Greeter(Bot):
        async def on_start(self):
            await self.play(read_wav("hello.wav"))

        async def on_utterance(self, utterance):
            await self.play(utterance)
"""

from voicews.bots.bot import Bot, PhoneLine
from voicews.bots.playback import Audio, Playback
from voicews.bots.speech import Speech

__all__ = ["Audio", "Bot", "PhoneLine", "Playback", "Speech"]
