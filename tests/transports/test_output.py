from __future__ import annotations

import asyncio
import math
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.signals import pcm, samples, signal_to_noise, speech, white_noise
from tests.fakes import (
    FakeSocket,
    FrameListSerializer,
    Tap,
    current_loop,
    ramp,
    run,
    settle,
    virtual_time,
)
from tests.transports.calls import RATE, Call
from voicews.audio.dtmf import dtmf_tone
from voicews.audio.pcm import mix_channels, scale
from voicews.audio.wav import split_wav
from voicews.exceptions import ConfigurationError
from voicews.frames import (
    BotInterruptedFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Direction,
    EndFrame,
    ErrorFrame,
    Frame,
    InputDTMFFrame,
    InputTextFrame,
    InterruptionFrame,
    MarkFrame,
    MarkPlayedFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    PlaybackPositionFrame,
    TextFrame,
    TranscriptionFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.serializers import PCMSerializer, ProtobufFrameSerializer
from voicews.transports import WebsocketServerParams, WebsocketServerTransport
from voicews.transports.base import TransportState
from voicews.transports.play_queue import MAX_QUEUED_BYTES
from voicews.transports.track import (
    KEY_PAUSE_MS,
    KEY_TONE_MS,
    PEER_BUFFER_SECS,
    SILENCE_HOLD_SECS,
    SPEECH_HOLD_SECS,
)

CHUNK_SECS = 0.04
CHUNK_BYTES = 1920
LEAD_SECS = 0.2
NS = 1_000_000_000


def seconds(secs: float) -> bytes:
    return ramp(round(secs * RATE))


class OnFrame(FrameProcessor):
    """Calls back when a frame of one kind passes."""

    def __init__(self, kind: type[Frame]) -> None:
        super().__init__()
        self.kind = kind
        self.action: Any = None

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        self.push_frame(frame, direction)
        if isinstance(frame, self.kind):
            self.action()


class TestPacing:
    @virtual_time
    async def test_a_long_frame_leaves_in_chunks_no_more_than_the_lead_ahead(self) -> None:
        call = Call().start()
        loop = current_loop()
        begun = loop.time()
        pcm = seconds(2)
        call.play(pcm)
        await asyncio.sleep(3)
        assert call.pcm() == pcm
        assert {len(frame.audio) for frame in call.audio()} == {CHUNK_BYTES}
        media = 0.0
        for frame, time in zip(call.audio(), call.socket.times, strict=True):
            assert media - (time - begun) <= LEAD_SECS + 1e-9
            # And not later than it is heard either.
            assert media >= time - begun - 1e-9
            assert frame.pts == round(media * NS)
            media += frame.duration_secs
        await call.finish()

    @virtual_time
    async def test_what_comes_in_real_time_leaves_at_once(self) -> None:
        call = Call().start()
        for n in range(50):
            call.play(ramp(480, n))
            await settle()
            assert len(call.audio()) == n + 1
            await asyncio.sleep(0.02)
        await call.finish()

    @pytest.mark.parametrize(("chunks", "size"), [(1, 480), (2, 960), (4, 1920), (10, 4800)])
    @virtual_time
    async def test_audio_out_10ms_chunks(self, chunks: int, size: int) -> None:
        call = Call(audio_out_10ms_chunks=chunks).start()
        call.play(seconds(0.21))
        await asyncio.sleep(1)
        sizes = [len(frame.audio) for frame in call.audio()]
        assert sizes == [size] * (10080 // size) + [10080 % size] * bool(10080 % size)
        await call.finish()

    @pytest.mark.parametrize("lead", [0.0, 0.05, 0.5])
    @virtual_time
    async def test_audio_out_lead_secs(self, lead: float) -> None:
        call = Call(audio_out_lead_secs=lead).start()
        call.say(2)
        await settle()
        assert lead < call.secs() <= lead + CHUNK_SECS + 1e-9
        await call.finish()

    @virtual_time
    async def test_audio_out_enabled_off(self) -> None:
        call = Call(audio_out_enabled=False, audio_out_auto_silence=True).start()
        call.say(1, "a")
        call.tap.push_frame(OutputTransportMessageFrame({"a": 1}))
        await asyncio.sleep(3)
        assert call.audio() == []
        assert call.received(OutputTransportMessageFrame) != []
        assert call.played() == [("a", 0.0, True)]
        assert call.tap.up(BotStartedSpeakingFrame) == []
        call.task.end()
        await call.finish()
        assert call.audio() == []

    @virtual_time
    async def test_messages_keep_their_place_and_urgent_ones_do_not(self) -> None:
        call = Call().start()
        call.say(0.4)
        call.tap.push_frame(OutputTransportMessageFrame({"n": 1}))
        call.tap.push_frame(TextFrame("2"))
        call.tap.push_frame(OutputTransportMessageUrgentFrame({"n": 0}))
        await asyncio.sleep(1)
        kinds = [type(frame) for frame in call.serializer.received(call.socket)]
        assert kinds[0] is OutputTransportMessageUrgentFrame
        assert kinds[-2:] == [OutputTransportMessageFrame, TextFrame]
        assert call.after.down(TextFrame) == [TextFrame("2")]
        await call.finish()

    @given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.floats(0, 0.5))
    @settings(max_examples=40, deadline=None)
    def test_nothing_is_lost_repeated_or_reordered(self, sizes: list[int], pause: float) -> None:
        async def main() -> None:
            call = Call().start()
            position = 0
            for size in sizes:
                call.play(ramp(size, position))
                position += size
                await asyncio.sleep(pause / len(sizes))
            await asyncio.sleep(5)
            assert call.pcm() == ramp(position)
            assert [frame.pts for frame in call.audio()] == sorted(
                frame.pts or 0 for frame in call.audio()
            )
            await call.finish()

        run(main())

    @virtual_time
    async def test_a_bot_out_of_control(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("voicews.transports.play_queue.MAX_QUEUED_BYTES", 100_000)
        call = Call().start()
        for _ in range(5):
            call.say(1)
        await asyncio.sleep(10)
        assert call.tap.up(ErrorFrame) != []
        assert call.secs() == pytest.approx(2)
        # What was played makes room again.
        call.say(1)
        await asyncio.sleep(3)
        assert call.secs() == pytest.approx(3)
        await call.finish()
        assert MAX_QUEUED_BYTES == 64 * 1024 * 1024


class TestLive:
    """A stream in real time that began with a burst."""

    @staticmethod
    async def stream(call: Call, pieces: list[bytes], live: bool) -> None:
        for number, piece in enumerate(pieces):
            # Half a second at once, then one piece after the other.
            await asyncio.sleep(0.02 * (number >= 25))
            call.tap.push_frame(OutputAudioRawFrame(piece, RATE, live=live))

    @pytest.mark.parametrize("live", [False, True])
    @virtual_time
    async def test_catches_up_in_pauses(self, live: bool) -> None:
        call = Call().start()
        word, pause = b"\xff\x1f" * 480, b"\xff\x00" * 480
        pieces = [pause] * 25 + ([word] * 10 + [pause] * 30) * 4 + [word] * 10
        begun = current_loop().time()
        await self.stream(call, pieces, live)
        late = begun + call.secs() - current_loop().time()
        await asyncio.sleep(2)
        # Nothing is missing of what was said, and of the pauses no more than it was late.
        words = np.frombuffer(call.pcm(), "<i2") == 0x1FFF
        # Of each first moment after a pause, 5 ms are blended with it.
        assert 50 * 480 - 5 * 120 <= words.sum() <= 50 * 480
        dropped_secs = len(pieces) * 0.02 - call.secs()
        assert dropped_secs == pytest.approx(0.4 * live, abs=0.021)
        assert late <= LEAD_SECS + CHUNK_SECS - 0.1 * live
        await call.finish()

    @pytest.mark.parametrize("noise_dbfs", [-90, -45, -30])
    @pytest.mark.parametrize(("talk_secs", "pause_secs"), [(0.3, 0.2), (1.5, 0.3), (4.0, 1.0)])
    @pytest.mark.parametrize("stall_secs", [0.5, 2.0])
    @virtual_time
    async def test_catches_up_after_a_stall(
        self, stall_secs: float, talk_secs: float, pause_secs: float, noise_dbfs: float
    ) -> None:
        call = Call().start()
        turn = np.concatenate([speech(talk_secs, RATE), np.zeros(round(pause_secs * RATE))])
        said = np.tile(turn, math.ceil(14 / (talk_secs + pause_secs)))[: 14 * RATE]
        audio = pcm(said + white_noise(14, RATE, noise_dbfs))
        pieces = [audio[at : at + 960] for at in range(0, len(audio), 960)]
        first = current_loop().time()
        for number, piece in enumerate(pieces):
            # Nothing for so long in the second second, then all at once.
            said_at = first + number * 0.02
            if 1.0 <= number * 0.02 < 1.0 + stall_secs:
                said_at = first + 1.0 + stall_secs
            await asyncio.sleep(said_at - current_loop().time())
            call.tap.push_frame(OutputAudioRawFrame(piece, RATE, live=True))
            if number * 0.02 >= 1.0 + stall_secs + 10:
                break
        track = call.transport._output._track
        late_secs = track._queue.waiting_secs + track._pacer.ahead_secs(current_loop().time())
        assert late_secs < 0.3
        # Pauses are gone, and a fifth of the speech at the most: of that no whole piece.
        heard = call.secs() + track._queue.waiting_secs
        assert heard >= 0.75 * (number + 1) * 0.02
        await call.finish()

    @virtual_time
    async def test_what_waits_in_a_blocked_socket_is_late_as_well(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        noise = pcm(white_noise(14, RATE, -20))
        pieces = [noise[at : at + 960] for at in range(0, len(noise), 960)]
        call.socket.flows.clear()
        for number, piece in enumerate(pieces):
            if number == 75:
                call.socket.flows.set()
            call.tap.push_frame(OutputAudioRawFrame(piece, RATE, live=True))
            await asyncio.sleep(0.02)
        # The peer plays without a pause from the moment on at which it got the first.
        assert 1.5 + call.secs() - 14 < 0.3
        await call.finish()

    @virtual_time
    async def test_in_time_it_is_left_alone(self) -> None:
        call = Call().start()
        for _ in range(100):
            call.tap.push_frame(OutputAudioRawFrame(bytes(960), RATE, live=True))
            await asyncio.sleep(0.02)
        assert call.secs() == pytest.approx(2)
        await call.finish()

    @virtual_time
    async def test_behind_what_the_bot_says(self) -> None:
        call = Call().start()
        word = b"\xff\x1f" * 480
        call.say(3)
        await self.stream(call, [word] * 200, live=True)
        await asyncio.sleep(3)
        # It is never more than two seconds late, and goes on after what was said.
        assert call.pcm().startswith(bytes(3 * 2 * RATE))
        assert 4.9 <= call.secs() <= 5.1
        await call.finish()

    @virtual_time
    async def test_while_nobody_listens(self) -> None:
        call = Call().start()
        call.connection.disconnect(1006)
        await self.stream(call, [bytes(960)] * 50, live=True)
        call.reconnect()
        await asyncio.sleep(1)
        assert call.audio() == []
        await call.finish()


class TestFormat:
    @virtual_time
    async def test_the_pipelines_rate_by_default(self) -> None:
        call = Call().start()
        call.say(0.1)
        await asyncio.sleep(1)
        assert {frame.sample_rate for frame in call.audio()} == {24000}
        await call.finish()

    @pytest.mark.parametrize("out", [8000, 12345, 16000, 24000, 44100, 48000])
    @pytest.mark.parametrize("rate", [8000, 16000, 24000, 22050, 37800])
    @virtual_time
    async def test_audio_out_sample_rate(self, rate: int, out: int) -> None:
        call = Call(audio_out_sample_rate=out).start()
        times = [n / rate for n in range(rate)]
        import numpy as np

        tone = np.rint(10000 * np.sin(2 * np.pi * 440 * np.array(times))).astype("<i2").tobytes()
        call.play(tone, rate, name="a")
        await asyncio.sleep(3)
        assert {frame.sample_rate for frame in call.audio()} == {out}
        # Bytes in are bytes out: flushed at the end of the utterance.
        assert abs(len(call.pcm()) // 2 - out) <= 1
        ratio, _ = signal_to_noise(samples(call.pcm())[out // 10 : -out // 10], 440, out)
        assert ratio > 50
        assert call.played() == [("a", 1000.0, False)]
        await call.finish()

    @virtual_time
    async def test_the_serializers_rate(self) -> None:
        call = Call(serializer=FrameListSerializer(sample_rate=8000)).start()
        call.say(0.1)
        await asyncio.sleep(1)
        assert {frame.sample_rate for frame in call.audio()} == {8000}
        await call.finish()

    @pytest.mark.parametrize(("channels", "out"), [(1, 1), (1, 2), (2, 1), (2, 2), (6, 1)])
    @virtual_time
    async def test_audio_out_channels(self, channels: int, out: int) -> None:
        call = Call(audio_out_channels=out).start()
        pcm = ramp(channels * 4800)
        call.play(pcm, RATE, channels)
        await asyncio.sleep(1)
        assert {frame.num_channels for frame in call.audio()} == {out}
        assert call.pcm() == mix_channels(pcm, channels, out)
        assert call.secs() == pytest.approx(0.2)
        await call.finish()

    @virtual_time
    async def test_stereo_is_resampled_as_stereo(self) -> None:
        call = Call(audio_out_channels=2, audio_out_sample_rate=48000).start()
        call.play(mix_channels(bytes(4800), 1, 2), RATE, 2, name="a")
        await asyncio.sleep(1)
        assert abs(len(call.pcm()) - 2 * 2 * 4800) <= 4
        await call.finish()

    @virtual_time
    async def test_rates_that_change_between_frames(self) -> None:
        call = Call().start()
        for rate in (8000, 16000, 8000, 24000, 48000):
            call.play(bytes(rate // 5 * 2), rate, name=str(rate))
        await asyncio.sleep(3)
        assert abs(len(call.pcm()) // 2 - RATE) <= 5
        assert [name for name, _, _ in call.played()] == ["8000", "16000", "8000", "24000", "48000"]
        await call.finish()

    @pytest.mark.parametrize("volume", [0.0, 0.5, 2.0])
    @virtual_time
    async def test_audio_out_volume(self, volume: float) -> None:
        call = Call(audio_out_volume=volume).start()
        pcm = seconds(0.2)
        call.play(pcm)
        await asyncio.sleep(1)
        assert call.pcm() == scale(pcm, volume)
        await call.finish()

    @virtual_time
    async def test_add_wav_header(self) -> None:
        call = Call(add_wav_header=True, audio_out_channels=2).start()
        pcm = ramp(9600)
        call.play(pcm, RATE, 2)
        await asyncio.sleep(1)
        files = [split_wav(frame.audio) for frame in call.audio()]
        assert b"".join(file.audio for file in files) == pcm
        assert {(file.sample_rate, file.num_channels) for file in files} == {(RATE, 2)}
        # The header is no audio: neither the pace nor the positions count it.
        assert [f.pts for f in call.audio()] == [n * 40_000_000 for n in range(len(files))]
        await call.finish()

    @pytest.mark.parametrize(
        ("pcm", "rate", "channels"),
        [
            (b"ab" * 100, 0, 1),
            (b"ab" * 100, 50, 1),
            (b"ab" * 100, -16000, 1),
            (b"ab" * 100, 400_000, 1),
            (b"ab" * 100, RATE, 0),
            (b"ab" * 100, RATE, -1),
        ],
    )
    @virtual_time
    async def test_audio_that_is_none_harms_nobody(
        self, pcm: bytes, rate: int, channels: int
    ) -> None:
        call = Call().start()
        call.say(0.3)
        call.tap.push_frame(OutputAudioRawFrame(pcm, rate, channels))
        call.say(0.3)
        await asyncio.sleep(2)
        assert call.secs() == pytest.approx(0.6)
        assert call.tap.up(ErrorFrame) == [ErrorFrame("output failed", False, "output")]
        await call.finish()

    @virtual_time
    async def test_no_audio_is_not_speech(self) -> None:
        call = Call().start()
        call.play(b"", name="a")
        await asyncio.sleep(1)
        assert call.tap.up(BotStartedSpeakingFrame) == []
        assert call.played() == [("a", 0.0, False)]
        await call.finish()


class TestFixedPackets:
    @virtual_time
    async def test_all_packets_have_exactly_that_size(self) -> None:
        call = Call(fixed_audio_packet_size=640, serializer=PCMSerializer(16000)).start()
        pcm = ramp(16000)
        call.play(pcm, 16000)
        await asyncio.sleep(2)
        assert {len(data) for data in call.socket.sent} == {640}
        assert b"".join(call.socket.sent) == pcm  # type: ignore[arg-type]  # all of it is binary
        await call.finish()

    @virtual_time
    async def test_a_rest_waits_for_the_next_audio(self) -> None:
        call = Call(fixed_audio_packet_size=640).start()
        call.play(ramp(400))
        await asyncio.sleep(1)
        assert call.pcm() == ramp(320)
        call.play(ramp(240, 400))
        await asyncio.sleep(1)
        assert call.pcm() == ramp(640)
        await call.finish()

    @virtual_time
    async def test_an_interruption_drops_the_rest(self) -> None:
        call = Call(fixed_audio_packet_size=640).start()
        call.play(ramp(400))
        await settle()
        call.tap.push_frame(InterruptionFrame())
        call.play(ramp(320, 1000))
        await asyncio.sleep(1)
        assert call.pcm() == ramp(320) + ramp(320, 1000)
        await call.finish()

    @virtual_time
    async def test_the_last_packet_is_padded(self) -> None:
        call = Call(fixed_audio_packet_size=640).start()
        call.play(ramp(400))
        call.task.end()
        await call.task.wait()
        assert call.pcm() == ramp(400) + bytes(1280 - 800)
        await call.finish()

    @virtual_time
    async def test_a_packet_longer_than_a_chunk(self) -> None:
        call = Call(fixed_audio_packet_size=48000, audio_out_auto_silence=True).start()
        await asyncio.sleep(10)
        assert {len(frame.audio) for frame in call.audio()} == {48000}
        assert 9 <= call.secs() <= 11
        assert current_loop().turns < 3000
        await call.finish()

    @virtual_time
    async def test_volume(self) -> None:
        call = Call(fixed_audio_packet_size=640, audio_out_volume=0.5).start()
        call.play(ramp(640))
        await asyncio.sleep(1)
        assert call.pcm() == scale(ramp(640), 0.5)
        await call.finish()


class TestSilence:
    @virtual_time
    async def test_an_empty_queue_sends_silence_in_real_time(self) -> None:
        call = Call(audio_out_auto_silence=True).start()
        await asyncio.sleep(10)
        assert call.secs() == pytest.approx(10, abs=0.1)
        assert call.pcm() == bytes(len(call.pcm()))
        assert call.tap.up(BotStartedSpeakingFrame) == []
        await call.finish()

    @virtual_time
    async def test_off(self) -> None:
        call = Call().start()
        await asyncio.sleep(10)
        assert call.audio() == []
        assert current_loop().timers() == []
        await call.finish()

    @virtual_time
    async def test_jitter_tears_no_silence_into_speech(self) -> None:
        call = Call(audio_out_auto_silence=True).start()
        await asyncio.sleep(1)
        before = len(call.pcm())
        for n in range(20):
            call.play(ramp(480, n))
            await asyncio.sleep(0.02 if n % 5 else 0.02 + SILENCE_HOLD_SECS * 0.9)
        speech = b"".join(ramp(480, n) for n in range(20))
        assert call.pcm()[before:].startswith(speech)
        await asyncio.sleep(1)
        assert call.pcm().endswith(bytes(CHUNK_BYTES))
        await call.finish()

    @virtual_time
    async def test_speech_is_not_held_up_by_silence(self) -> None:
        call = Call(audio_out_auto_silence=True).start()
        await asyncio.sleep(1.01)
        call.play(ramp(480))
        await settle()
        assert call.pcm().endswith(ramp(480))
        await call.finish()

    @virtual_time
    async def test_silence_goes_on_right_after_an_interruption(self) -> None:
        call = Call(audio_out_auto_silence=True, audio_out_lead_secs=5.0).start()
        call.say(9)
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        before = call.secs()
        await asyncio.sleep(4)
        assert call.secs() - before == pytest.approx(4, abs=0.1)
        await call.finish()

    @pytest.mark.parametrize("secs", [0.0, 0.5, 2.0])
    @virtual_time
    async def test_audio_out_end_silence_secs(self, secs: float) -> None:
        call = Call(audio_out_end_silence_secs=secs).start()
        call.play(seconds(0.4))
        started = current_loop().time()
        call.task.end("bye", 1000)
        await call.task.wait()
        assert call.pcm() == seconds(0.4) + bytes(round(secs * RATE) * 2)
        # Sent in time with the media, or it would not be heard before the close.
        assert current_loop().time() - started == pytest.approx(0.4 + secs)
        await call.transport.wait_closed()
        assert call.socket.closed == [(1000, "bye")]
        await call.finish()

    def test_two_seconds_by_default(self) -> None:
        params = WebsocketServerParams()
        assert params.audio_out_end_silence_secs == 2
        assert params.audio_out_auto_silence is True

    @virtual_time
    async def test_silence_at_the_end_is_not_speech(self) -> None:
        call = Call(audio_out_end_silence_secs=1.0).start()
        call.task.end()
        await call.task.wait()
        assert call.secs() == pytest.approx(1)
        assert call.tap.up(BotStartedSpeakingFrame) == []
        await call.finish()


class TestEnd:
    @virtual_time
    async def test_what_is_queued_is_played(self) -> None:
        call = Call().start()
        call.say(3, "a")
        started = current_loop().time()
        call.task.end("bye")
        assert await call.task.wait() == "bye"
        assert current_loop().time() - started == pytest.approx(3)
        assert call.secs() == pytest.approx(3)
        assert call.played() == [("a", 3000.0, False)]
        assert call.after.down(EndFrame) == [EndFrame("bye")]
        await call.finish()

    @virtual_time
    async def test_started_and_stopped_speaking(self) -> None:
        call = Call().start()
        call.say(0.5)
        call.task.end()
        await call.task.wait()
        kinds = [type(frame) for frame in call.tap.upstream]
        assert kinds == [BotStartedSpeakingFrame, BotStoppedSpeakingFrame]
        await call.finish()

    @virtual_time
    async def test_nothing_is_played_after_the_end(self) -> None:
        call = Call().start()
        call.say(0.5)
        call.task.end()
        call.say(5, "late")
        await call.task.wait()
        assert call.secs() == pytest.approx(0.5)
        await call.finish()

    @virtual_time
    async def test_cancel_drops_what_is_queued(self) -> None:
        call = Call().start()
        call.say(3)
        await settle()
        sent = call.secs()
        call.task.cancel("gone", 1011)
        await call.task.wait()
        await call.transport.wait_closed()
        assert call.secs() == sent
        assert call.socket.closed == [(1011, "gone")]
        await call.finish()

    @pytest.mark.parametrize("how", ["acknowledged", "reported", "never"])
    @virtual_time
    async def test_it_waits_for_what_the_client_says(self, how: str) -> None:
        acknowledges = how == "acknowledged"
        call = Call(serializer=FrameListSerializer(acknowledges_marks=acknowledges)).start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(1, "a")
        call.task.end()
        await asyncio.sleep(1.5)
        turns = current_loop().turns
        await asyncio.sleep(0.2)
        # It sleeps while it waits.
        assert current_loop().turns - turns < 10
        assert call.socket.closed == []
        if how == "acknowledged":
            await call.receive(MarkPlayedFrame("a"))
        elif how == "reported":
            await call.receive(PlaybackPositionFrame(NS, "idle"))
        else:
            await asyncio.sleep(2)
        await settle()
        assert call.socket.closed == [(1000, "ended")]
        assert call.played() == [("a", 1000.0, False)]
        await call.finish()

    @virtual_time
    async def test_the_client_leaves_while_the_goodbye_plays(self) -> None:
        call = Call().start()
        call.say(3)
        call.task.end("bye")
        await asyncio.sleep(1)
        call.connection.disconnect(1006)
        assert await call.task.wait() == "bye"
        await call.finish()

    @virtual_time
    async def test_with_no_client_there_is_nothing_to_wait_for(self) -> None:
        call = Call(audio_out_end_silence_secs=2.0)
        call.task.start()
        call.say(3)
        call.task.end()
        assert await call.task.wait() == "ended"
        await call.finish()

    @virtual_time
    async def test_an_interruption_cuts_the_goodbye_short(self) -> None:
        call = Call(audio_out_end_silence_secs=2.0).start()
        call.say(3, "a")
        call.task.end("bye")
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        assert await call.task.wait() == "bye"
        assert call.played() == [("a", 1000.0, True)]
        await call.finish()


class TestInterruption:
    @virtual_time
    async def test_the_queue_is_emptied_and_the_client_told_first(self) -> None:
        call = Call().start()
        call.say(3, "a")
        call.say(2, "b")
        call.tap.push_frame(OutputTransportMessageFrame({"dropped": 1}))
        await asyncio.sleep(1)
        call.socket.flows.clear()
        await asyncio.sleep(0.1)
        waiting = call.socket.sent.copy()
        call.tap.push_frame(InterruptionFrame())
        call.socket.flows.set()
        await asyncio.sleep(5)
        # One message had been handed to the socket; the interruption is ahead of all others.
        after = call.serializer.received(call.socket)[len(waiting) :]
        assert [type(frame) for frame in after] == [OutputAudioRawFrame, InterruptionFrame]
        assert call.received(OutputTransportMessageFrame) == []
        assert call.played() == [("a", 1100.0, True), ("b", 0.0, True)]
        kinds = [type(frame) for frame in call.tap.upstream]
        assert kinds[:3] == [
            BotStartedSpeakingFrame,
            BotInterruptedFrame,
            BotStoppedSpeakingFrame,
        ]
        assert call.after.down(InterruptionFrame) == [InterruptionFrame()]
        await call.finish()

    @virtual_time
    async def test_at_most_the_lead_was_sent_and_not_heard(self) -> None:
        call = Call().start()
        call.say(3, "a")
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        await asyncio.sleep(1)
        assert call.secs() <= 1 + LEAD_SECS + CHUNK_SECS + 1e-9
        assert call.played() == [("a", 1000.0, True)]
        await call.finish()

    @virtual_time
    async def test_heard_of_the_first_of_two(self) -> None:
        call = Call().start()
        call.say(0.5, "a")
        call.say(0.5, "b")
        await asyncio.sleep(0.7)
        call.tap.push_frame(InterruptionFrame())
        assert call.played() == [("a", 500.0, False), ("b", 200.0, True)]
        await call.finish()

    @virtual_time
    async def test_what_the_client_reports_decides(self) -> None:
        call = Call().start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(3, "a")
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        assert call.played() == []
        await asyncio.sleep(0.1)
        await call.receive(PlaybackPositionFrame(850_000_000, "flushed"))
        assert call.played() == [("a", 850.0, True)]
        await call.finish()

    @virtual_time
    async def test_a_client_that_reports_no_more(self) -> None:
        call = Call().start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(3, "a")
        await asyncio.sleep(1)
        await call.receive(PlaybackPositionFrame(900_000_000))
        call.tap.push_frame(InterruptionFrame())
        await asyncio.sleep(1)
        assert call.played() == [("a", 900.0, True)]
        await call.finish()

    @virtual_time
    async def test_marks_that_arrive_after_the_flush_do_not_count(self) -> None:
        call = Call(serializer=FrameListSerializer(acknowledges_marks=True)).start()
        call.say(0.3, "a")
        await asyncio.sleep(0.2)
        call.tap.push_frame(InterruptionFrame())
        assert call.played() == [("a", 200.0, True)]
        await call.receive(MarkPlayedFrame("a"), MarkPlayedFrame("unknown"))
        assert len(call.played()) == 1
        await call.finish()

    @virtual_time
    async def test_nothing_is_sent_when_nothing_was_audible(self) -> None:
        call = Call().start()
        call.tap.push_frame(InterruptionFrame())
        await settle()
        assert call.socket.sent == []
        call.say(0.1)
        await asyncio.sleep(0.1 + PEER_BUFFER_SECS + SPEECH_HOLD_SECS)
        call.tap.push_frame(InterruptionFrame())
        await settle()
        assert call.received(InterruptionFrame) == []
        assert call.tap.up(BotInterruptedFrame) == []
        # The processors behind it are told all the same.
        assert len(call.after.down(InterruptionFrame)) == 2
        await call.finish()

    @virtual_time
    async def test_the_peers_own_buffer_may_still_be_audible(self) -> None:
        call = Call().start()
        call.say(0.1)
        await asyncio.sleep(0.1 + PEER_BUFFER_SECS / 2)
        call.tap.push_frame(InterruptionFrame())
        await settle()
        assert call.received(InterruptionFrame) == [InterruptionFrame()]
        await call.finish()

    @virtual_time
    async def test_twice_in_a_row_is_once(self) -> None:
        call = Call().start()
        call.say(3)
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        call.tap.push_frame(InterruptionFrame())
        await asyncio.sleep(0.1)
        call.tap.push_frame(InterruptionFrame())
        await settle()
        assert len(call.received(InterruptionFrame)) == 1
        assert len(call.tap.up(BotInterruptedFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_what_is_said_next_is_paced_anew(self) -> None:
        call = Call().start()
        call.say(3)
        await asyncio.sleep(1)
        call.tap.push_frame(InterruptionFrame())
        before = call.secs()
        call.say(1, "b")
        await settle()
        assert call.secs() - before == pytest.approx(LEAD_SECS + CHUNK_SECS, abs=CHUNK_SECS)
        await asyncio.sleep(2)
        assert call.played() == [("b", 1000.0, False)]
        await call.finish()

    @virtual_time
    async def test_nothing_of_the_resampler_is_left(self) -> None:
        call = Call(audio_out_sample_rate=48000).start()
        call.play(b"\xff\x7f" * 4800)
        await asyncio.sleep(0.1)
        call.tap.push_frame(InterruptionFrame())
        before = len(call.pcm())
        call.play(bytes(4800), name="b")
        await asyncio.sleep(1)
        assert call.pcm()[before:] == bytes(9600)
        await call.finish()

    @pytest.mark.parametrize("kind", [BotStartedSpeakingFrame, OutputAudioRawFrame])
    @virtual_time
    async def test_by_somebody_who_sees_the_audio_leave(self, kind: type[Frame]) -> None:
        watcher = OnFrame(kind)
        call = Call(*[watcher] * (kind is BotStartedSpeakingFrame)).start()
        if kind is OutputAudioRawFrame:
            call.after.link(watcher)
        done: list[bool] = []

        def interrupt() -> None:
            if not done:
                done.append(True)
                call.tap.push_frame(InterruptionFrame())

        watcher.action = interrupt
        call.say(1, "a")
        await asyncio.sleep(2)
        # The chunk that was on its way, and nothing of what was dropped.
        assert call.secs() <= CHUNK_SECS + 1e-9
        assert [name for name, _, _ in call.played()] == ["a"]
        call.say(0.5, "b")
        await asyncio.sleep(2)
        assert call.played()[-1] == ("b", 500.0, False)
        await call.finish()


class TestSpeaking:
    @virtual_time
    async def test_started_with_the_first_audio_stopped_after_the_last(self) -> None:
        call = Call().start()
        call.say(0.5)
        assert call.tap.up(BotStartedSpeakingFrame) == [BotStartedSpeakingFrame()]
        await asyncio.sleep(0.5 + SPEECH_HOLD_SECS - 0.01)
        assert call.tap.up(BotStoppedSpeakingFrame) == []
        await asyncio.sleep(0.02)
        assert call.tap.up(BotStoppedSpeakingFrame) == [BotStoppedSpeakingFrame()]
        await call.finish()

    @virtual_time
    async def test_at_once_when_the_end_of_the_utterance_is_known(self) -> None:
        call = Call().start()
        call.say(0.5, "a")
        await asyncio.sleep(0.51)
        assert call.tap.up(BotStoppedSpeakingFrame) == [BotStoppedSpeakingFrame()]
        await call.finish()

    @virtual_time
    async def test_a_short_pause_is_part_of_it(self) -> None:
        call = Call().start()
        for _ in range(5):
            call.say(0.1)
            await asyncio.sleep(0.1 + SPEECH_HOLD_SECS * 0.9)
        assert len(call.tap.up(BotStartedSpeakingFrame)) == 1
        await call.finish()


class TestClients:
    @virtual_time
    async def test_while_nobody_listens_everything_waits(self) -> None:
        call = Call()
        call.task.start()
        call.play(seconds(1), name="a")
        await asyncio.sleep(5)
        assert call.played() == []
        call.reconnect()
        await asyncio.sleep(2)
        assert call.pcm() == seconds(1)
        assert call.played() == [("a", 1000.0, False)]
        await call.finish()

    @virtual_time
    async def test_the_next_client_hears_the_rest_and_nothing_twice(self) -> None:
        call = Call().start()
        pcm = seconds(2)
        call.play(pcm, name="a")
        await asyncio.sleep(1)
        call.connection.disconnect(1006)
        first = call.pcm()
        await asyncio.sleep(5)
        assert call.pcm() == first
        assert current_loop().timers() == []
        call.reconnect()
        await asyncio.sleep(2)
        assert first + call.pcm() == pcm
        # Positions go on from where they were.
        assert call.audio()[0].pts == len(first) * NS // (2 * RATE)
        await call.finish()

    @virtual_time
    async def test_what_was_lost_with_the_socket_was_not_heard(self) -> None:
        call = Call().start()
        call.say(1.1, "a")
        call.say(1, "b")
        await asyncio.sleep(1)
        sent = call.secs()
        assert 1.1 < sent < 1.3
        call.connection.disconnect(1006)
        # All of it had been sent, and 100 ms were on their way: that was it.
        assert call.played() == [("a", 1000.0, True)]
        await asyncio.sleep(5)
        call.reconnect()
        await asyncio.sleep(2)
        # The one that had begun goes on, without what was on its way.
        assert call.played()[1:] == [("b", round(2100 - sent * 1000, 3), False)]
        call.say(0.5, "c")
        await asyncio.sleep(1)
        assert call.played()[2:] == [("c", 500.0, False)]
        await call.finish()

    @virtual_time
    async def test_what_the_client_reported_decides_what_was_lost(self) -> None:
        call = Call().start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(0.9, "a")
        call.say(1.1, "b")
        await asyncio.sleep(1)
        # It is behind: the network, and its own buffer.
        await call.receive(PlaybackPositionFrame(800_000_000))
        sent = call.secs()
        call.connection.disconnect(1006)
        assert call.played() == [("a", 800.0, True)]
        call.reconnect()
        await call.receive(PlaybackPositionFrame(round(sent * NS), "idle"))
        await asyncio.sleep(2)
        await call.receive(PlaybackPositionFrame(2 * NS, "idle"))
        assert call.played()[1:] == [("b", round(2000 - sent * 1000, 3), False)]
        await call.finish()

    @virtual_time
    async def test_a_report_that_is_read_after_the_loss_changes_nothing(self) -> None:
        call = Call().start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(0.2, "a")
        await asyncio.sleep(0.1)
        call.socket.error = ConnectionError("gone")
        call.tap.push_frame(OutputTransportMessageUrgentFrame({}))
        await settle()
        assert call.played() == [("a", 0.0, True)]
        assert call.is_open()
        await call.receive(PlaybackPositionFrame(NS // 5, "idle"))
        await asyncio.sleep(1)
        assert call.played() == [("a", 0.0, True)]
        await call.finish()

    @virtual_time
    async def test_a_client_that_took_no_more_has_not_heard_what_came_then(self) -> None:
        call = Call(audio_out_write_timeout_secs=2.0).start()
        call.say(5, "a")
        await asyncio.sleep(0.41)
        call.socket.flows.clear()
        await asyncio.sleep(3)
        assert not call.is_open()
        call.tap.push_frame(InterruptionFrame())
        # Not the two seconds that the clock went on until the loss was noticed.
        [(name, heard_ms, cut)] = call.played()
        assert (name, cut) == ("a", True)
        assert 400 <= heard_ms <= 480
        call.socket.flows.set()
        await call.finish()

    @pytest.mark.parametrize("how", ["cancelled", "gone", "nobody"])
    @virtual_time
    async def test_how_much_was_heard_of_what_the_end_cuts_off(self, how: str) -> None:
        call = Call().start()
        call.say(1.1, "a")
        call.say(1, "b")
        call.say(1, "c")
        await asyncio.sleep(1.2)
        heard = [("a", 1100.0, False), ("b", 100.0, True), ("c", 0.0, True)]
        if how == "cancelled":
            call.task.cancel()
        elif how == "gone":
            call.task.end()
            call.connection.disconnect(1006)
        else:
            call.connection.disconnect(1006)
            call.task.end()
        await call.task.wait()
        assert call.played() == heard
        await call.finish()

    @virtual_time
    async def test_an_interruption_while_nobody_listens(self) -> None:
        call = Call().start()
        await call.receive(PlaybackPositionFrame(0))
        call.say(2, "a")
        await asyncio.sleep(1)
        await call.receive(PlaybackPositionFrame(950_000_000))
        call.connection.disconnect(1006)
        call.tap.push_frame(InterruptionFrame())
        assert call.played() == [("a", 950.0, True)]
        call.reconnect()
        await asyncio.sleep(2)
        assert call.audio() == []
        await call.finish()

    @virtual_time
    async def test_a_client_that_reads_no_more_while_the_bot_talks(self) -> None:
        """More waits than may: the write fails in the middle of the play queue's own work."""
        call = Call(audio_out_lead_secs=1000.0).start()
        call.socket.flows.clear()
        call.serializer.serialize = lambda frame: "x" * 1024 * 1024
        call.say(10)
        await settle()
        assert call.socket.aborted == 1
        assert not call.is_open()
        call.socket.flows.set()
        await call.finish()

    @pytest.mark.parametrize("ending", [False, True])
    @virtual_time
    async def test_serializers_may_fail(
        self, ending: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Picky(FrameListSerializer):
            def serialize(self, frame: Frame) -> str | bytes | None:
                if isinstance(frame, TextFrame | MarkFrame):
                    raise TypeError("secret")
                return super().serialize(frame)

        call = Call(serializer=Picky()).start()
        call.say(0.5, "a")
        call.tap.push_frame(TextFrame("hi"))
        call.say(0.5, "b")
        if ending:
            call.task.end()
        await asyncio.sleep(2)
        assert call.secs() == pytest.approx(1)
        assert call.played() == [("a", 500.0, False), ("b", 500.0, False)]
        assert call.tap.up(ErrorFrame) == [ErrorFrame("output failed", False, "output")]
        assert caplog.messages == ["call c1: output failed to serialize MarkFrame"]
        await call.finish()

    @virtual_time
    async def test_a_message_that_is_no_json(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        call.tap.push_frame(OutputTransportMessageFrame({"a": object()}))
        call.tap.push_frame(OutputTransportMessageUrgentFrame({"a": object()}))
        call.say(0.1)
        await asyncio.sleep(1)
        assert call.secs() == pytest.approx(0.1)
        await call.finish()


def test_nothing_but_whole_samples_fit_a_packet() -> None:
    with pytest.raises(ConfigurationError, match="whole 16-bit samples of 2 channel"):
        WebsocketServerParams(fixed_audio_packet_size=642, audio_out_channels=2)


def test_short_utterances_on_uvloop() -> None:
    """It returns a plain handle for a timer that is due by now, which is so for every other one."""
    failures: list[dict[str, Any]] = []

    async def scenario() -> tuple[int, list[Frame]]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: failures.append(context))
        call = Call(audio_out_auto_silence=True).start()
        for n in range(40):
            call.play(ramp(240, n), name=str(n))
            await asyncio.sleep(0.012)
            call.play(ramp(24, n))
            # A loop that is late finds its timers due.
            late_until = perf_counter() + 0.003
            while perf_counter() < late_until:
                pass
            call.play(ramp(24, n))
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        call.task.cancel("test is over")
        await call.task.wait()
        await call.transport.wait_closed()
        return len(call.played()), call.tap.up(ErrorFrame)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        played, errors = runner.run(scenario())
    assert (played, errors, failures) == (40, [], [])


@pytest.mark.parametrize(
    "frame", [TranscriptionFrame("hi"), InputTextFrame("hi"), InputDTMFFrame("1")]
)
@virtual_time
async def test_what_the_client_did_is_not_sent_back(frame: Frame) -> None:
    call = Call().start()
    await call.receive(frame)
    await settle()
    assert call.tap.down(type(frame)) == [frame]
    assert call.after.down(type(frame)) == []
    assert frame not in call.serializer.received(call.socket)
    await call.finish()


@virtual_time
async def test_keys_are_tones_where_the_protocol_has_no_message_for_them() -> None:
    call = Call(serializer=ProtobufFrameSerializer()).start()
    call.tap.push_frame(OutputDTMFFrame("1#"))
    await asyncio.sleep(1)
    tones = dtmf_tone("1", KEY_TONE_MS, RATE)
    pcm = call.pcm()
    assert pcm[: len(tones)] == tones
    assert len(pcm) == 2 * (KEY_TONE_MS + KEY_PAUSE_MS) * RATE // 1000 * 2
    await call.finish()


@pytest.mark.parametrize("how", ["end", "cancel"])
@virtual_time
async def test_a_pipeline_without_output_lets_its_client_go(how: str) -> None:
    transport = WebsocketServerTransport(WebsocketServerParams(audio_in_enabled=True))
    task = PipelineTask(Pipeline([transport.input(), Tap()]))
    socket = FakeSocket()
    task.start()
    transport.connect(socket)
    getattr(task, how)("enough", 4002)
    await task.wait()
    await transport.wait_closed()
    assert socket.closed == [(4002, "enough")]
    assert transport.state is TransportState.CLOSED
    await asyncio.sleep(1)
