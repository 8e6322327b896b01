"""Streams of pieces are heard whole, followed to the word, and stopped with what feeds them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.audio.signals import pcm, samples, signal_to_noise, tone
from tests.fakes import current_loop, settle, virtual_time
from tests.test_bots import RATE, Call, seconds
from voicews.audio.g711 import encode_ulaw
from voicews.audio.pcm import Pcm
from voicews.audio.wav import wav_header, wrap_wav
from voicews.bots import Bot, Playback, Speech
from voicews.exceptions import AudioFormatError, InvalidState
from voicews.frames import (
    AudioRawFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
)

TONE = pcm(tone(440, 1.0, RATE))
SIZES = [37, 1697, 4063, 3001, 48000]


def cut(audio: bytes, size: int) -> list[bytes]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def heard(call: Call) -> bytes:
    return call.audio


async def stream(pieces: list[Any], delay: float = 0.0) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(delay)
        yield piece


@pytest.mark.parametrize(
    ("audio", "name"),
    [
        (b"\0\0\0\x20ftypM4A " + bytes(500), "MP4"),
        (b"OggS\0\2" + bytes(500), "Ogg"),
        (b'{"error": {"message": "quota"}}', "JSON"),
    ],
)
@virtual_time
async def test_other_formats_are_named_after_an_odd_piece_too(audio: bytes, name: str) -> None:
    call = await Call(Bot()).hello()
    call.bot.play(bytes(1031))
    with pytest.raises(AudioFormatError, match=f"found {name}"):
        call.bot.play(audio)
    await call.finish()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["write", "async", "sync", "list", "play", "send_audio"])
@virtual_time
async def test_a_second_in_is_a_second_heard(size: int, how: str) -> None:
    bot = Bot()
    call = await Call(bot).hello()
    pieces = cut(TONE, size)
    playback: Playback | None = None
    if how == "write":
        async with bot.speak() as playback:
            for piece in pieces:
                await playback.write(piece)
    elif how == "async":
        playback = await bot.play(stream(pieces))
    elif how == "sync":
        playback = await bot.play(iter([*pieces[:50], b"".join(pieces[50:])]))
    elif how == "list":
        playback = await bot.play(pieces)
    else:
        for piece in pieces:
            if how == "play":
                bot.play(piece)
            else:
                bot.send_audio(AudioRawFrame(piece, RATE))
        await asyncio.sleep(2)
    if playback is not None:
        assert playback.heard_ms == playback.duration_ms == pytest.approx(1000)
        assert not playback.interrupted
    assert heard(call) == TONE
    await call.finish()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "header", ["bare", "wav", "unknown size", "mu-law", "each piece", "with trailing chunk"]
)
@virtual_time
async def test_formats_of_a_stream(size: int, header: str) -> None:
    audio = pcm(tone(440, 1.0, 8000))
    data = {
        "bare": audio,
        "wav": wrap_wav(audio, 8000),
        "each piece": audio,
        "unknown size": wav_header(0, 8000)[:4] + b"\xff" * 4 + wav_header(0, 8000)[8:] + audio,
        "mu-law": _ulaw_wav(encode_ulaw(audio)),
        "with trailing chunk": wrap_wav(audio, 8000) + b"LIST\x05\0\0\0xxxxx\0",
    }[header]
    pieces = cut(data, size)
    if header == "each piece":
        pieces = [wrap_wav(piece, 8000) for piece in cut(audio, max(2, size & ~1))]
    bot = Bot()
    call = await Call(bot).hello()
    playback = await bot.play(stream(pieces), sample_rate=8000)
    assert playback.heard_ms == pytest.approx(1000)
    assert call.secs() == pytest.approx(1.0, abs=1 / RATE)
    quality = 35 if header == "mu-law" else 60
    assert signal_to_noise(samples(heard(call))[2400:-2400], 440, RATE)[0] > quality
    await call.finish()


def _ulaw_wav(codes: bytes) -> bytes:
    head = bytearray(wav_header(len(codes), 8000))
    head[20], head[32], head[34] = 7, 1, 8
    return bytes(head) + codes


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        (b"ID3\x04" + bytes(2000), "MP3", "ask the speech service for 16-bit PCM or WAV"),
        ((b"\xff\xfb\x90\x64" + bytes(413)) * 9, "MP3", "ask"),
        (b"OggS\0\2" + bytes(22) + b"\x01\x13OpusHead" + bytes(999), "Ogg", "ask"),
        (b"fLaC" + bytes(2000), "FLAC", "ask"),
        (b'{"error": {"message": "secret", "type": "quota"}}', "JSON", "an error message"),
        (b"<html><body>Bad gateway</body></html>" + b" " * 40, "HTML or XML", "an error message"),
        (b"SGVsbG8gd29ybGQ=" * 9, "text", "has to be decoded first"),
    ],
)
@pytest.mark.parametrize("how", ["whole", "pieces", "write"])
@virtual_time
async def test_what_is_no_pcm_is_refused_by_name(
    data: bytes, name: str, advice: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    bot = Bot()
    call = await Call(bot).hello()

    async def write() -> None:
        async with bot.speak() as speech:
            for piece in cut(data, 3):
                await speech.write(piece)

    with pytest.raises(AudioFormatError, match=f"found {name}.*: .*{advice}") as error:
        await (write() if how == "write" else bot.play(data if how == "whole" else cut(data, 100)))
    assert "secret" not in str(error.value)
    assert heard(call) == b""
    await bot.play(TONE)
    assert heard(call) == TONE
    await call.finish()


@virtual_time
async def test_a_stream_that_fails_is_told_to_who_waits_or_logged() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield seconds(0.5)
        raise OSError("gone")

    bot = Bot()
    call = await Call(bot).hello()
    with pytest.raises(OSError, match="gone"):
        await bot.play(failing())
    assert call.errors == []
    playback = bot.play(failing())
    await asyncio.sleep(2)
    assert playback.done
    assert call.errors == ["Bot failed"]
    # What came before was heard.
    assert call.secs() == pytest.approx(1.0)
    await call.finish()


@virtual_time
async def test_writing_waits_for_what_was_written() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    started = current_loop().time()
    times = []
    async with bot.speak(ahead_secs=2.0) as speech:
        for _ in range(6):
            await speech.write(seconds(1.0))
            times.append(current_loop().time() - started)
    assert times == pytest.approx([0, 0, 1, 2, 3, 4], abs=0.3)
    assert speech.heard_ms == pytest.approx(6000)
    await call.finish()


@virtual_time
async def test_no_audio_output_holds_no_speech_up() -> None:
    bot = Bot()
    call = await Call(bot, audio_out_enabled=False).hello()
    async with bot.speak(ahead_secs=0.5) as speech:
        for _ in range(5):
            await speech.write(seconds(1.0))
    assert (speech.heard_ms, speech.interrupted) == (0, True)
    await call.finish()


@virtual_time
async def test_things_are_said_in_order() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    one, two = pcm(tone(300, 0.5, RATE)), pcm(tone(600, 0.5, RATE))
    first = bot.play(stream(cut(one, 2400), 0.1))
    second = bot.play(two)
    third = bot.play(stream(cut(one, 999)))
    async with bot.speak() as fourth:
        await fourth.write(two)
    assert all(one.done for one in (first, second, third, fourth))
    assert heard(call) == one + two + one + two
    await call.finish()


@virtual_time
async def test_hang_up_waits_for_what_still_comes() -> None:
    class Leaving(Bot):
        def on_text(self, text: str) -> None:
            self.play(stream(cut(TONE, 4800), 0.05))
            self.hang_up("bye")

    bot = Leaving()
    call = await Call(bot).hello()
    await call.rtvi("send-text", {"content": "hi"})
    await asyncio.sleep(5)
    assert call.secs() == pytest.approx(1.0)
    assert call.socket.closed == [(1000, "bye")]
    await call.finish()


class Feed:
    """A text-to-speech service: half a second every 200 ms, with a word each."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[tuple[bytes, str]]:
        try:
            for number in range(20):
                await asyncio.sleep(0.2)
                self.given += 1
                yield seconds(0.5), f"w{number}"
        finally:
            self.closed = True


