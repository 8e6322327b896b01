"""Bots for the tests: exact ones, and some that behave badly."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NoReturn

from project.bots import Echo
from tests.consumers.project.journal import note
from voicews.bots import Bot
from voicews.frames import AudioRawFrame, ClientMessageFrame, InputAudioRawFrame
from voicews.transports import ChannelsWebsocketParams


class NotedBot(Bot):
    """Writes its end into the journal."""

    def on_end(self, reason: str) -> None:
        note("on_end", self.call_id, reason=reason)


class ExactEcho(Echo, NotedBot):
    """Returns audio at the rate it came in: byte for byte, however late."""

    audio_out_sample_rate = 16000

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.send_audio(audio)


class Counter(NotedBot):
    """Counts what it gets; its answers tell whether it is the same bot as before."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = self.messages = self.bytes_heard = 0

    def on_start(self) -> None:
        self.starts += 1

    def on_audio(self, audio: InputAudioRawFrame) -> None:
        self.bytes_heard += len(audio.audio)

    def on_message(self, message: ClientMessageFrame) -> Any:
        self.messages += 1
        note("on_message", self.call_id, data=message.data)
        if message.type == "hang up":
            self.hang_up("bot said good-bye")
        return {
            "starts": self.starts,
            "messages": self.messages,
            "bytes_heard": self.bytes_heard,
        }


class Brief(NotedBot):
    """Has no more than a second for anybody."""

    def transport_params(self) -> ChannelsWebsocketParams:
        params = super().transport_params()
        params.session_timeout = 1.0
        return params


class Strict(NotedBot):
    """Talks to the pages of one site only."""

    def transport_params(self) -> ChannelsWebsocketParams:
        params = super().transport_params()
        params.allowed_origins = ["https://voice.example"]
        return params


class Failing(Bot):
    """Fails in every handler."""

    def on_start(self) -> NoReturn:
        raise RuntimeError("on_start")

    def on_audio(self, audio: InputAudioRawFrame) -> NoReturn:
        raise RuntimeError("on_audio")

    def on_utterance(self, utterance: AudioRawFrame) -> NoReturn:
        raise RuntimeError("on_utterance")

    def on_text(self, text: str) -> NoReturn:
        raise RuntimeError("on_text")

    def on_message(self, message: ClientMessageFrame) -> NoReturn:
        raise RuntimeError("on_message")

    def on_dtmf(self, button: str) -> NoReturn:
        raise RuntimeError("on_dtmf")

    def on_end(self, reason: str) -> NoReturn:
        raise RuntimeError("on_end")


class FailingAsync(Bot):
    """Fails in every handler, later."""

    async def on_start(self) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_start")

    async def on_audio(self, audio: InputAudioRawFrame) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_audio")

    async def on_utterance(self, utterance: AudioRawFrame) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_utterance")

    async def on_text(self, text: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_text")

    async def on_message(self, message: ClientMessageFrame) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_message")

    async def on_dtmf(self, button: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_dtmf")

    async def on_end(self, reason: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("on_end")


class Stuck(ExactEcho):
    """Doesn't come back from what it does, and won't be cancelled."""

    async def on_text(self, text: str) -> None:
        await _hang()

    async def on_dtmf(self, button: str) -> None:
        await _hang()

    async def on_end(self, reason: str) -> None:  # type: ignore[override]
        note("on_end", self.call_id, reason=reason)
        await _hang()


async def _hang() -> None:
    """Longer than any test, but not so long that the server's process could not end."""
    until = time.monotonic() + 10
    while (rest := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(rest)
        except asyncio.CancelledError:
            continue


class Slow(ExactEcho):
    """Takes its time for everything but audio."""

    async def on_message(self, message: ClientMessageFrame) -> Any:
        await asyncio.sleep(1.0)
        return message.data

    async def on_text(self, text: str) -> None:
        await asyncio.sleep(3600)


class Talkative(NotedBot):
    """Sends much more than anybody wants to hear, to a client that may not listen."""

    def transport_params(self) -> ChannelsWebsocketParams:
        params = super().transport_params()
        params.audio_out_write_timeout_secs = 1.0
        return params

    async def on_message(self, message: ClientMessageFrame) -> None:
        self.play(bytes(2 * self.audio_out_sample_rate * 60))
        stop_at = time.monotonic() + 30
        while time.monotonic() < stop_at:
            self.send_message("x" * 20_000)
            await asyncio.sleep(0.005)
