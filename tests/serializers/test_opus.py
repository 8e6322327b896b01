from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
import pytest

from tests.audio.signals import at_level, pcm, samples, signal_to_noise, talk, tone
from tests.fakes import FakeSocket, current_loop, virtual_time
from tests.transports.calls import RATE, Call
from voicews.audio.opus import OpusDecoder, OpusEncoder
from voicews.exceptions import AudioFormatError, ConfigurationError, InvalidMessage
from voicews.frames import (
    EndFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    ProtocolRequestFrame,
)
from voicews.serializers import OpusFrameSerializer, ProtobufFrameSerializer
from voicews.serializers import frames_pb2 as pb
from voicews.transports import WebsocketServerParams, WebsocketServerTransport


def decoded(messages: list[pb.EncodedAudioFrame], channels: int = 1) -> bytes:
    decoder = OpusDecoder(channels)
    return b"".join(decoder.decode(packet) for m in messages for packet in m.packets)


def parse(data: str | bytes | None) -> pb.Frame:
    assert isinstance(data, bytes)
    return pb.Frame.FromString(data)


def offer(*codecs: str) -> bytes:
    message = {"label": "voicews", "type": "codecs", "data": {"audio": list(codecs)}}
    data = pb.Frame(message=pb.MessageFrame(data=json.dumps(message))).SerializeToString()
    assert isinstance(data, bytes)
    return data


def agreed(bitrate: int = 24000) -> OpusFrameSerializer:
    """The server's end, after a client's offer."""
    serializer = OpusFrameSerializer()
    serializer.bitrate = bitrate
    assert serializer.connected() is None
    request = serializer.deserialize(offer("opus"))
    assert request == ProtocolRequestFrame("codecs")
    answer = json.loads(parse(serializer.serialize(request)).message.data)
    assert answer["label"] == "voicews"
    assert (answer["type"], answer["data"]) == ("codecs", {"audio": "opus"})
    return serializer


class TestCodec:
    @pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_tone_in_tone_out(self, rate: int, channels: int) -> None:
        encoder, decoder = OpusEncoder(rate, channels, 96000), OpusDecoder(channels)
        wave = np.repeat(tone(440, 2, rate, 0.3)[:, np.newaxis], channels, axis=1)
        packets = encoder.encode(pcm(wave.ravel())) + encoder.flush()
        out = samples(b"".join(map(decoder.decode, packets)), channels).reshape(-1, channels)
        # All of it, and no more than the silence that fills the last packet.
        assert 2 * 48000 <= len(out) <= 2.04 * 48000
        for channel in out.T:
            ratio, (amplitude, _) = signal_to_noise(channel[9600:-9600], 440, 48000)
            assert ratio > 25
            assert amplitude == pytest.approx(0.3, rel=0.05)

    def test_what_it_costs(self) -> None:
        rates = []
        for bitrate in (8000, 24000, 96000):
            packets = OpusEncoder(16000, 1, bitrate).encode(pcm(talk(4, 16000)))
            rates.append(sum(map(len, packets)) * 8 / 4)
            assert rates[-1] < 1.1 * bitrate
        assert rates == sorted(rates)
        assert rates[0] < rates[2] / 3

    @pytest.mark.parametrize("size", [1, 160, 317, 320, 5000])
    def test_however_it_is_cut(self, size: int) -> None:
        audio = pcm(talk(1, 16000))
        whole, cut = OpusEncoder(16000, 1, 24000), OpusEncoder(16000, 1, 24000)
        packets = [
            p for at in range(0, len(audio), 2 * size) for p in cut.encode(audio[at:][: 2 * size])
        ]
        assert packets == whole.encode(audio)
        assert cut.flush() == whole.flush()
        assert cut.flush() == []

    @pytest.mark.parametrize("packet", [b"", bytes(4000), b"\xff" * 30, b"\x03"])
    def test_what_is_no_packet(self, packet: bytes) -> None:
        with pytest.raises(AudioFormatError, match="Opus: expected"):
            OpusDecoder(1).decode(packet)

    def test_without_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'voicews\[opus\]'"):
            OpusFrameSerializer()

    @pytest.mark.parametrize("bitrate", [1, 5999, 510_001])
    def test_a_bitrate_that_it_has_not(self, bitrate: int) -> None:
        params = WebsocketServerParams(serializer=OpusFrameSerializer(), audio_out_bitrate=bitrate)
        with pytest.raises(ConfigurationError, match=f"audio_out_bitrate 6000 to .*{bitrate}"):
            WebsocketServerTransport(params)