@pytest.mark.parametrize("how", ["turn", "task", "play"])
@virtual_time
async def test_barge_in(how: str) -> None:
    feed = Feed()
    after: list[Speech | Playback] = []
    told: list[tuple[float, str, bool]] = []

    class Talker(Bot):
        def on_interrupted(self, playback: Playback) -> None:
            told.append((playback.heard_ms, playback.heard_text, playback.interrupted))

        async def say(self) -> None:
            async with self.speak() as speech:
                async for piece, text in feed.__aiter__():
                    await speech.write(piece, text=text)
            after.append(speech)

        async def on_text(self, text: str) -> None:
            if how == "turn":
                await self.say()
            elif how == "task":
                self.task = asyncio.create_task(self.say())
            else:
                after.append(self.play(feed))

    bot = Talker()
    call = await Call(bot).hello()
    await call.rtvi("send-text", {"content": "go"})
    await asyncio.sleep(0.2 + 1.7)
    assert after == [] or not after[0].done
    bot.interrupt()
    await settle()
    [figures] = told
    assert figures[0] == pytest.approx(1700, abs=10)
    assert figures[1:] == ("w0 w1 w2", True)
    given = feed.given
    await asyncio.sleep(2)
    assert feed.given == given
    if how != "turn":
        [speech] = after
        assert figures[:2] == (speech.heard_ms, speech.heard_text)
        assert speech.interrupted
    if how == "play":
        assert feed.closed
    secs = call.secs()
    await bot.play(TONE)
    assert call.secs() == pytest.approx(secs + 1)
    await call.finish()


