from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.audio.signals import pcm, speech
from voicews.audio.wav import wrap_wav
from voicews.bots import Bot
from voicews.frames import AudioRawFrame, ClientMessageFrame
from voicews.testing import BotCall, RequestFailed, run_virtual, virtual_time

TONE = b"\x00\x20" * 24000


class Desk(Bot):
    """Does a bit of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed = ""
        self.ended: list[str] = []

    async def on_start(self) -> None:
        await self.play(TONE, text="Hello")

    async def on_utterance(self, utterance: AudioRawFrame) -> None:
        self.say_text(f"{utterance.duration_secs:.0f} s", spoken=False)
        await self.play(utterance)

    async def on_text(self, text: str) -> None:
        raise ValueError(text)

    async def on_dtmf(self, button: str) -> None:
        self.interrupt()
        self.pressed += button
        if button == "*":
            await self.transfer("+15551234567")
        if button == "#":
            self.send_dtmf("12")
            self.play(TONE)
            self.hang_up("pressed the hash key")

    def on_message(self, message: ClientMessageFrame) -> Any:
        if message.type == "fail":
            raise ValueError
        self.send_message({"seen": message.type})
        return {"pressed": self.pressed}

    def on_end(self, reason: str) -> None:
        self.ended.append(reason)

    def save_state(self) -> dict[str, Any]:
        return {"pressed": self.pressed}

    def restore_state(self, state: dict[str, Any]) -> None:
        self.pressed = state["pressed"]


@virtual_time
async def test_a_conversation() -> None:
    async with BotCall(Desk()) as call:
        await call.wait_speaking()
        await call.wait_quiet()
        assert call.texts == ["Hello"]
        assert call.audio == TONE
        assert call.heard_secs == 1.0
        await call.speak(wrap_wav(pcm(speech(2.0, 16000)), 16000))
        await call.stay_silent(1.5)
        await call.wait_quiet()
        assert call.texts[1:] == ["2 s"] or call.texts[1:] == ["3 s"]
        assert call.heard_secs > 2.5
        assert await call.request("what", None) == {"pressed": ""}
        assert call.server_messages == [{"seen": "what"}]
    assert call.bot.ended == ["client left"]


@virtual_time
async def test_keys_interrupt_and_the_bot_hangs_up() -> None:
    async with BotCall(Desk()) as call:
        await call.wait_speaking()
        await call.press("1")
        assert not call.is_bot_speaking
        await call.press("#")
        assert call.socket.closed == []
        await call.wait_over()
        assert call.is_over
        assert call.keys == "12"
        assert call.close_code == 1000
        assert call.bot.pressed == "1#"
    assert call.bot.ended == ["pressed the hash key"]


@virtual_time
async def test_a_phone_is_transferred() -> None:
    async with BotCall(Desk(), phone=True) as call:
        await call.press("*")
        assert call.line.transfers == ["+15551234567"]


def test_an_error_of_the_bot_fails_the_test() -> None:
    async def type_something() -> None:
        async with BotCall(Desk()) as call:
            await call.wait_speaking()
            await call.wait_quiet()
            await call.type_text("secret")

    with pytest.raises(AssertionError, match=r"\['Desk failed'\]"):
        run_virtual(type_something())


@virtual_time
async def test_an_error_that_is_expected() -> None:
    async with BotCall(Desk()) as call:
        with pytest.raises(RequestFailed, match="the bot failed to answer"):
            await call.request("fail")
        assert call.errors == ["Desk failed"]
        call.errors.clear()


@virtual_time
async def test_the_call_goes_on_after_a_lost_socket_and_in_another_process() -> None:
    async with BotCall(Desk()) as call:
        await call.press("12")
        await call.reconnect()
        assert await call.request("what") == {"pressed": "12"}
        state = await call.bot.saved_state()
    async with BotCall(Desk(), state=state) as other:
        await asyncio.sleep(1)
        assert other.texts == []
        assert await other.request("what") == {"pressed": "12"}


@virtual_time
async def test_a_wait_is_bounded() -> None:
    async with BotCall(Bot()) as call:
        with pytest.raises(TimeoutError):
            await call.wait_speaking(timeout_secs=5)


async def test_it_needs_no_virtual_clock() -> None:
    async with BotCall(Desk()) as call:
        await call.press("7")
        assert await call.request("what") == {"pressed": "7"}