class TestAgreement:
    def test_a_peer_that_offers_nothing_gets_pcm(self) -> None:
        serializer = OpusFrameSerializer()
        frame = OutputAudioRawFrame(bytes(640), 16000)
        for codecs in ([], ["g722"]):
            assert serializer.deserialize(offer(*codecs)) is None
            assert serializer.serialize(frame) == ProtobufFrameSerializer().serialize(frame)

    def test_another_client_offers_anew(self) -> None:
        serializer = agreed()
        frame = OutputAudioRawFrame(bytes(640), 16000)
        assert parse(serializer.serialize(frame)).WhichOneof("frame") == "encoded_audio"
        serializer.connected()
        assert parse(serializer.serialize(frame)).WhichOneof("frame") == "audio"

    def test_a_server_that_knows_no_codecs_leaves_the_offer(self) -> None:
        assert ProtobufFrameSerializer().deserialize(offer("opus")) is None

    def test_messages_that_only_look_like_it(self) -> None:
        serializer = OpusFrameSerializer()
        for message in (
            {"codecs": 1},
            {"label": "x", "type": "codecs", "data": {"audio": ["opus"]}},
        ):
            data = pb.Frame(message=pb.MessageFrame(data=json.dumps(message))).SerializeToString()
            assert serializer.deserialize(data) == InputTransportMessageFrame(message)
        data = pb.Frame(message=pb.MessageFrame(data="codecs")).SerializeToString()
        with pytest.raises(InvalidMessage, match="JSON object"):
            serializer.deserialize(data)

    def test_nobody_agrees_to_what_was_not_offered(self) -> None:
        serializer = OpusFrameSerializer()
        answer = {"label": "voicews", "type": "codecs", "data": {"audio": "opus"}}
        data = pb.Frame(message=pb.MessageFrame(data=json.dumps(answer))).SerializeToString()
        assert serializer.deserialize(data) is None
        assert parse(serializer.serialize(OutputAudioRawFrame(bytes(640), 16000))).audio.audio


class TestAudio:
    def test_places_and_the_end_of_an_utterance(self) -> None:
        serializer = agreed()
        messages = []
        for n, (size, pts_ms) in enumerate([(240, 0), (240, 15), (480, 30)]):
            audio = OutputAudioRawFrame(bytes(2 * size), 16000, pts=pts_ms * 1_000_000)
            data = serializer.serialize(audio)
            if n == 0:
                assert data is None
            else:
                messages.append(parse(data).encoded_audio)
        assert [len(m.packets) for m in messages] == [1, 2]
        assert [m.pts for m in messages] == [0, 20_000_000]
        # 60 ms were whole packets; what is left is what the encoder still holds.
        assert len(parse(serializer.serialize(MarkFrame("a", 60))).encoded_audio.packets) == 1
        assert serializer.serialize(MarkFrame("b", 0)) is None
        serializer.serialize(OutputAudioRawFrame(bytes(100), 16000))
        assert len(parse(serializer.serialize(MarkFrame("a", 3))).encoded_audio.packets) == 1
        serializer.serialize(OutputAudioRawFrame(bytes(100), 16000))
        assert len(parse(serializer.serialize(EndFrame())).encoded_audio.packets) == 1
        assert serializer.serialize(EndFrame()) is None

    def test_an_interruption_drops_what_waits(self) -> None:
        serializer = agreed()
        serializer.serialize(OutputAudioRawFrame(b"\1\1" * 100, 16000))
        assert parse(serializer.serialize(InterruptionFrame())).HasField("interruption")
        assert serializer.serialize(MarkFrame("a", 0)) is None

    def test_each_destination_is_a_stream(self) -> None:
        serializer = agreed()
        waves = {None: tone(440, 1, 16000, 0.3), "music": tone(1000, 1, 16000, 0.3)}
        messages: dict[str, list[pb.EncodedAudioFrame]] = {"": [], "music": []}
        for at in range(0, 16000, 320):
            for destination, wave in waves.items():
                audio = pcm(wave[at : at + 320])
                frame = OutputAudioRawFrame(audio, 16000, transport_destination=destination)
                message = parse(serializer.serialize(frame)).encoded_audio
                messages[message.destination].append(message)
        for name, hz in (("", 440), ("music", 1000)):
            heard = samples(decoded(messages[name]))
            assert signal_to_noise(heard[9600:-9600], hz, 48000)[0] > 15

    @pytest.mark.parametrize(
        "audio",
        [
            {"codec": "mp3", "packets": [b"a"]},
            {"codec": "opus", "packets": []},
            {"codec": "opus", "packets": [b"a"] * 51},
            {"codec": "opus", "packets": [b"a"], "num_channels": 3},
            {"codec": "opus", "packets": [b"\xff" * 30]},
        ],
    )
    def test_what_is_no_audio(self, audio: dict[str, Any]) -> None:
        data = pb.Frame(encoded_audio=pb.EncodedAudioFrame(**audio)).SerializeToString()
        with pytest.raises(InvalidMessage, match="expected"):
            OpusFrameSerializer().deserialize(data)


