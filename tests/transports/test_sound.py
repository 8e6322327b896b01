"""Mixer, filters, volume at run time and destinations, heard on the wire."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.audio.signals import pcm, samples, signal_to_noise, tone
from tests.audio.test_mixers import jumps, started, write
from tests.fakes import FrameListSerializer, current_loop, ramp, settle, virtual_time
from tests.transports.calls import RATE, Call
from voicews.audio.filters import AudioFilter
from voicews.audio.mixers import AudioMixer, SoundFileMixer
from voicews.exceptions import ConfigurationError
from voicews.frames import (
    BotInterruptedFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Direction,
    ErrorFrame,
    FilterControlFrame,
    FilterEnableFrame,
    FilterUpdateSettingsFrame,
    InputAudioRawFrame,
    InputTextFrame,
    InterruptionFrame,
    MarkFrame,
    MixerControlFrame,
    MixerEnableFrame,
    MixerUpdateSettingsFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    VolumeFrame,
    VolumeGainFrame,
)
from voicews.serializers import PCMSerializer, ProtobufFrameSerializer
from voicews.serializers import frames_pb2 as pb
from voicews.transports import WebsocketServerParams, WebsocketServerTransport


class DestinationSerializer(FrameListSerializer):
    carries_destinations = True


class Plain(FrameListSerializer):
    carries_destinations = False


class Recorded:
    """What was called, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self, sample_rate: int, num_channels: int = 1) -> None:
        self.calls.append(("start", sample_rate, num_channels))

    def stop(self) -> None:
        self.calls.append("stop")


class Counter(Recorded, AudioMixer):
    """Adds a ramp, so that each sample of it is different from its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0

    def process_frame(self, frame: MixerControlFrame) -> None:
        self.calls.append(frame)

    def mix(self, audio: bytes) -> bytes:
        size = len(audio) // 2
        added = np.frombuffer(ramp(size, self.position), "<i2")
        self.position += size
        mixed = np.frombuffer(audio, "<i2") + added
        return bytes(mixed.astype("<i2").tobytes())


class Inverter(Recorded, AudioFilter):
    def process_frame(self, frame: FilterControlFrame) -> None:
        self.calls.append(frame)

    def filter(self, audio: bytes) -> bytes:
        return bytes((~np.frombuffer(audio, "<i2")).tobytes())


class PeersMixer:
    """As Pipecat's documents write one: no base class of ours, one rate, all async."""

    def __init__(self, delay_secs: float = 0.0) -> None:
        self.inner = Counter()
        self.delay_secs = delay_secs

    async def start(self, sample_rate: int) -> None:
        await asyncio.sleep(self.delay_secs)
        self.inner.start(sample_rate)

    async def stop(self) -> None:
        self.inner.stop()

    async def process_frame(self, frame: MixerControlFrame) -> None:
        await asyncio.sleep(self.delay_secs)
        self.inner.process_frame(frame)

    async def mix(self, audio: bytes) -> bytes:
        await asyncio.sleep(self.delay_secs)
        return self.inner.mix(audio)


class PeersFilter(PeersMixer):
    """A filter that holds 100 bytes back, as its interface allows."""

    def __init__(self, delay_secs: float = 0.0) -> None:
        super().__init__(delay_secs)
        self.inner: Any = Inverter()
        self.held = b""

    async def filter(self, audio: bytes) -> bytes:
        await asyncio.sleep(self.delay_secs)
        audio = self.held + audio
        self.held = audio[-100:]
        return bytes(self.inner.filter(audio[:-100]))


class Failing(Recorded):
    def process_frame(self, frame: object) -> None:
        raise RuntimeError("secret")

    def mix(self, audio: bytes) -> bytes:
        raise RuntimeError("secret")

    filter = mix


def background(path: Path, volume: float = 0.5, **options: Any) -> SoundFileMixer:
    """A tone of 1000 Hz, 0.5 at full volume, from a stereo file of another rate."""
    wave = np.repeat(tone(1000, 1, 44100)[:, np.newaxis], 2, axis=1)
    file = write(path / "office.wav", pcm(wave.ravel()), 44100, 2)
    mixer = SoundFileMixer(
        sound_files={"office": file}, default_sound="office", volume=volume, **options
    )
    return started(mixer, RATE)


