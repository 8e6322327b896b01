from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import fan_noise, pcm, samples, signal_to_noise, speech, tone
from tests.fakes import (
    FrameListSerializer,
    Tap,
    current_loop,
    ramp,
    run,
    settle,
    virtual_time,
)
from tests.transports.calls import Call
from voicews.audio.pcm import mix_channels
from voicews.audio.turns import TurnAnalyzer, TurnParams
from voicews.audio.vad import EnergyVAD, VADAnalyzer, VADEvent, VADParams
from voicews.audio.wav import wrap_wav
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import (
    ClientConnectedFrame,
    Direction,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InputTransportStartAudioStreamingFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    PingFrame,
    PlaybackPositionFrame,
    PongFrame,
    StartFrame,
    StartInputFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.serializers import FrameSerializer, ProtobufFrameSerializer
from voicews.transports import WebsocketServerParams
from voicews.transports.input import MAX_PIECE_BYTES, MAX_PIECE_SECS

Started, Stopped = UserStartedSpeakingFrame, UserStoppedSpeakingFrame


def heard(call: Call) -> bytes:
    return b"".join(frame.audio for frame in call.tap.down(InputAudioRawFrame))


class OnChunk(VADAnalyzer):
    """Gives the events that a test wants for each chunk; remembers what it was given."""

    def __init__(self, events: Iterable[list[VADEvent]] = ()) -> None:
        super().__init__()
        self.events = iter(events)
        self.heard: list[bytes] = []

    def voice_confidence(self, window_pcm: bytes) -> float:
        return 0.0

    def process(self, pcm: bytes) -> list[VADEvent]:
        self.heard.append(pcm)
        return next(self.events, [])


START, STOP = VADEvent(True, 1.0, 1.1), VADEvent(False, 2.0, 2.6)


class TestAudio:
    @virtual_time
    async def test_flows_as_it_is(self) -> None:
        call = Call().start()
        await call.receive(InputAudioRawFrame(ramp(320), 16000, 1, pts=5))
        assert call.tap.down(InputAudioRawFrame) == [InputAudioRawFrame(ramp(320), 16000, 1, 5)]
        # What the user says is not sent back.
        assert call.after.down(InputAudioRawFrame) == []
        await call.finish()

    @virtual_time
    async def test_audio_in_enabled_off(self) -> None:
        vad = OnChunk()
        call = Call(audio_in_enabled=False, vad_analyzer=vad).start()
        await call.hear(ramp(320))
        await call.hear(ramp(320), 12345)
        await call.receive(InputTextFrame("hi"))
        assert heard(call) == b""
        assert vad.heard == []
        assert call.tap.down(InputTextFrame) == [InputTextFrame("hi")]
        await call.finish()

    @pytest.mark.parametrize("rate", [8000, 12345, 16000, 24000, 44100, 48000])
    @pytest.mark.parametrize("wanted", [None, 8000, 24000, 37800])
    @virtual_time
    async def test_audio_in_sample_rate(self, rate: int, wanted: int | None) -> None:
        call = Call(audio_in_sample_rate=wanted).start()
        out = wanted or 16000
        wave = pcm(tone(440, 1.0, rate))
        size = rate // 50 * 2
        for start in range(0, len(wave), size):
            await call.hear(wave[start : start + size], rate)
        frames = call.tap.down(InputAudioRawFrame)
        assert {(frame.sample_rate, frame.num_channels) for frame in frames} == {(out, 1)}
        # All but the filter's latency of 2 ms.
        assert 0 <= out - len(heard(call)) // 2 <= math.ceil(out * 0.002)
        ratio, _ = signal_to_noise(samples(heard(call))[out // 10 : -out // 10], 440, out)
        assert ratio > 50
        await call.finish()

    @pytest.mark.parametrize(("channels", "wanted"), [(1, 1), (1, 2), (2, 1), (2, 2), (6, 1)])
    @virtual_time
    async def test_audio_in_channels(self, channels: int, wanted: int) -> None:
        call = Call(audio_in_channels=wanted).start()
        await call.hear(ramp(channels * 320), 16000, channels)
        assert call.tap.down(InputAudioRawFrame) == [
            InputAudioRawFrame(mix_channels(ramp(channels * 320), channels, wanted), 16000, wanted)
        ]
        await call.finish()

    @virtual_time
    async def test_a_client_that_changes_its_rate(self) -> None:
        call = Call().start()
        for rate in (8000, 48000, 16000, 8000):
            await call.hear(bytes(rate // 5), rate)
        assert len(heard(call)) // 2 == pytest.approx(4 * 1600, abs=4 * 32)
        await call.finish()

    @virtual_time
    async def test_another_client_starts_with_a_fresh_resampler(self) -> None:
        call = Call().start()
        await call.hear(b"\xff\x7f" * 480, 48000)
        call.connection.disconnect(1006)
        call.reconnect()
        call.tap.downstream.clear()
        await call.hear(bytes(960), 48000)
        assert heard(call).strip(b"\0") == b""
        await call.finish()

    @pytest.mark.parametrize("rate", [16000, 24000])
    @virtual_time
    async def test_a_wav_header_is_taken_off(self, rate: int) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        wave = pcm(tone(440, 0.5, rate))
        message = ProtobufFrameSerializer()
        for start in range(0, len(wave), 960):
            # What the message says is not what the file in it says; the file is right.
            file = wrap_wav(wave[start : start + 960], rate)
            data = message.serialize(OutputAudioRawFrame(file, 8000, 1))
            assert data is not None
            await call.connection.receive(data)
        ratio, _ = signal_to_noise(samples(heard(call))[1600:-1600], 440, 16000)
        assert ratio > 50
        assert {f.sample_rate for f in call.tap.down(InputAudioRawFrame)} == {16000}
        await call.finish()

    @pytest.mark.parametrize("passthrough", [True, False])
    @virtual_time
    async def test_audio_in_passthrough(self, passthrough: bool) -> None:
        vad = OnChunk([[START], [STOP]])
        call = Call(audio_in_passthrough=passthrough, vad_analyzer=vad).start()
        await call.hear(ramp(320))
        await call.hear(ramp(320))
        assert heard(call) == ramp(320) * 2 * passthrough
        assert call.tap.down(Started) == [Started(1.0, 1.1)]
        assert call.tap.down(Stopped) == [Stopped(2.0, 2.6)]
        await call.finish()

    @virtual_time
    async def test_audio_in_passthrough_without_vad(self) -> None:
        call = Call(audio_in_passthrough=False).start()
        await call.hear(ramp(320))
        assert heard(call) == b""
        await call.finish()

    @virtual_time
    async def test_the_field_s_frame_from_outside_starts_the_audio(self) -> None:
        call = Call(audio_in_stream_on_start=False).start()
        await call.hear(ramp(320))
        call.task.queue_frame(InputTransportStartAudioStreamingFrame())
        await call.hear(ramp(320, 7))
        assert heard(call) == ramp(320, 7)
        await call.finish()

    @virtual_time
    async def test_audio_in_stream_on_start(self) -> None:
        vad = OnChunk()
        call = Call(audio_in_stream_on_start=False, vad_analyzer=vad).start()
        await call.hear(ramp(320))
        assert heard(call) == b""
        assert vad.heard == []
        call.ask(StartInputFrame())
        await call.hear(ramp(320, 7))
        assert heard(call) == ramp(320, 7)
        assert vad.heard == [ramp(320, 7)]
        await call.finish()

    @pytest.mark.parametrize("direction", list(Direction))
    @virtual_time
    async def test_audio_that_a_processor_brings_is_heard_like_the_client_s(
        self, direction: Direction
    ) -> None:
        vad = OnChunk()
        call = Call(vad_analyzer=vad).start()
        frame = InputAudioRawFrame(ramp(320, 7), 16000)
        if direction is Direction.DOWNSTREAM:
            call.task.queue_frame(frame)
        else:
            call.ask(frame)
        await settle()
        assert vad.heard == [ramp(320, 7)]
        assert heard(call) == ramp(320, 7)
        assert call.audio() == []
        await call.finish()

    @given(st.lists(st.integers(0, 700), max_size=20), st.sampled_from([8000, 16000, 44100]))
    @settings(max_examples=30, deadline=None)
    def test_no_sample_is_lost_however_it_is_cut(self, sizes: list[int], rate: int) -> None:
        async def main() -> None:
            call = Call().start()
            for size in sizes:
                await call.hear(bytes(size * 2), rate)
            total = sum(sizes) * 16000 / rate
            assert 0 <= total - len(heard(call)) // 2 <= 33
            await call.finish()

        run(main())


class TestVoiceActivity:
    @virtual_time
    async def test_order_of_what_it_leads_to(self) -> None:
        vad = OnChunk([[], [START], [], [STOP], [STOP, START]])
        call = Call(vad_analyzer=vad).start()
        call.tap.downstream.clear()
        kinds = []
        for _ in range(5):
            await call.hear(ramp(320))
            kinds.append([type(frame) for frame in call.tap.downstream])
            call.tap.downstream.clear()
        audio = InputAudioRawFrame
        assert kinds == [
            [ClientConnectedFrame, audio],
            # Silence first: before the bot learns of it, and before the speech itself.
            [Started, InterruptionFrame, audio],
            [audio],
            [audio, Stopped],
            [Started, InterruptionFrame, audio, Stopped],
        ]
        await call.finish()

    @virtual_time
    async def test_allow_interruptions_off(self) -> None:
        call = Call(vad_analyzer=OnChunk([[START]]), allow_interruptions=False).start()
        await call.hear(ramp(320))
        assert call.tap.down(Started) == [Started(1.0, 1.1)]
        assert call.tap.down(InterruptionFrame) == []
        await call.finish()

    @virtual_time
    async def test_it_hears_mono_at_the_pipelines_rate(self) -> None:
        vad = OnChunk()
        call = Call(vad_analyzer=vad, audio_in_channels=2, audio_in_sample_rate=8000).start()
        assert vad.sample_rate == 8000
        await call.hear(ramp(640), 8000, 2)
        assert vad.heard == [mix_channels(ramp(640), 2, 1)]
        await call.finish()

    @virtual_time
    async def test_the_energy_of_speech(self) -> None:
        call = Call(vad_analyzer=EnergyVAD()).start()
        noise = fan_noise(3.0, 16000, -55)
        noise[16000:32000] += speech(1.0, 16000)
        stream = pcm(noise)
        for start in range(0, len(stream), 640):
            await call.hear(stream[start : start + 640])
        [started], [stopped] = call.tap.down(Started), call.tap.down(Stopped)
        assert started.edge_secs == pytest.approx(1.0, abs=0.1)
        assert stopped.edge_secs == pytest.approx(2.0, abs=0.2)
        assert heard(call) == stream
        await call.finish()

    @virtual_time
    async def test_a_failing_one_harms_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        class Failing(OnChunk):
            def process(self, pcm: bytes) -> list[VADEvent]:
                raise RuntimeError("secret")

        call = Call(vad_analyzer=Failing()).start()
        for _ in range(5):
            await call.hear(ramp(320))
        await call.receive(InputTextFrame("hi"))
        assert call.is_open()
        assert call.tap.down(InputTextFrame) == [InputTextFrame("hi")]
        # The bot can still listen for itself.
        assert heard(call) == ramp(320) * 5
        assert len(caplog.records) == 1
        await call.finish()


class Pauses(TurnAnalyzer):
    """Answers what it was told to."""

    def __init__(self, *answers: bool | Exception, **params: float) -> None:
        super().__init__(TurnParams(**params))
        self.answers = list(answers)
        self.heard: list[tuple[int, int]] = []

    def is_complete(self, pcm: bytes, sample_rate: int) -> bool:
        self.heard.append((len(pcm), sample_rate))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class ThreadedPauses(Pauses):
    in_thread = True


class ThreadedVAD(EnergyVAD):
    in_thread = True
    closed = 0

    def close(self) -> None:
        self.closed += 1


def talking(*parts: tuple[str, float]) -> bytes:
    """Speech and silence at 16 kHz, so many seconds of each."""
    return pcm(
        *(
            speech(secs, 16000) if kind == "speech" else np.zeros(round(secs * 16000))
            for kind, secs in parts
        )
    )


class TestTurns:
    async def say(self, call: Call, *parts: tuple[str, float]) -> None:
        audio = talking(*parts)
        for at in range(0, len(audio), 640):
            await call.hear(audio[at : at + 640])
        for _ in range(20_000):
            if call.transport._input._working is None:
                break
            # Real time for the threads.
            time.sleep(0.0005)  # noqa: ASYNC251
            await asyncio.sleep(0)
        await settle()

    def turns(self, call: Call) -> list[tuple[str, float]]:
        kinds = {UserStartedSpeakingFrame: "start", UserStoppedSpeakingFrame: "stop"}
        return [
            (kinds[type(frame)], round(frame.edge_secs, 1))
            for frame in call.tap.downstream
            if isinstance(frame, UserStartedSpeakingFrame | UserStoppedSpeakingFrame)
        ]

    @pytest.mark.parametrize("vad", [EnergyVAD, ThreadedVAD])
    @pytest.mark.parametrize("pauses", [Pauses, ThreadedPauses])
    @virtual_time
    async def test_a_pause_for_thought_ends_no_turn(self, vad: Any, pauses: Any) -> None:
        analyzer, params = pauses(False, True), VADParams(stop_secs=0.3)
        call = Call(vad_analyzer=vad(params), turn_analyzer=analyzer).start()
        await self.say(call, ("", 1), ("speech", 1), ("", 0.8), ("speech", 1), ("", 1))
        assert self.turns(call) == [("start", 1.0), ("stop", 3.8)]
        # All of the turn, and the silence that made it certain.
        assert [(size // 3200 / 10, rate) for size, rate in analyzer.heard] == [
            (pytest.approx(2.3, abs=0.1), 16000),
            (pytest.approx(4.1, abs=0.1), 16000),
        ]
        assert len(call.tap.down(InputAudioRawFrame)) == 240
        await call.finish()

    @pytest.mark.parametrize("pauses", [Pauses, ThreadedPauses])
    @virtual_time
    async def test_a_nod_silences_no_bot(self, pauses: Any) -> None:
        call = Call(
            vad_analyzer=EnergyVAD(VADParams(stop_secs=0.3)),
            turn_analyzer=pauses(True, min_interruption_secs=0.6),
        ).start()
        call.say(60)
        await self.say(call, ("", 1), ("speech", 0.4), ("", 1))
        assert self.turns(call) == []
        assert call.tap.down(InterruptionFrame) == []
        await self.say(call, ("speech", 1), ("", 1))
        assert self.turns(call) == [("start", 2.4), ("stop", 3.4)]
        assert len(call.tap.down(InterruptionFrame)) == 1
        # Now it is silent, and a short answer is one.
        analyzer = call.params.turn_analyzer
        assert isinstance(analyzer, Pauses)
        analyzer.answers.append(True)
        await self.say(call, ("speech", 0.4), ("", 1))
        assert self.turns(call)[2:] == [("start", 4.4), ("stop", 4.8)]
        await call.finish()

    @pytest.mark.parametrize("pauses", [Pauses, ThreadedPauses])
    @virtual_time
    async def test_one_that_fails_ends_the_turn(
        self, pauses: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call(vad_analyzer=EnergyVAD(), turn_analyzer=pauses(RuntimeError("secret"))).start()
        await self.say(call, ("", 1), ("speech", 1), ("", 1))
        assert self.turns(call) == [("start", 1.0), ("stop", 2.0)]
        assert "to find the turn's end" in caplog.text
        await call.finish()

    @virtual_time
    async def test_analyzers_are_closed_with_the_call(self) -> None:
        vad = ThreadedVAD()
        call = Call(vad_analyzer=vad).start()
        await call.finish()
        # Real time for the thread.
        for _ in range(2000):
            if vad.closed:
                break
            time.sleep(0.001)  # noqa: ASYNC251
        assert vad.closed == 1

    def test_it_needs_a_voice_activity_detection(self) -> None:
        with pytest.raises(ConfigurationError, match="turn_analyzer: expected a vad_analyzer too"):
            WebsocketServerParams(turn_analyzer=Pauses())


class TestMessages:
    @pytest.mark.parametrize(
        "frame",
        [
            InputTextFrame("hi"),
            TranscriptionFrame("hi"),
            InputTransportMessageFrame({"a": 1}),
            InterruptionFrame(),
        ],
    )
    @virtual_time
    async def test_flow_downstream(self, frame: Frame) -> None:
        call = Call().start()
        await call.receive(frame)
        assert call.tap.downstream[1:] == [ClientConnectedFrame(), frame]
        await call.finish()

    @virtual_time
    async def test_what_concerns_the_transport_stays_there(self) -> None:
        call = Call().start()
        await call.receive(PingFrame("7"), PlaybackPositionFrame(0))
        assert call.tap.downstream[2:] == []
        assert call.received(PongFrame) == [PongFrame("7")]
        await call.finish()

    @virtual_time
    async def test_the_answer_has_left_when_receive_returns(self) -> None:
        call = Call().start()
        await call.receive(PingFrame("7"))
        assert call.received(PongFrame) == [PongFrame("7")]
        await call.finish()

    @virtual_time
    async def test_the_first_valid_message_is_the_client(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        await call.connection.receive("bad")
        assert call.tap.down(ClientConnectedFrame) == []
        # Valid, though it says nothing to a pipeline.
        await call.connection.receive(b'"\x17\n\x15{"label": "voicews"}\x20')
        await call.connection.receive(b'"\x16\n\x14{"label": "voicews"}')
        await call.connection.receive(b'"\x16\n\x14{"label": "voicews"}')
        assert call.tap.down(ClientConnectedFrame) == [ClientConnectedFrame(resumed=False)]
        call.connection.disconnect(1006)
        call.reconnect()
        await call.connection.receive(b'"\x16\n\x14{"label": "voicews"}')
        assert call.tap.down(ClientConnectedFrame)[1:] == [ClientConnectedFrame(resumed=True)]
        await call.finish()


class Picky(FrameSerializer):
    """Takes "good" only; fails on "worse"."""

    def serialize(self, frame: Frame) -> str | bytes | None:
        return None

    def deserialize(self, data: str | bytes) -> Frame | None:
        if data == "worse":
            raise KeyError("secret")
        if data != "good":
            raise InvalidMessage("expected good, found something else")
        return InputTextFrame("hi")


class Prepared(Picky):
    """Remembers how it was set up."""

    def __init__(self) -> None:
        self.frames: list[StartFrame] = []

    def setup(self, frame: StartFrame) -> None:
        self.frames.append(frame)


class TestSetup:
    @virtual_time
    async def test_a_serializer_is_told_the_rates_once_before_the_first_message(self) -> None:
        serializer = Prepared()
        call = Call(serializer=serializer).start()
        assert [type(frame) for frame in serializer.frames] == [StartFrame]
        await call.connection.receive("good")
        call.connection.disconnect(1006)
        call.reconnect()
        await call.connection.receive("good")
        assert len(serializer.frames) == 1
        await call.finish()


class TestBadMessages:
    @virtual_time
    async def test_are_counted_and_logged_once_a_second(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call(serializer=Picky(), max_invalid_messages=1000).start()
        loop = current_loop()
        for _ in range(24):
            await call.connection.receive("bad")
            await asyncio.sleep(0.125)
        assert call.transport.invalid_messages == 24
        assert caplog.messages == [
            "call c1: bad message: expected good, found something else",
            "call c1: bad message: expected good, found something else (7 more before it)",
            "call c1: bad message: expected good, found something else (7 more before it)",
        ]
        assert call.is_open()
        assert loop.failures == []
        await call.finish()

    @pytest.mark.parametrize("bad", ["bad", "worse"])
    @virtual_time
    async def test_too_many_in_a_row_close_the_socket(self, bad: str) -> None:
        call = Call(serializer=Picky(), max_invalid_messages=3).start()
        for data in (bad, bad, "good", bad, bad):
            await call.connection.receive(data)
        assert call.is_open()
        await call.connection.receive(bad)
        assert not call.is_open()
        await call.connection.receive(bad)
        await call.transport.wait_closed()
        assert call.socket.closed == [(1007, "too many invalid messages")]
        assert call.transport.invalid_messages == 5
        # The next client starts from nothing.
        call.reconnect()
        for _ in range(2):
            await call.connection.receive(bad)
        assert call.is_open()
        await call.finish()

    @virtual_time
    async def test_ten_by_default(self) -> None:
        call = Call(serializer=Picky()).start()
        for _ in range(10):
            assert call.is_open()
            await call.connection.receive("bad")
        assert not call.is_open()
        await call.finish()

    @pytest.mark.parametrize(
        ("frame", "error"),
        [
            (InputAudioRawFrame(b"ab", 3999), "expected 4000 to 192000 Hz, found 3999"),
            (InputAudioRawFrame(b"ab", 192001), "expected 4000 to 192000 Hz, found 192001"),
            (InputAudioRawFrame(b"abc", 8000), "expected a multiple of 2 bytes, found 3"),
            (InputAudioRawFrame(b"abcd", 16000, 3), "expected a multiple of 6 bytes, found 4"),
            (InputAudioRawFrame(wrap_wav(b"ab", 1234), 16000), "found 1234"),
            (InputAudioRawFrame(wrap_wav(b"", 16000, 9), 16000), "at most 8 channels, found 9"),
            (InputAudioRawFrame(b"RIFFxxxxWAVE", 16000), "WAV: expected a fmt and a data chunk"),
        ],
    )
    @virtual_time
    async def test_audio_that_cannot_be_taken(
        self, frame: InputAudioRawFrame, error: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call().start()
        await call.receive(frame)
        assert call.transport.invalid_messages == 1
        assert error in caplog.messages[0]
        assert call.tap.down(InputAudioRawFrame) == []
        await call.finish()

    @virtual_time
    async def test_audio_far_ahead_of_real_time(self) -> None:
        call = Call(audio_in_max_ahead_secs=10).start()
        await call.hear(bytes(10 * 16000 * 2))
        await asyncio.sleep(3)
        await call.hear(bytes(24000), 8000)
        for _ in range(74):
            await call.hear(bytes(640))
        assert call.is_open()
        await call.hear(bytes(4 * 640 * 2), channels=2)
        await asyncio.sleep(1)
        assert not call.is_open()
        reason = "more than 10 s of audio ahead of real time"
        assert call.socket.closed == [(1008, reason)]
        assert len(heard(call)) == pytest.approx((10 + 1.5 + 1.48) * 32000, rel=0.01)
        await call.finish()

    @virtual_time
    async def test_real_time_is_never_too_fast(self) -> None:
        call = Call(audio_in_max_ahead_secs=0.5).start()
        for _ in range(500):
            await call.hear(bytes(640))
            await asyncio.sleep(0.02)
        assert len(heard(call)) == 500 * 640
        assert call.is_open()
        await call.finish()

    @virtual_time
    async def test_no_limit_to_how_far_ahead(self) -> None:
        call = Call(audio_in_max_ahead_secs=None).start()
        for _ in range(20):
            await call.hear(bytes(1024 * 1024))
        await settle()
        assert call.is_open()
        await call.finish()

    @virtual_time
    async def test_rates_that_nobody_uses_are_a_few_in_a_call(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call().start()
        for rate in (12345, 7350, 37800, 12345, 8000, 48000):
            await call.hear(bytes(rate // 50 * 2), rate)
        assert call.transport.invalid_messages == 0
        await call.hear(bytes(640), 16001)
        assert call.transport.invalid_messages == 1
        assert "expected a usual sample rate, found another one: 16001 Hz" in caplog.messages[0]
        await call.finish()

    @virtual_time
    async def test_a_message_to_be_checked_only(self) -> None:
        call = Call(serializer=Picky())
        await call.transport.check_message("good")
        for bad in ("bad", "worse"):
            with pytest.raises(InvalidMessage, match="expected") as error:
                await call.transport.check_message(bad)
            assert "secret" not in str(error.value)
        assert call.tap.downstream == []


@virtual_time
async def test_what_a_processor_fails_on_is_no_bad_message() -> None:
    class Failing(Tap):
        def process_frame(self, frame: Frame, direction: Direction) -> None:
            if frame == InputTextFrame("hi"):
                raise RuntimeError("secret")
            super().process_frame(frame, direction)

    call = Call(Failing()).start()
    await call.receive(InputTextFrame("hi"))
    assert call.transport.invalid_messages == 0
    assert call.is_open()
    call.task.end()
    await call.task.wait()
    assert call.tap.down(EndFrame) != []
    assert call.tap.up(ErrorFrame) == []
    await call.finish()


def test_frame_list_serializer_is_honest() -> None:
    serializer: Any = FrameListSerializer()
    assert serializer.deserialize(serializer.serialize(PingFrame("1"))) == PingFrame("1")


class TestLongMessages:
    """Audio that would take the event loop for too long is cut, and nothing overtakes it."""

    @pytest.mark.parametrize("rate", [8000, 16000, 44100])
    @virtual_time
    async def test_the_same_comes_out(self, rate: int) -> None:
        wave = pcm(fan_noise(30, rate, -30))
        outputs = []
        for size in (len(wave), rate // 50 * 2):
            call = Call(vad_analyzer=EnergyVAD()).start()
            for start in range(0, len(wave), size):
                await call.hear(wave[start : start + size], rate)
            await call.receive(InputTextFrame("after"))
            await asyncio.sleep(1)
            assert isinstance(call.tap.downstream[-1], InputTextFrame)
            outputs.append(heard(call))
            await call.finish()
        assert outputs[0] == outputs[1]

    @virtual_time
    async def test_others_have_their_turns_in_between(self) -> None:
        call = Call().start()
        await call.receive(InputAudioRawFrame(bytes(20 * 8000 * 2), 8000, 1, pts=0))
        turns = 0
        while len(heard(call)) < 19.9 * 32000:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 40
        frames = call.tap.down(InputAudioRawFrame)
        assert max(frame.duration_secs for frame in frames) <= MAX_PIECE_SECS
        assert [frame.pts for frame in frames] == [n * 500_000_000 for n in range(40)]
        await call.finish()

    @pytest.mark.parametrize(("rate", "channels"), [(192_000, 2), (192_000, 6), (4000, 1)])
    @virtual_time
    async def test_pieces_of_high_rates_are_short(self, rate: int, channels: int) -> None:
        call = Call().start()
        await call.hear(bytes(rate * channels * 2), rate, channels)
        await settle()
        frames = call.tap.down(InputAudioRawFrame)
        longest = max(frame.duration_secs for frame in frames)
        assert longest <= MAX_PIECE_SECS + 0.001
        assert longest * rate * channels * 2 <= MAX_PIECE_BYTES * 1.01
        await call.finish()