@virtual_time
async def test_an_interruption_while_the_next_piece_is_awaited() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    playback = bot.play(stream([(seconds(0.5), "One."), (seconds(0.5), "Two.")], 5.0))
    await asyncio.sleep(6)
    assert 400 <= playback.heard_ms <= 500
    assert not playback.done
    bot.interrupt()
    await playback
    assert playback.interrupted
    assert playback.heard_ms == pytest.approx(500)
    assert playback.heard_text == "One."
    await call.finish()


@virtual_time
async def test_what_waits_behind_a_stream_is_dropped_with_it() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    feed = Feed()
    said = [bot.play(feed), bot.play(TONE, text="never"), bot.play(Feed())]
    await asyncio.sleep(1)
    bot.interrupt()
    for playback in said:
        await playback
        assert playback.interrupted
    assert [playback.heard_text for playback in said] == ["w0", "", ""]
    await call.finish()
    assert feed.closed


@virtual_time
async def test_the_end_of_the_call_stops_it() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    feed = Feed()
    playback = bot.play(feed)
    await asyncio.sleep(1)
    call.task.cancel()
    await playback
    assert playback.interrupted
    await call.finish()
    assert feed.closed
    assert (await bot.play(Feed())).interrupted


@virtual_time
async def test_a_lost_socket_in_mid_stream() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    playback = bot.play(stream(cut(seconds(10), 4800), 0.05), text="on and on")
    await asyncio.sleep(2)
    call.connection.disconnect(1006)
    await asyncio.sleep(3)
    call.connect()
    await playback
    assert not playback.interrupted
    assert 9000 < playback.heard_ms < 10000
    await call.finish()