def timed(call: Call) -> list[tuple[OutputAudioRawFrame, float]]:
    """The audio that the client got, and when."""
    both = zip(call.serializer.received(call.socket), call.socket.times, strict=True)
    return [(frame, time) for frame, time in both if isinstance(frame, OutputAudioRawFrame)]


def heard(call: Call) -> NDArray[np.float64]:
    return samples(call.pcm())


class TestMixer:
    @virtual_time
    async def test_is_heard_without_a_gap_between_and_under_what_the_bot_says(
        self, tmp_path: Path
    ) -> None:
        call = Call(audio_out_mixer=background(tmp_path)).start()
        begun = current_loop().time()
        await asyncio.sleep(1.013)
        call.play(pcm(tone(440, 1, RATE, 0.3)), name="a")
        await asyncio.sleep(2.5)
        assert call.secs() == pytest.approx(3.5, abs=0.15)
        # No sample is missing, repeated or late: the peer never runs dry.
        media = 0.0
        for frame, sent_at in timed(call):
            assert frame.pts == round(media * 1e9)
            assert sent_at - begun <= media + 1e-9
            media += frame.duration_secs
        sound = heard(call)
        for part in (sound[2400:20000], sound[-20000:]):
            ratio, (amplitude, _) = signal_to_noise(part, 1000, RATE)
            assert ratio > 60
            assert amplitude == pytest.approx(0.25, rel=0.01)
        t = np.arange(len(sound)) / RATE
        basis = np.stack([np.sin(2 * np.pi * 1000 * t), np.cos(2 * np.pi * 1000 * t)], axis=1)
        weights = np.linalg.lstsq(basis[2400:20000], sound[2400:20000], rcond=None)[0]
        speech = (sound - basis @ weights)[2400:]
        said = np.flatnonzero(np.abs(speech) > 0.05)
        speech = speech[said[0] : said[-1]]
        assert len(speech) == pytest.approx(RATE, abs=10)
        ratio, (amplitude, _) = signal_to_noise(speech[100:-100], 440, RATE)
        assert ratio > 50
        assert amplitude == pytest.approx(0.3, rel=0.01)
        assert call.played() == [("a", 1000.0, False)]
        await call.finish()

    @virtual_time
    async def test_what_the_bot_says_leaves_at_once(self) -> None:
        call = Call(audio_out_mixer=Counter()).start()
        await asyncio.sleep(1.01)
        before = call.secs()
        # 40 ms ahead and a chunk.
        assert before - 1.01 <= 0.08 + 1e-9
        call.say(1)
        await settle()
        assert call.secs() - 1.01 > 0.1
        assert call.tap.up(BotStartedSpeakingFrame) != []
        await asyncio.sleep(2)
        assert len(call.tap.up(BotStoppedSpeakingFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_no_gap_and_no_jump_on_an_interruption(self) -> None:
        call = Call(audio_out_mixer=Counter()).start()
        await asyncio.sleep(0.5)
        call.say(3, "a")
        await asyncio.sleep(1.0)
        sent = call.secs()
        call.task.interrupt()
        await settle()
        assert call.secs() - sent <= 0.041
        assert len(call.tap.up(BotInterruptedFrame)) == 1
        assert len(call.tap.up(BotStoppedSpeakingFrame)) == 1
        await asyncio.sleep(1.0)
        # What was sent is played, so the peer is not told to throw anything away.
        assert call.received(InterruptionFrame) == []
        assert call.pcm() == ramp(len(call.pcm()) // 2)
        [(name, heard_ms, interrupted)] = call.played()
        assert (name, interrupted) == ("a", True)
        assert 1000 <= heard_ms <= 1000 + 100 + 40
        # Another one finds nothing to cut off.
        call.task.interrupt()
        await settle()
        assert len(call.tap.up(BotInterruptedFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_a_peer_that_is_behind_is_told_to_flush(self) -> None:
        call = Call(audio_out_mixer=Counter()).start()
        await asyncio.sleep(0.1)
        call.socket.flows.clear()
        # What the frame list writes is shorter than audio is.
        call.serializer.serialize = lambda frame, serialize=call.serializer.serialize: (
            f"{serialize(frame):0>4000}"
        )
        call.say(3)
        await asyncio.sleep(2)
        call.task.interrupt()
        call.socket.flows.set()
        await settle()
        assert len(call.received(InterruptionFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_frames_and_life_cycle(self) -> None:
        mixer = Counter()
        call = Call(audio_out_mixer=mixer, audio_out_channels=2).start()
        assert mixer.calls == [("start", RATE, 2)]
        # At once, however much waits to be played.
        call.say(5)
        frames = [MixerEnableFrame(enable=False), MixerUpdateSettingsFrame({"volume": 1})]
        for frame in frames:
            call.tap.push_frame(frame)
        assert mixer.calls[1:] == frames
        await call.finish()
        assert mixer.calls[3:] == ["stop"]

    @pytest.mark.parametrize("delay", [0.0, 0.005])
    @virtual_time
    async def test_one_written_for_pipecat(self, delay: float) -> None:
        mixer = PeersMixer(delay)
        call = Call(audio_out_mixer=mixer).start()
        await asyncio.sleep(0.5)
        assert mixer.inner.calls == [("start", RATE, 1)]
        call.say(1, "a")
        call.tap.push_frame(OutputTransportMessageFrame({"a": 1}))
        call.tap.push_frame(MixerEnableFrame(enable=True))
        await asyncio.sleep(2)
        assert mixer.inner.calls[1:] == [MixerEnableFrame(enable=True)]
        assert call.pcm() == ramp(len(call.pcm()) // 2)
        assert call.secs() == pytest.approx(2.5, abs=0.15)
        assert call.played() == [("a", 1000.0, False)]
        # The message kept its place behind what was said.
        kinds = [type(frame) for frame in call.serializer.received(call.socket)]
        place = kinds.index(OutputTransportMessageFrame)
        assert 1.5 <= 0.04 * place <= 1.7
        call.task.interrupt()
        call.task.end()
        await call.finish()
        assert mixer.inner.calls[2:] == ["stop"]

    @pytest.mark.parametrize("part", ["audio_out_mixer", "audio_out_filter"])
    @virtual_time
    async def test_one_that_fails_costs_no_audio(
        self, part: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call(**{part: Failing()}).start()
        call.play(ramp(RATE), name="a")
        call.tap.push_frame(MixerEnableFrame(enable=True))
        call.tap.push_frame(FilterEnableFrame(enable=True))
        await asyncio.sleep(1.1)
        assert call.pcm()[: RATE * 2] == ramp(RATE)
        assert call.tap.up(ErrorFrame)[0] == ErrorFrame("output failed", processor="output")
        assert "in Failing" in caplog.text
        await call.finish()

    @virtual_time
    async def test_through_a_filter_and_at_another_volume(self, tmp_path: Path) -> None:
        # In this order: the filter hears the bot only, the volume is the bot's only.
        call = Call(
            audio_out_mixer=background(tmp_path, 1.0),
            audio_out_filter=Inverter(),
            audio_out_volume=0.5,
        ).start()
        await asyncio.sleep(1)
        ratio, (amplitude, _) = signal_to_noise(heard(call)[2400:], 1000, RATE)
        assert ratio > 60
        assert amplitude == pytest.approx(0.5, rel=0.01)
        call.play(pcm(tone(440, 1, RATE, 0.4)))
        await asyncio.sleep(1)
        sound = heard(call)[-12000:]
        t = np.arange(len(sound)) / RATE
        basis = np.stack(
            [f(2 * np.pi * hz * t) for hz in (440, 1000) for f in (np.sin, np.cos)], axis=1
        )
        weights = np.linalg.lstsq(basis, sound, rcond=None)[0]
        assert np.hypot(*weights[:2]) == pytest.approx(0.2, rel=0.01)
        assert np.hypot(*weights[2:]) == pytest.approx(0.5, rel=0.01)
        rest = sound - basis @ weights
        assert 10 * np.log10(np.mean(sound**2) / np.mean(rest**2)) > 60
        await call.finish()

    @virtual_time
    async def test_in_packets_of_a_fixed_size(self) -> None:
        call = Call(audio_out_mixer=Counter(), fixed_audio_packet_size=640).start()
        await asyncio.sleep(1)
        assert {len(frame.audio) for frame in call.audio()} == {640}
        assert call.pcm() == ramp(len(call.pcm()) // 2)
        await call.finish()

    @virtual_time
    async def test_to_the_end(self) -> None:
        call = Call(audio_out_mixer=Counter(), audio_out_end_silence_secs=0.5).start()
        call.say(0.5)
        call.task.end()
        await call.task.wait()
        assert call.pcm() == ramp(RATE)
        await call.finish()

    @virtual_time
    async def test_while_the_client_is_away(self) -> None:
        call = Call(audio_out_mixer=PeersMixer(0.005)).start()
        call.say(1, "a")
        await asyncio.sleep(0.3)
        first = call.pcm()
        call.connection.disconnect(1006)
        await asyncio.sleep(5)
        call.reconnect()
        await asyncio.sleep(2)
        both = first + call.pcm()
        # What was under way when the client left is heard by the next one.
        assert both == ramp(len(both) // 2)
        await call.finish()


class TestFilter:
    @pytest.mark.parametrize("rate", [8000, RATE])
    @virtual_time
    async def test_changes_what_the_bot_says(self, rate: int) -> None:
        call = Call(audio_out_filter=Inverter(), audio_out_sample_rate=rate).start()
        wave = pcm(tone(440, 1, 16000))
        call.play(wave, 16000, name="a")
        call.tap.push_frame(OutputTransportMessageFrame({"a": 1}))
        await asyncio.sleep(1.5)
        sound = heard(call)
        assert len(sound) == pytest.approx(rate, abs=1)
        ratio, (amplitude, _) = signal_to_noise(sound[200:-200], 440, rate)
        assert ratio > 60
        assert amplitude == pytest.approx(0.5, rel=0.01)
        assert call.played() == [("a", 1000.0, False)]
        await call.finish()

    @pytest.mark.parametrize("delay", [0.0, 0.005])
    @virtual_time
    async def test_one_written_for_pipecat(self, delay: float) -> None:
        filter_ = PeersFilter(delay)
        call = Call(audio_out_filter=filter_).start()
        said = ramp(RATE)
        call.play(said)
        call.tap.push_frame(MarkFrame("a", 1000))
        await asyncio.sleep(2)
        assert call.pcm() == Inverter().filter(said)[:-100]
        assert [name for name, *_ in call.played()] == ["a"]
        await call.finish()
        assert filter_.inner.calls == [("start", RATE, 1), "stop"]

    @virtual_time
    async def test_an_interruption_drops_what_it_is_busy_with(self) -> None:
        call = Call(audio_out_filter=PeersFilter(0.03)).start()
        call.say(1, "a")
        await asyncio.sleep(0.31)
        sent = call.secs()
        call.task.interrupt()
        await asyncio.sleep(1)
        assert call.secs() == sent
        assert len(call.received(InterruptionFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_frames_keep_their_place(self) -> None:
        filter_ = Inverter()
        call = Call(audio_out_filter=filter_).start()
        call.say(1)
        frames = [FilterEnableFrame(enable=False), FilterUpdateSettingsFrame({"level": 1})]
        for frame in frames:
            call.tap.push_frame(frame)
        await settle()
        assert filter_.calls == [("start", RATE, 1)]
        # And no interruption drops them.
        call.task.interrupt()
        await settle()
        assert filter_.calls[1:] == frames
        await call.finish()
        assert filter_.calls[3:] == ["stop"]

    @virtual_time
    async def test_a_slow_one_runs_in_a_thread(self) -> None:
        threads: set[str] = set()

        class Slow(Inverter):
            in_thread = True

            def filter(self, audio: bytes) -> bytes:
                threads.add(threading.current_thread().name)
                return super().filter(audio)

        call = Call(audio_out_filter=Slow(), audio_in_filter=Slow()).start()
        call.play(ramp(RATE))
        for n in range(5):
            await call.hear(ramp(320, n * 320))
        # Real time passes in the threads, and much of this clock's meanwhile.
        for _ in range(10_000):
            if len(call.tap.down(InputAudioRawFrame)) == 5 and len(call.pcm()) == 2 * RATE:
                break
            await asyncio.sleep(0.01)
            time.sleep(0.0001)  # noqa: ASYNC251 - lets the threads work
        assert call.pcm() == Inverter().filter(ramp(RATE))
        taken = b"".join(frame.audio for frame in call.tap.down(InputAudioRawFrame))
        assert taken == Inverter().filter(ramp(1600))
        assert all(name.startswith("voicews-audio") for name in threads)
        await call.finish()


class TestInputFilter:
    @virtual_time
    async def test_sees_every_chunk_before_the_analyzer_and_the_bot(self) -> None:
        filter_ = Inverter()
        call = Call(audio_in_filter=filter_).start()
        assert filter_.calls == [("start", 16000, 1)]
        await call.hear(ramp(320))
        assert call.tap.down(InputAudioRawFrame) == [
            InputAudioRawFrame(Inverter().filter(ramp(320)), 16000)
        ]
        # From a processor upstream, from the task downstream.
        call.ask(FilterEnableFrame(enable=False))
        call.task.queue_frame(FilterUpdateSettingsFrame({"a": 1}))
        assert filter_.calls[1:] == [
            FilterEnableFrame(enable=False),
            FilterUpdateSettingsFrame({"a": 1}),
        ]
        await call.finish()
        assert filter_.calls[3:] == ["stop"]

    @virtual_time
    async def test_without_one_its_frames_go_on_to_the_output(self) -> None:
        filter_ = Inverter()
        call = Call(audio_out_filter=filter_).start()
        call.task.queue_frame(FilterEnableFrame(enable=True))
        assert filter_.calls[1:] == [FilterEnableFrame(enable=True)]
        call.tap.push_frame(FilterEnableFrame(enable=False), Direction.UPSTREAM)
        assert len(filter_.calls) == 2
        await call.finish()

    @pytest.mark.parametrize("delay", [0.0, 0.005])
    @virtual_time
    async def test_one_written_for_pipecat_keeps_the_order(self, delay: float) -> None:
        filter_ = PeersFilter(delay)
        call = Call(audio_in_filter=filter_).start()
        for n in range(10):
            await call.hear(ramp(320, n * 320))
            await call.receive(InputTextFrame(str(n)))
        call.ask(FilterEnableFrame(enable=True))
        await asyncio.sleep(1)
        taken = b"".join(frame.audio for frame in call.tap.down(InputAudioRawFrame))
        assert taken == Inverter().filter(ramp(3200))[:-100]
        order = [
            frame.text if isinstance(frame, InputTextFrame) else "audio"
            for frame in call.tap.downstream
            if isinstance(frame, InputTextFrame | InputAudioRawFrame)
        ]
        assert order == [item for n in range(10) for item in ("audio", str(n))]
        assert filter_.inner.calls[-1] == FilterEnableFrame(enable=True)
        await call.finish()
        assert filter_.inner.calls[-1] == "stop"

    @virtual_time
    async def test_one_that_fails_costs_no_audio(self, caplog: pytest.LogCaptureFixture) -> None:
        call = Call(audio_in_filter=Failing()).start()
        await call.hear(ramp(320))
        assert call.tap.down(InputAudioRawFrame) == [InputAudioRawFrame(ramp(320), 16000)]
        assert "in Failing" in caplog.text
        await call.finish()

    @virtual_time
    async def test_one_that_is_too_slow_loses_the_newest(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = Call(audio_in_filter=PeersFilter(1.0)).start()
        for n in range(400):
            await call.hear(ramp(320, n * 320))
            await asyncio.sleep(0.02)
        await asyncio.sleep(500)
        assert 200 < len(call.tap.down(InputAudioRawFrame)) <= 260
        assert "too slow" in caplog.text
        await call.finish()


class TestVolume:
    @virtual_time
    async def test_in_its_place_among_the_audio(self) -> None:
        call = Call().start()
        wave = pcm(tone(440, 1, RATE, 0.4))
        call.play(wave)
        call.tap.push_frame(VolumeFrame(0.5))
        call.play(wave)
        call.tap.push_frame(VolumeGainFrame(0.5))
        call.play(wave)
        call.tap.push_frame(VolumeGainFrame(1.0))
        call.tap.push_frame(VolumeFrame(1.0))
        call.play(wave)
        await asyncio.sleep(5)
        sound = heard(call)
        assert len(sound) == 4 * RATE
        levels = []
        for n in range(4):
            ratio, (amplitude, _) = signal_to_noise(
                sound[n * RATE + 1000 : (n + 1) * RATE], 440, RATE
            )
            assert ratio > 60
            levels.append(amplitude)
        assert levels == pytest.approx([0.4, 0.2, 0.1, 0.4], rel=0.01)
        # The first chunk at another volume is faded to it.
        assert jumps(sound, 440, RATE, 0.4) < 1.1
        await call.finish()

    @virtual_time
    async def test_no_interruption_drops_it(self) -> None:
        call = Call(audio_out_volume=2.0).start()
        call.say(1)
        call.tap.push_frame(VolumeFrame(0.25))
        call.task.interrupt()
        await settle()
        before = len(call.pcm())
        call.play(pcm(tone(440, 1, RATE, 0.4)))
        await asyncio.sleep(1.5)
        sound = samples(call.pcm()[before:])
        assert signal_to_noise(sound[1000:], 440, RATE)[1][0] == pytest.approx(0.1, rel=0.01)
        await call.finish()


class TestDestinations:
    def params(self, **options: Any) -> dict[str, Any]:
        return {
            "audio_out_destinations": ["music", "french"],
            "serializer": DestinationSerializer(),
            **options,
        }

    def play(self, call: Call, destination: str | None, audio: bytes, name: str = "") -> None:
        frame = OutputAudioRawFrame(audio, RATE, transport_destination=destination)
        call.tap.push_frame(frame)
        if name:
            mark = MarkFrame(name, frame.duration_secs * 1000, transport_destination=destination)
            call.tap.push_frame(mark)

    def heard(self, call: Call, destination: str | None) -> list[OutputAudioRawFrame]:
        return [f for f in call.audio() if f.transport_destination == destination]

    @virtual_time
    async def test_each_has_its_own_queue_pacing_and_playout(self) -> None:
        call = Call(**self.params()).start()
        begun = current_loop().time()
        self.play(call, None, ramp(2 * RATE), "a")
        self.play(call, "music", ramp(RATE, 7), "b")
        self.play(call, "french", ramp(RATE // 2, 9), "c")
        await asyncio.sleep(1.2)
        # None waits for another.
        assert [name for name, *_ in call.played()] == ["c", "b"]
        await asyncio.sleep(1.5)
        assert call.played()[-1] == ("a", 2000.0, False)
        for destination, start, size in ((None, 0, 2), ("music", 7, 1), ("french", 9, 0.5)):
            frames = self.heard(call, destination)
            assert b"".join(f.audio for f in frames) == ramp(round(size * RATE), start)
            assert frames[0].pts == 0
        for destination in (None, "music"):
            media = 0.0
            for frame, sent_at in timed(call):
                if frame.transport_destination == destination:
                    assert media - (sent_at - begun) <= 0.2 + 1e-9
                    media += frame.duration_secs
        # The bot speaks from the first to the last of them.
        assert len(call.tap.up(BotStartedSpeakingFrame)) == 1
        assert len(call.tap.up(BotStoppedSpeakingFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_silence_is_filled_in_for_each(self) -> None:
        call = Call(**self.params(audio_out_auto_silence=True)).start()
        self.play(call, "music", ramp(RATE))
        await asyncio.sleep(2)
        for destination in (None, "music", "french"):
            secs = sum(frame.duration_secs for frame in self.heard(call, destination))
            assert secs == pytest.approx(2, abs=0.25)
        await call.finish()

    @virtual_time
    async def test_an_interruption_cuts_all_that_are_heard(self) -> None:
        call = Call(**self.params()).start()
        self.play(call, None, ramp(RATE), "a")
        self.play(call, "music", ramp(RATE), "b")
        await asyncio.sleep(0.5)
        call.task.interrupt()
        await asyncio.sleep(0.1)
        cut = [f.transport_destination for f in call.received(InterruptionFrame)]
        assert cut == [None, "music"]
        assert call.played() == [("a", 500.0, True), ("b", 500.0, True)]
        assert len(call.tap.up(BotInterruptedFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_the_end_waits_for_all(self) -> None:
        call = Call(**self.params()).start()
        begun = current_loop().time()
        self.play(call, None, ramp(RATE // 2))
        self.play(call, "music", ramp(2 * RATE))
        call.task.end()
        await call.task.wait()
        assert current_loop().time() - begun == pytest.approx(2, abs=0.01)
        assert b"".join(f.audio for f in self.heard(call, "music")) == ramp(2 * RATE)
        await call.finish()

    @virtual_time
    async def test_a_mixer_for_each(self) -> None:
        own, musics = Counter(), Counter()
        call = Call(**self.params(audio_out_mixer={None: own, "music": musics})).start()
        call.tap.push_frame(MixerEnableFrame(enable=True, transport_destination="music"))
        call.tap.push_frame(VolumeFrame(0.5, transport_destination="french"))
        await asyncio.sleep(1)
        for destination in (None, "music"):
            audio = b"".join(f.audio for f in self.heard(call, destination))
            assert audio == ramp(len(audio) // 2)
        assert self.heard(call, "french") == []
        assert [type(entry) for entry in own.calls] == [tuple]
        assert [type(entry) for entry in musics.calls] == [tuple, MixerEnableFrame]
        self.play(call, "french", pcm(tone(440, 1, RATE, 0.4)))
        await asyncio.sleep(1)
        sound = samples(b"".join(f.audio for f in self.heard(call, "french")))
        assert signal_to_noise(sound[1000:], 440, RATE)[1][0] == pytest.approx(0.2, rel=0.01)
        await call.finish()
        assert own.calls[-1] == musics.calls[-1] == "stop"

    @virtual_time
    async def test_one_that_there_is_not(self) -> None:
        call = Call(**self.params()).start()
        for _ in range(3):
            self.play(call, "german", ramp(RATE), "a")
        await asyncio.sleep(1)
        assert call.audio() == []
        [error] = call.tap.up(ErrorFrame)
        assert error.error == "'german' is not one of audio_out_destinations"
        assert call.played() == [("a", 0.0, True)] * 3
        await call.finish()

    @pytest.mark.parametrize("serializer", [PCMSerializer(), Plain()])
    def test_a_protocol_that_has_none(self, serializer: Any) -> None:
        params = WebsocketServerParams(serializer=serializer, audio_out_destinations=["music"])
        with pytest.raises(ConfigurationError, match="audio_out_destinations: expected none with"):
            WebsocketServerTransport(params)

    @virtual_time
    async def test_on_the_wire_of_our_own_clients(self) -> None:
        call = Call(**self.params(serializer=ProtobufFrameSerializer())).start()
        self.play(call, None, ramp(480))
        self.play(call, "music", ramp(480, 7))
        await settle()
        call.task.interrupt()
        await settle()
        own, musics, flush, musics_flush = call.socket.frames()
        assert own.audio.audio == ramp(480)
        assert own.audio.destination == ""
        # A kind that other peers do not know, so that they leave it out.
        assert musics.WhichOneof("frame") == "destination_audio"
        assert musics.destination_audio.destination == "music"
        assert musics.destination_audio.audio == ramp(480, 7)
        assert flush.WhichOneof("frame") == "interruption"
        assert musics_flush.destination_interruption.destination == "music"
        assert pb.Frame.FromString(musics.SerializeToString()) == musics
        await call.finish()
