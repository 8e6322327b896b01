"""Bots for simulated calls. All work at the telephone's rate, so that no sample changes."""

from project.bots import Ivr, tone
from voicews.audio.vad import EnergyVAD, VADAnalyzer
from voicews.bots import Bot
from voicews.frames import AudioRawFrame, InputAudioRawFrame


class Telephone(Bot):
    """What these bots have in common."""

    audio_in_sample_rate = 8000
    audio_out_sample_rate = 8000


class ExactEcho(Telephone):
    """Returns everything at once, as it comes in."""

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)


class Menu(Ivr):
    """The demo's menu, with a ladder that is not over before a slow machine interrupts it."""

    ladder = Ivr.ladder * 8

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        # Not live: tests compare every sample.
        if self.echoes:
            self.send_audio(audio)


class Talker(Telephone):
    """Talks and talks, until a key is pressed or the caller says something."""

    speech = tone(440, 10_000)

    def on_start(self) -> None:
        self.play(self.speech)

    def on_dtmf(self, button: str) -> None:
        self.interrupt()

    def vad_analyzer(self) -> VADAnalyzer:
        return EnergyVAD()


class Listener(Telephone):
    """Says what it has heard back, once the caller has stopped; presses keys when told to."""

    async def on_utterance(self, utterance: AudioRawFrame) -> None:
        await self.play(utterance)

    def on_dtmf(self, button: str) -> None:
        if button == "5":
            self.send_dtmf("42#")