class TestCalls:
    @virtual_time
    async def test_both_ways_between_two_of_our_ends(self) -> None:
        server = Call(serializer=OpusFrameSerializer(), audio_out_bitrate=24000)
        client = OpusFrameSerializer(offers=True)
        client.bitrate = 24000
        server.start()
        hello = client.connected()
        assert hello is not None
        await server.connection.receive(hello)
        [answer] = server.socket.sent
        assert client.deserialize(answer) is None
        # Up: 16 kHz speech in messages of 20 ms.
        voice = pcm(at_level(tone(440, 2, 16000), -15))
        sent = 0
        for at in range(0, len(voice), 640):
            data = client.serialize(OutputAudioRawFrame(voice[at : at + 640], 16000))
            assert data is not None
            sent += len(data)
            await server.connection.receive(data)
        # With the message around each packet, and 256 kbit/s of PCM as a measure.
        assert sent * 8 / 2 < 36_000
        heard = samples(b"".join(f.audio for f in server.tap.down(InputAudioRawFrame)))
        assert len(heard) == pytest.approx(32000, abs=400)
        assert signal_to_noise(heard[3200:-3200], 440, 16000)[0] > 15
        # Down: paced as ever, whole to its end, and known to be heard.
        begun = current_loop().time()
        server.play(pcm(tone(1000, 2, RATE, 0.3)), name="a")
        server.tap.push_frame(OutputTransportMessageFrame({"a": 1}))
        await asyncio.sleep(0.5)
        assert server.socket.times[-1] - begun <= 0.5
        assert len(server.socket.sent) < 25
        await asyncio.sleep(2)
        frames = [client.deserialize(data) for data in server.socket.sent[1:]]
        audio = [frame for frame in frames if isinstance(frame, InputAudioRawFrame)]
        assert {frame.sample_rate for frame in audio} == {48000}
        sound = samples(b"".join(frame.audio for frame in audio))
        assert len(sound) == pytest.approx(2 * 48000, abs=2000)
        assert signal_to_noise(sound[9600:-9600], 1000, 48000)[0] > 15
        assert [frame.pts for frame in audio[:3]] == [0, 40_000_000, 80_000_000]
        assert server.played() == [("a", 2000.0, False)]
        await server.finish()

    @virtual_time
    async def test_the_client_transport_offers_when_it_connects(self) -> None:
        call = Call(serializer=OpusFrameSerializer(offers=True)).start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [hello] = call.socket.sent
        assert OpusFrameSerializer().deserialize(hello) == ProtocolRequestFrame("codecs")
        call.connection.disconnect(1006)
        socket: FakeSocket = call.reconnect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert socket.sent == [hello]
        await call.finish()
