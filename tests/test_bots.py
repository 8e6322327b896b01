from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.audio.signals import fan_noise, pcm, samples, speech
from tests.fakes import current_loop, settle, virtual_time
from voicews.audio.pcm import Pcm
from voicews.audio.turns import PitchTurnAnalyzer, TurnAnalyzer, TurnParams
from voicews.audio.vad import EnergyVAD, VADAnalyzer
from voicews.audio.wav import wrap_wav
from voicews.bots import Bot, Playback
from voicews.exceptions import AudioFormatError
from voicews.frames import (
    AudioRawFrame,
    ClientMessageFrame,
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from voicews.pipeline import lanes
from voicews.testing import BotCall

RATE = 24000
RTVI = "rtvi-ai"


def seconds(secs: float, rate: int = RATE) -> bytes:
    return bytes(round(secs * rate) * 2)


class Call(BotCall[Bot]):
    """A call whose client says hello when the test has it do so."""

    def __init__(self, bot: Bot, **options: Any) -> None:
        super().__init__(bot, **options)
        self.task.start()
        self.connect()

    async def hello(self) -> Call:
        await self.say_ready()
        return self

    async def rtvi(self, kind: str, data: Any, id_: str = "id1") -> None:
        await self.send_rtvi(kind, data, id_)

    def messages(self, kind: str) -> list[Any]:
        return self.rtvi_data(kind)

    def secs(self) -> float:
        return self.heard_secs

    async def finish(self) -> None:
        self.task.cancel("test is over")
        await self.wait_over()
        assert current_loop().timers() == []


def noise_with_speech(secs: float, start: float, stop: float) -> bytes:
    """A room in which somebody speaks from `start` to `stop`; 16 kHz."""
    room = fan_noise(secs, 16000, -55)
    begin, end = round(start * 16000), round(stop * 16000)
    room[begin:end] += speech(stop - start, 16000)[: end - begin]
    return pcm(room)


class TestStart:
    @pytest.mark.parametrize("is_async", [False, True])
    @virtual_time
    async def test_once_when_the_client_is_there(self, is_async: bool) -> None:
        seen: list[str] = []

        class Plain(Bot):
            def on_start(self) -> None:
                seen.append("start")

        class Async(Bot):
            async def on_start(self) -> None:
                await asyncio.sleep(0)
                seen.append("start")

        call = Call(Async() if is_async else Plain())
        await settle()
        # A socket is no client yet: its first valid message makes it one.
        assert seen == []
        await call.hello()
        await call.hello()
        assert seen == ["start"]
        call.connection.disconnect(1006)
        call.connection = call.transport.connect(call.socket)
        await call.hello()
        assert seen == ["start"]
        await call.finish()

    @virtual_time
    async def test_a_bot_serves_one_call(self) -> None:
        bot = Bot()
        call = Call(bot)
        await call.finish()
        again = Call(bot)
        assert again.errors == ["Bot failed"]
        await again.finish()


class TestPlay:
    @pytest.mark.parametrize(
        ("audio", "options"),
        [
            (seconds(0.5), {}),
            (seconds(0.5, 16000), {"sample_rate": 16000}),
            (seconds(1.0), {"num_channels": 2}),
            (wrap_wav(seconds(0.5, 8000), 8000), {}),
            (wrap_wav(seconds(1.0, 44100), 44100, 2), {}),
            (Pcm(seconds(0.5, 8000), 8000), {}),
            (AudioRawFrame(seconds(0.5, 48000), 48000), {}),
            (InputAudioRawFrame(seconds(0.5, 16000), 16000), {}),
            (OutputAudioRawFrame(seconds(0.5), RATE), {}),
        ],
    )
    @virtual_time
    async def test_whatever_it_is_given(self, audio: Any, options: dict[str, Any]) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        playback = bot.play(audio, **options)
        assert playback.duration_ms == pytest.approx(500)
        assert not playback.done
        started = current_loop().time()
        assert await playback is playback
        assert current_loop().time() - started == pytest.approx(0.5, abs=0.01)
        assert playback.heard_ms == pytest.approx(500)
        assert not playback.interrupted
        assert call.secs() == pytest.approx(0.5, abs=1 / RATE)
        await call.finish()

    @pytest.mark.parametrize(
        ("audio", "options"),
        [
            (b"abcd", {"num_channels": 0}),
            (b"abcd", {"sample_rate": 0}),
            (b"abcd", {"sample_rate": -16000}),
            (b"abcd", {"sample_rate": 10**9}),
            (b"RIFF\0\0\0\0WAVE", {}),
            (Pcm(b"abc", 16000), {}),
            (AudioRawFrame(b"abcd", 0), {}),
            (AudioRawFrame(b"abcd", 16000, 0), {}),
            ("hello.wav", {}),
            (None, {}),
            (7, {}),
            (b"ID3" + bytes(100), {}),
            (Pcm(b"fLaC" + bytes(100), 16000), {}),
        ],
    )
    @virtual_time
    async def test_what_is_no_audio(self, audio: Any, options: dict[str, Any]) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        with pytest.raises(AudioFormatError, match="expected"):
            bot.play(audio, **options)
        await call.finish()
        assert call.secs() == 0

    @virtual_time
    async def test_one_after_the_other(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        first, second = bot.play(seconds(1)), bot.play(seconds(1))
        await first
        assert not second.done
        await second
        assert call.secs() == pytest.approx(2)
        await call.finish()

    @virtual_time
    async def test_interrupted(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        first, second = bot.play(seconds(1)), bot.play(seconds(1))
        await asyncio.sleep(0.5)
        bot.interrupt()
        assert (await first).heard_ms == pytest.approx(500)
        assert (first.interrupted, second.interrupted) == (True, True)
        assert second.heard_ms == 0
        await settle()
        assert InterruptionFrame() in call.serializer.received(call.socket)
        await call.finish()

    @virtual_time
    async def test_one_who_waits_may_give_up(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        playback = bot.play(seconds(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(playback), 0.3)
        assert not playback.done
        await playback
        assert playback.heard_ms == pytest.approx(1000)
        await call.finish()

    @pytest.mark.parametrize("how", ["before", "after"])
    @virtual_time
    async def test_after_the_end(self, how: str) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        if how == "before":
            playback = bot.play(seconds(100))
            await asyncio.sleep(1)
        call.task.cancel()
        if how == "after":
            playback = bot.play(seconds(100))
        await asyncio.wait_for(_wait(playback), 1)
        assert playback.interrupted
        assert playback.heard_ms == pytest.approx(1000 if how == "before" else 0)
        await call.finish()

    @virtual_time
    async def test_a_socket_is_lost_and_given_back(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        sent, partly = bot.play(seconds(1.1)), bot.play(seconds(1))
        await asyncio.sleep(1)
        first = call.secs()
        call.connection.disconnect(1006)
        assert (await sent).heard_ms == pytest.approx(1000)
        assert sent.interrupted
        await asyncio.sleep(5)
        assert not partly.done
        call.connect()
        await partly
        assert partly.heard_ms == pytest.approx(1000 - (first - 1.1) * 1000)
        assert not partly.interrupted
        assert call.secs() == pytest.approx(2.1)
        await call.finish()

    @virtual_time
    async def test_send_audio_is_a_stream(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        for _ in range(10):
            bot.send_audio(AudioRawFrame(seconds(0.02, 16000), 16000))
            await asyncio.sleep(0.02)
        await settle()
        assert call.secs() == pytest.approx(0.2, abs=0.002)
        await call.finish()


async def _wait(playback: Playback) -> Playback:
    return await playback


class TestUtterances:
    @virtual_time
    async def test_what_was_said_is_cut_out(self) -> None:
        heard: list[AudioRawFrame] = []

        class Listening(Bot):
            def on_utterance(self, utterance: AudioRawFrame) -> None:
                heard.append(utterance)

        call = await Call(Listening()).hello()
        await call.speak(noise_with_speech(4.0, 1.0, 2.0))
        [utterance] = heard
        assert utterance.sample_rate == 16000
        # The second that was spoken, with what is kept before and after.
        assert 1.2 <= utterance.duration_secs <= 1.7
        wave = samples(utterance.audio)
        assert abs(wave[:3200]).max() < 0.05 < abs(wave).max()
        await call.finish()

    @virtual_time
    async def test_turns_are_taken_in_order(self) -> None:
        turns: list[str] = []

        class Slow(Bot):
            async def on_start(self) -> None:
                await asyncio.sleep(5)
                turns.append("start")

            async def on_text(self, text: str) -> None:
                await asyncio.sleep(1)
                turns.append(text)

        call = await Call(Slow()).hello()
        await call.receive(InputTextFrame("1"), InputTextFrame("2"))
        await asyncio.sleep(6.5)
        assert turns == ["start", "1"]
        await asyncio.sleep(1)
        assert turns == ["start", "1", "2"]
        await call.finish()

    @virtual_time
    async def test_barge_in(self) -> None:
        """The user talks over the bot: it falls silent, and answers what was said."""
        log: list[Any] = []

        class Talking(Bot):
            async def on_start(self) -> None:
                playback = self.play(seconds(60))
                try:
                    await playback
                except asyncio.CancelledError:
                    log.append(("cancelled", playback))
                    raise

            async def on_utterance(self, utterance: AudioRawFrame) -> None:
                log.append(("answers", await self.play(seconds(0.5))))

        call = await Call(Talking()).hello()
        started = current_loop().time()
        await call.speak(noise_with_speech(3.0, 1.0, 1.8))
        sent_after = call.socket.times[-1] - started
        await asyncio.sleep(2)
        (what, playback), (then, answer) = log
        assert (what, then) == ("cancelled", "answers")
        assert playback.interrupted
        # Heard until just after the user began.
        assert 1000 <= playback.heard_ms <= 1400
        assert (answer.heard_ms, answer.interrupted) == (pytest.approx(500), False)
        assert sent_after > 1.8
        assert call.secs() <= 1.4 + 0.24 + 0.5
        kinds = [type(frame) for frame in call.serializer.received(call.socket)]
        assert kinds.count(InterruptionFrame) == 1
        await call.finish()

    @virtual_time
    async def test_a_handler_may_interrupt_without_ending_itself(self) -> None:
        done: list[bool] = []

        class Impatient(Bot):
            async def on_text(self, text: str) -> None:
                playback = self.play(seconds(9))
                await asyncio.sleep(1)
                self.interrupt()
                await playback
                done.append(playback.interrupted)

        call = await Call(Impatient()).hello()
        await call.receive(InputTextFrame("hi"))
        await asyncio.sleep(3)
        assert done == [True]
        await call.finish()

    def test_vad_only_where_somebody_listens(self) -> None:
        class Listening(Bot):
            async def on_utterance(self, utterance: AudioRawFrame) -> None: ...

        class Own(Listening):
            def vad_analyzer(self) -> VADAnalyzer | None:
                return analyzer

        analyzer = EnergyVAD()
        assert Bot().transport_params().vad_analyzer is None
        assert isinstance(Listening().transport_params().vad_analyzer, EnergyVAD)
        assert Own().transport_params().vad_analyzer is analyzer

    def test_rates(self) -> None:
        class Phone(Bot):
            audio_in_sample_rate = 8000
            audio_out_sample_rate = 8000

        params = Phone().transport_params()
        assert (params.audio_in_sample_rate, params.audio_out_sample_rate) == (8000, 8000)
        assert params.audio_in_enabled
        assert params.audio_out_enabled


class TestAudio:
    @pytest.mark.parametrize("kind", ["plain", "async", "wrapped"])
    @virtual_time
    async def test_every_piece_in_order(self, kind: str) -> None:
        heard: list[bytes] = []

        class Plain(Bot):
            def on_audio(self, audio: InputAudioRawFrame) -> None:
                heard.append(audio.audio)

        class Async(Bot):
            async def on_audio(self, audio: InputAudioRawFrame) -> None:
                await asyncio.sleep(0.001)
                heard.append(audio.audio)

        class Wrapped(Bot):
            on_audio = _decorated(Async.on_audio)

        call = await Call({"plain": Plain, "async": Async, "wrapped": Wrapped}[kind]()).hello()
        pieces = [bytes([n, 0] * 320) for n in range(20)]
        for piece in pieces:
            await call.receive(InputAudioRawFrame(piece, 16000))
        await asyncio.sleep(1)
        assert heard == pieces
        await call.finish()

    @virtual_time
    async def test_one_that_is_too_slow_loses_the_oldest(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(lanes, "MAX_WAITING_CALLS", 10)
        heard: list[int] = []

        class Slow(Bot):
            async def on_audio(self, audio: InputAudioRawFrame) -> None:
                await asyncio.sleep(1)
                heard.append(audio.audio[0])

        call = await Call(Slow()).hello()
        for n in range(50):
            await call.receive(InputAudioRawFrame(bytes([n, 0]), 16000))
            await settle()
        await asyncio.sleep(20)
        assert heard == [0, *range(40, 50)]
        assert caplog.messages == ["call test: Slow is too slow in on_audio"]
        await call.finish()

    @virtual_time
    async def test_it_holds_up_nothing_else(self) -> None:
        texts: list[str] = []

        class Slow(Bot):
            async def on_audio(self, audio: InputAudioRawFrame) -> None:
                await asyncio.sleep(60)

            async def on_text(self, text: str) -> None:
                texts.append(text)

        call = await Call(Slow()).hello()
        await call.receive(InputAudioRawFrame(b"ab", 16000), InputTextFrame("hi"))
        await settle()
        assert texts == ["hi"]
        await call.finish()


def _decorated(handler: Callable[..., Awaitable[Any]]) -> Any:
    """What a decorator of somebody's makes of an async handler: a plain function."""

    @functools.wraps(handler)
    def wrapper(self: Bot, *args: Any) -> Awaitable[Any]:
        return handler(self, *args)

    return wrapper


class TestMessages:
    @pytest.mark.parametrize("kind", ["plain", "async", "wrapped"])
    @virtual_time
    async def test_are_answered(self, kind: str) -> None:
        class Plain(Bot):
            def on_message(self, message: ClientMessageFrame) -> Any:
                return {"you said": message.data, "as": message.type}

        class Async(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                await asyncio.sleep(0.1)
                return {"you said": message.data, "as": message.type}

        class Wrapped(Bot):
            on_message = _decorated(Async.on_message)

        call = await Call({"plain": Plain, "async": Async, "wrapped": Wrapped}[kind]()).hello()
        await call.rtvi("client-message", {"t": "echo", "d": [1]})
        await asyncio.sleep(1)
        assert call.messages("server-response") == [
            {"t": "echo", "d": {"you said": [1], "as": "echo"}}
        ]
        await call.finish()

    @pytest.mark.parametrize("kind", ["plain", "async", "wrapped"])
    @virtual_time
    async def test_a_failure_is_an_answer_without_detail(
        self, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Plain(Bot):
            def on_message(self, message: ClientMessageFrame) -> Any:
                raise ValueError("secret")

        class Async(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                raise ValueError("secret")

        class Wrapped(Bot):
            on_message = _decorated(Async.on_message)

        call = await Call({"plain": Plain, "async": Async, "wrapped": Wrapped}[kind]()).hello()
        await call.rtvi("client-message", {"t": "echo"})
        await settle()
        assert call.messages("error-response") == [{"error": "the bot failed to answer"}]
        name = type(call.bot).__name__
        assert call.messages("error") == [{"error": f"{name} failed", "fatal": False}]
        assert caplog.messages == [f"call test: {name} failed in on_message"]
        await call.finish()

    @virtual_time
    async def test_a_bot_that_takes_none(self) -> None:
        call = await Call(Bot()).hello()
        await call.rtvi("client-message", {"t": "echo"})
        assert call.messages("error-response") == [{"error": "this bot takes no messages"}]
        await call.receive(InputTransportMessageFrame({"label": "mine"}))
        assert call.messages("error") == []
        await call.finish()

    @pytest.mark.parametrize("is_async", [False, True])
    @virtual_time
    async def test_of_an_application_without_rtvi(self, is_async: bool) -> None:
        seen: list[ClientMessageFrame] = []

        class Plain(Bot):
            def on_message(self, message: ClientMessageFrame) -> Any:
                seen.append(message)
                return "nobody waits for this"

        class Async(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                seen.append(message)

        call = await Call(Async() if is_async else Plain()).hello()
        await call.receive(InputTransportMessageFrame({"type": "zoom", "x": 1}))
        await settle()
        assert seen == [ClientMessageFrame("zoom", {"type": "zoom", "x": 1})]
        assert call.messages("error") == []
        await call.finish()

    @virtual_time
    async def test_to_the_client(self) -> None:
        bot = Bot()
        call = await Call(bot).hello()
        bot.send_message({"hello": 1})
        bot.say_text("hi", spoken=False)
        await settle()
        assert call.messages("server-message") == [{"hello": 1}]
        [output] = call.messages("bot-output")
        assert (output["text"], output["will_be_spoken"]) == ("hi", False)
        await call.finish()


class TestKeysAndText:
    @pytest.mark.parametrize("is_async", [False, True])
    @virtual_time
    async def test_dtmf(self, is_async: bool) -> None:
        pressed: list[str] = []

        class Plain(Bot):
            def on_dtmf(self, button: str) -> None:
                pressed.append(button)

        class Async(Bot):
            async def on_dtmf(self, button: str) -> None:
                await asyncio.sleep(0.1)
                pressed.append(button)

        call = await Call(Async() if is_async else Plain()).hello()
        await call.rtvi("dtmf", {"buttons": ["1", "2", "#"]})
        await call.receive(InputDTMFFrame("A"))
        await asyncio.sleep(1)
        assert pressed == ["1", "2", "#", "A"]
        await call.finish()

    @virtual_time
    async def test_a_key_waits_for_no_answer_to_end(self) -> None:
        pressed: list[str] = []

        class Menu(Bot):
            async def on_start(self) -> None:
                await self.play(seconds(60))

            async def on_dtmf(self, button: str) -> None:
                pressed.append(button)
                self.interrupt()

        call = await Call(Menu()).hello()
        await asyncio.sleep(1)
        await call.receive(InputDTMFFrame("1"))
        await asyncio.sleep(1)
        assert pressed == ["1"]
        assert call.secs() < 1.3
        await call.finish()

    @virtual_time
    async def test_text_silences_what_was_being_said(self) -> None:
        heard: list[Any] = []

        class Chat(Bot):
            async def on_text(self, text: str) -> None:
                heard.append((text, await self.play(seconds(5))))

        call = await Call(Chat()).hello()
        await call.rtvi("send-text", {"content": "one"})
        await asyncio.sleep(1)
        await call.rtvi("send-text", {"content": "two"})
        await asyncio.sleep(6)
        # The first turn was cancelled.
        assert [(text, playback.interrupted) for text, playback in heard] == [("two", False)]
        await call.finish()


class TestFailing:
    @virtual_time
    async def test_any_handler_may_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        class Failing(Bot):
            async def on_start(self) -> None:
                raise RuntimeError("secret 1")

            def on_text(self, text: str) -> None:
                raise RuntimeError("secret 2")

            def on_audio(self, audio: InputAudioRawFrame) -> None:
                raise RuntimeError("secret 3")

            async def on_dtmf(self, button: str) -> None:
                raise RuntimeError("secret 4")

            async def on_end(self, reason: str) -> None:
                raise RuntimeError("secret 5")

        call = await Call(Failing()).hello()
        await call.receive(
            InputTextFrame("hi"), InputAudioRawFrame(b"ab", 16000), InputDTMFFrame("1")
        )
        await settle()
        assert call.connection.is_open
        assert call.messages("error") == [{"error": "Failing failed", "fatal": False}]
        assert caplog.messages == ["call test: Failing failed in on_start"]
        await call.finish()
        assert caplog.messages[1:] == ["call test: Failing failed to clean up"]
        assert not any("secret" in str(frame) for frame in call.serializer.frames)


class TestEnd:
    @pytest.mark.parametrize("is_async", [False, True])
    @virtual_time
    async def test_hang_up_when_everything_was_played(self, is_async: bool) -> None:
        ended: list[str] = []

        class Plain(Bot):
            def on_start(self) -> None:
                self.play(seconds(1))
                self.hang_up("that was all")

            def on_end(self, reason: str) -> None:
                ended.append(reason)

        class Async(Plain):
            async def on_end(self, reason: str) -> None:  # type: ignore[override]  # either way
                await asyncio.sleep(0)
                ended.append(reason)

        call = await Call(Async() if is_async else Plain()).hello()
        assert await call.task.wait() == "that was all"
        await call.task.wait()
        await call.transport.wait_closed()
        assert call.secs() == pytest.approx(1)
        assert call.socket.closed == [(1000, "that was all")]
        await call.finish()
        assert ended == ["that was all"]

    @pytest.mark.parametrize("kind", ["plain", "async", "wrapped", "failing", "giving up"])
    @virtual_time
    async def test_hang_up_in_a_request_answers_it_first(self, kind: str) -> None:
        class Plain(Bot):
            def on_message(self, message: ClientMessageFrame) -> Any:
                self.hang_up("as you wish")
                return "bye"

        class Async(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                await asyncio.create_task(self.say_goodbye())
                return "bye"

            async def say_goodbye(self) -> None:
                self.hang_up("as you wish")
                await self.play(seconds(0.5))

        class Wrapped(Async):
            on_message = _decorated(Async.on_message)

        class Failing(Bot):
            def on_message(self, message: ClientMessageFrame) -> Any:
                self.hang_up("as you wish")
                raise ValueError("secret")

        class GivingUp(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                self.hang_up("as you wish")
                raise asyncio.CancelledError

        bots: dict[str, type[Bot]] = {
            "plain": Plain,
            "async": Async,
            "wrapped": Wrapped,
            "failing": Failing,
            "giving up": GivingUp,
        }
        call = await Call(bots[kind]()).hello()
        await call.rtvi("client-message", {"t": "end"})
        assert await call.task.wait() == "as you wish"
        await call.transport.wait_closed()
        refused = kind in ("failing", "giving up")
        assert call.messages("server-response") == [{"t": "end", "d": "bye"}] * (not refused)
        assert len(call.messages("error-response")) == refused
        assert call.socket.closed == [(1000, "as you wish")]
        assert call.secs() == pytest.approx(0.5 if kind in ("async", "wrapped") else 0)
        await call.finish()

    @virtual_time
    async def test_a_request_holds_up_no_other_end(self) -> None:
        """Nor does one that is answered, whatever goes on in its name."""
        others: list[Bot] = []

        class Ending(Bot):
            async def on_message(self, message: ClientMessageFrame) -> Any:
                if message.data == "others":
                    others[0].hang_up("your turn")
                    await asyncio.sleep(3600)
                asyncio.get_running_loop().call_later(1, self.hang_up, "my turn")
                return "soon"

        mine, other = Ending(), Bot()
        others.append(other)
        call, other_call = await Call(mine).hello(), await Call(other).hello()
        await call.rtvi("client-message", {"t": "end"})
        await asyncio.sleep(0.5)
        await call.rtvi("client-message", {"t": "end", "d": "others"})
        assert await other_call.task.wait() == "your turn"
        assert call.messages("server-response") == [{"t": "end", "d": "soon"}]
        assert await call.task.wait() == "my turn"
        await call.finish()
        await other_call.finish()

    @virtual_time
    async def test_the_client_leaves(self) -> None:
        ended: list[str] = []

        class Goodbye(Bot):
            async def on_end(self, reason: str) -> None:
                ended.append(reason)

        call = await Call(Goodbye()).hello()
        call.connection.disconnect(1001)
        await call.task.wait()
        assert ended == ["client left"]
        await call.finish()
        assert ended == ["client left"]

    @virtual_time
    async def test_a_turn_that_runs_is_cancelled(self) -> None:
        log: list[str] = []

        class Thinking(Bot):
            async def on_text(self, text: str) -> None:
                try:
                    await asyncio.sleep(3600)
                finally:
                    log.append("cancelled")

            async def on_end(self, reason: str) -> None:
                log.append("end")

        call = await Call(Thinking()).hello()
        await call.receive(InputTextFrame("hi"), InputTextFrame("never comes to its turn"))
        await settle()
        await call.finish()
        assert log == ["cancelled", "end"]

    @virtual_time
    async def test_a_turn_that_won_t_stop_holds_no_end_up(self) -> None:
        ended: list[str] = []
        release = asyncio.Event()

        class Stubborn(Bot):
            async def on_text(self, text: str) -> None:
                while not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        continue

            async def on_end(self, reason: str) -> None:
                ended.append(reason)

        call = await Call(Stubborn()).hello()
        await call.receive(InputTextFrame("hi"))
        await settle()
        await call.finish()
        assert ended == ["test is over"]
        release.set()
        await settle()

    @virtual_time
    async def test_the_end_passes_the_bot(self) -> None:
        call = await Call(Bot()).hello()
        call.task.end("bye")
        assert await call.task.wait() == "bye"
        assert call.frames[-1:] == [EndFrame("bye")]
        await call.finish()


def test_what_is_kept_for_a_turn_that_is_noticed_late() -> None:
    class Patient(Bot):
        def turn_analyzer(self) -> TurnAnalyzer:
            return PitchTurnAnalyzer(TurnParams(min_interruption_secs=0.8))

        async def on_utterance(self, utterance: AudioRawFrame) -> None: ...

    bot = Patient()
    params = bot.transport_params()
    assert isinstance(params.turn_analyzer, PitchTurnAnalyzer)
    assert bot._utterance is not None
    assert bot._utterance.lookback_secs == 0.8
    assert Bot().transport_params().turn_analyzer is None