@virtual_time
async def test_the_client_is_told_how_far_it_was_heard() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    playback = bot.play(seconds(2), text="Good morning to you. And to all.")
    await asyncio.sleep(1.55)
    bot.interrupt()
    await playback
    await settle()
    output = call.messages("bot-output")
    assert [one["text"] for one in output if one["spoken_status"] == "new"] == [
        "Good morning to you.",
        "And to all.",
    ]
    first = output[0]["segment_id"]
    progress = [one for one in output if one["segment_id"] == first]
    assert progress[-1]["spoken_status"] == "completed"
    assert 3 <= len(progress) <= 8
    last = output[-1]
    assert last["spoken_status"] == "in-progress"
    assert last["spoken_progress"]["accumulated_text"] == "And"
    assert playback.heard_text == "Good morning to you. And"
    for one in output:
        parts = one["spoken_progress"].values()
        assert "".join(parts) == one["text"]
    json.dumps(output)
    await call.finish()


@virtual_time
async def test_a_sentence_is_shown_when_it_is_whole() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    shown = []
    async with bot.speak() as speech:
        for word in ["Good", "morning.", "How", "are", "you"]:
            await speech.write(seconds(0.3), text=word)
            await settle()
            shown.append([one["text"] for one in call.messages("bot-output")])
    assert shown == [[], *[["Good morning."]] * 4]
    output = call.messages("bot-output")
    assert [one["text"] for one in output if one["spoken_status"] == "completed"] == [
        "Good morning.",
        "How are you",
    ]
    assert speech.text == speech.heard_text == "Good morning. How are you"
    await call.finish()


@virtual_time
async def test_a_client_of_version_1_is_shown_the_text_only() -> None:
    bot = Bot()
    call = Call(bot)
    call.rtvi_version = "1.4.0"
    await call.hello()
    await bot.play(seconds(1), text="Good morning")
    assert call.messages("bot-output") == [
        {"text": "Good morning", "spoken": True, "aggregated_by": "sentence"}
    ]
    await call.finish()


@virtual_time
async def test_what_can_t_be_written() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    speech = bot.speak()
    with pytest.raises(InvalidState):
        await speech.write(TONE)
    with pytest.raises(AudioFormatError, match="found str"):
        async with speech:
            await speech.write("hello")  # type: ignore[arg-type]
    async with bot.speak() as other:
        await other.write(Pcm(TONE, RATE))
        await other.write(AudioRawFrame(TONE, RATE))
    assert other.heard_ms == pytest.approx(2000)
    with pytest.raises(InvalidState):
        await other.write(TONE)
    with pytest.raises(InvalidState):
        await other.__aenter__()
    await call.finish()


@virtual_time
async def test_a_body_that_fails_ends_the_speech_where_it_is() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    speech = bot.speak()

    async def say() -> None:
        async with speech:
            await speech.write(seconds(0.5))
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await say()
    await speech
    assert speech.heard_ms == pytest.approx(500)
    assert not speech.interrupted
    await call.finish()


@virtual_time
async def test_one_who_interrupts_itself() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    reached = []
    async with bot.speak() as speech:
        await speech.write(seconds(5), text="on and on")
        await asyncio.sleep(1)
        bot.interrupt()
        await speech.write(seconds(5))
        reached.append("never")
    assert reached == []
    assert speech.interrupted
    assert speech.heard_ms == pytest.approx(1000)
    await call.finish()


async def test_a_sync_iterator_runs_in_a_thread_and_is_closed() -> None:
    threads: set[int] = set()
    closed = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                threads.add(threading.get_ident())
                yield seconds(0.1)
        finally:
            closed.set()

    bot = Bot()
    call = await Call(bot).hello()
    playback = bot.play(pieces())
    await asyncio.sleep(0.3)
    bot.interrupt()
    await playback
    assert playback.interrupted
    assert await asyncio.to_thread(closed.wait, 5)
    assert threading.get_ident() not in threads
    call.task.cancel()
    await call.task.wait()
    await call.transport.wait_closed()


@virtual_time
async def test_a_broken_end_spoils_nothing_that_follows() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    await bot.play(TONE[:-1])
    await bot.play(TONE)
    assert signal_to_noise(samples(heard(call))[:24000], 440, RATE)[0] > 50
    second = samples(heard(call))[-24000:]
    assert signal_to_noise(second, 440, RATE)[0] > 60
    assert np.abs(second).max() < 1
    await call.finish()


@pytest.mark.parametrize("is_async", [False, True])
@virtual_time
async def test_a_greeting_reaches_the_page(is_async: bool) -> None:
    class Plain(Bot):
        def on_start(self) -> None:
            self.play(seconds(0.5), text="hello")
            self.say_text("shown", spoken=False)
            self.send_message({"n": 1})
            self.user_said("hm")

    class Async(Plain):
        async def on_start(self) -> None:  # type: ignore[override]
            super().on_start()

    call = await Call(Async() if is_async else Plain()).hello()
    await asyncio.sleep(1)
    kinds = [message["type"] for message in call.rtvi_messages]
    assert kinds[0] == "bot-ready"
    for kind in ("bot-output", "bot-started-speaking", "server-message", "user-transcription"):
        assert kind in kinds
    assert call.messages("bot-output")[0]["text"] == "hello"
    assert call.texts == ["hello", "shown"]
    await call.finish()


@virtual_time
async def test_a_greeting_reaches_a_page_that_sends_audio_before_it_is_ready() -> None:
    class Greeter(Bot):
        def on_start(self) -> None:
            self.play(seconds(0.5), text="hello")

    bot = Greeter()
    call = Call(bot)
    bot.user_said("early")
    await call.receive(InputAudioRawFrame(bytes(640), 16000))
    await asyncio.sleep(0.2)
    assert call.rtvi_messages == []
    await call.say_ready()
    await asyncio.sleep(1)
    kinds = [message["type"] for message in call.rtvi_messages]
    assert kinds[:2] == ["bot-ready", "user-transcription"]
    assert kinds.count("bot-started-speaking") == 1
    statuses = [(data["text"], data["spoken_status"]) for data in call.rtvi_data("bot-output")]
    assert statuses[0] == ("hello", "new")
    assert statuses[-1] == ("hello", "completed")
    await call.finish()


@virtual_time
async def test_a_plain_handler_that_fails_spoils_nothing_that_follows() -> None:
    class Failing(Bot):
        async def on_start(self) -> None:
            pass

        def on_interrupted(self, playback: Playback) -> None:
            raise RuntimeError(playback.text)

    bot = Failing()
    call = await Call(bot).hello()
    playbacks = [bot.play(stream([TONE], 0.1), text="one")]
    playbacks += [bot.play(TONE, text=text) for text in ("two", "three")]
    await asyncio.sleep(0.3)
    bot.interrupt()
    for playback in playbacks:
        await asyncio.wait_for(playback, 1)
        assert playback.interrupted
    assert call.errors
    call.errors.clear()


@virtual_time
async def test_pcm_that_looks_like_text_is_passed_on() -> None:
    odd = b"0@" * 480
    call = await Call(Bot()).hello()
    call.bot.send_audio(InputAudioRawFrame(odd, RATE))
    await call.bot.play(AudioRawFrame(odd, RATE))
    assert heard(call) == odd * 2
    await call.finish()


@virtual_time
async def test_audio_that_a_processor_pushes_may_be_cut_anywhere() -> None:
    bot = Bot()
    call = await Call(bot).hello()
    for piece in cut(TONE, 4801):
        bot.push_frame(OutputAudioRawFrame(piece, RATE))
    await asyncio.sleep(1.5)
    assert call.audio == TONE
    assert call.errors == []
    await call.finish()


@virtual_time
async def test_no_tones_of_keys_leave_without_audio_output() -> None:
    bot = Bot()
    call = Call(bot, audio_out_enabled=False)
    call.serializer.sends_dtmf = False
    await call.hello()
    bot.send_dtmf("12")
    await asyncio.sleep(1)
    assert call.audio == b""
    await call.finish()
