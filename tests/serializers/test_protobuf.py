from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes import ramp
from voicews.audio.wav import wrap_wav
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    BotOutputFrame,
    Frame,
    ImagePieceFrame,
    ImagePieceReceivedFrame,
    ImageRefusedFrame,
    ImageRequestFrame,
    InputAudioRawFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    PingFrame,
    PlaybackPositionFrame,
    PongFrame,
    TextFrame,
    TranscriptionFrame,
)
from voicews.serializers import ProtobufFrameSerializer
from voicews.serializers import frames_pb2 as pb

# Recorded between Pipecat 1.14 and its browser client; the PCM in between is ours.
CLIENT_AUDIO = (b"\x12\x8f\x04\x12\x05audio\x1a\x80\x04", b"\x20\x80\x7d\x28\x01")
CLIENT_MESSAGE = (
    b'"g\ne{"label":"rtvi-ai","type":"client-message",'
    b'"data":{"t":"echo","d":{"hello":"world"}},"id":"4cc581a5"}'
)
CLIENT_DISCONNECT = b'"G\nE{"label":"rtvi-ai","type":"disconnect-bot","data":{},"id":"ab625c82"}'
SERVER_RESPONSE = (
    b'"}\n{{"label": "rtvi-ai", "type": "server-response", "id": "4cc581a5", '
    b'"data": {"t": "echo", "d": {"echo": {"hello": "world"}}}}'
)
SERVER_BOT_INTERRUPTED = b'"1\n/{"label": "rtvi-ai", "type": "bot-interrupted"}'
SERVER_INTERRUPTION = b"*\x18\x08\xac\t\x12\x13InterruptionFrame#0"

SECRET = "hunter2"

serializer = ProtobufFrameSerializer()


def encode(frame: Frame) -> pb.Frame:
    data = serializer.serialize(frame)
    assert isinstance(data, bytes)
    return pb.Frame.FromString(data)


def decode(frame: pb.Frame) -> Frame | None:
    return serializer.deserialize(frame.SerializeToString())


def message(data: Any) -> pb.Frame:
    text = data if isinstance(data, str) else json.dumps(data)
    return pb.Frame(message=pb.MessageFrame(data=text))


def audio(pcm: bytes, rate: int = 16000, channels: int = 1) -> pb.Frame:
    frame = pb.AudioRawFrame(audio=pcm, sample_rate=rate, num_channels=channels)
    return pb.Frame(audio=frame)


class TestRecorded:
    def test_audio_of_the_browser_client(self) -> None:
        pcm = ramp(256)
        frame = serializer.deserialize(pcm.join(CLIENT_AUDIO))
        assert frame == InputAudioRawFrame(pcm, 16000, 1, None)

    def test_message_of_the_browser_client(self) -> None:
        assert serializer.deserialize(CLIENT_MESSAGE) == InputTransportMessageFrame(
            {
                "label": "rtvi-ai",
                "type": "client-message",
                "data": {"t": "echo", "d": {"hello": "world"}},
                "id": "4cc581a5",
            }
        )

    def test_message_without_data(self) -> None:
        frame = serializer.deserialize(CLIENT_DISCONNECT)
        assert isinstance(frame, InputTransportMessageFrame)
        assert frame.message["type"] == "disconnect-bot"

    @pytest.mark.parametrize("recorded", [SERVER_RESPONSE, SERVER_BOT_INTERRUPTED])
    def test_messages_of_the_server_are_ours_to_the_byte(self, recorded: bytes) -> None:
        text = pb.Frame.FromString(recorded).message.data
        frame = OutputTransportMessageUrgentFrame(json.loads(text))
        assert serializer.serialize(frame) == recorded

    def test_interruption_of_the_server(self) -> None:
        assert serializer.deserialize(SERVER_INTERRUPTION) == InterruptionFrame()
        # The same field, which is all that clients look at.
        assert encode(InterruptionFrame()).WhichOneof("frame") == "interruption"


class TestSerialize:
    @pytest.mark.parametrize("pts", [0, 1, 2**63])
    def test_audio(self, pts: int) -> None:
        sent = encode(OutputAudioRawFrame(b"\x01\x02\x03\x04", 24000, 2, pts)).audio
        assert (sent.name, sent.audio) == ("audio", b"\x01\x02\x03\x04")
        assert (sent.sample_rate, sent.num_channels) == (24000, 2)
        assert sent.HasField("pts")
        assert sent.pts == pts

    def test_audio_without_position(self) -> None:
        assert not encode(OutputAudioRawFrame(b"", 24000)).audio.HasField("pts")

    def test_text_and_transcription(self) -> None:
        assert encode(TextFrame("grüß")).text.text == "grüß"
        sent = encode(TranscriptionFrame("hi", "u1", "2026-01-01T00:00:00Z")).transcription
        assert (sent.text, sent.user_id, sent.timestamp) == ("hi", "u1", "2026-01-01T00:00:00Z")

    @pytest.mark.parametrize(
        "kind", [OutputTransportMessageFrame, OutputTransportMessageUrgentFrame]
    )
    def test_messages(self, kind: Any) -> None:
        assert json.loads(encode(kind({"a": [1, None, "ü"]})).message.data) == {"a": [1, None, "ü"]}

    def test_pong(self) -> None:
        assert json.loads(encode(PongFrame("7")).message.data) == {
            "label": "voicews",
            "type": "pong",
            "id": "7",
            "data": {},
        }

    @pytest.mark.parametrize("frame", [MarkFrame("1", 20.0), BotOutputFrame("hi"), PingFrame("1")])
    def test_what_the_wire_has_no_message_for(self, frame: Frame) -> None:
        assert serializer.serialize(frame) is None


class TestDeserialize:
    @pytest.mark.parametrize("pts", [None, 0, 5, 2**64 - 1])
    def test_audio(self, pts: int | None) -> None:
        wire = audio(b"\x01\x02\x03\x04", 44100, 2)
        if pts is not None:
            wire.audio.pts = pts
        assert decode(wire) == InputAudioRawFrame(b"\x01\x02\x03\x04", 44100, 2, pts)

    def test_audio_without_channels_is_mono(self) -> None:
        assert decode(audio(b"\x01\x02", channels=0)) == InputAudioRawFrame(b"\x01\x02", 16000, 1)

    def test_text_and_transcription(self) -> None:
        assert decode(pb.Frame(text=pb.TextFrame(text="hi"))) == InputTextFrame("hi")
        wire = pb.TranscriptionFrame(text="hi", user_id="u1", timestamp="now")
        assert decode(pb.Frame(transcription=wire)) == TranscriptionFrame("hi", "u1", "now")

    def test_a_whole_image_and_a_piece_of_one(self) -> None:
        whole = pb.ImageRawFrame(id=3, name="camera", image=b"xy", width=4, height=2, format="jpeg")
        assert decode(pb.Frame(image=whole)) == ImagePieceFrame(
            3, "camera", b"xy", 0, 2, (4, 2), "JPEG"
        )
        piece = ImagePieceFrame(3, "screen", b"y", 1, 2, (4, 2), "PNG", pts=7, request=9)
        assert decode(encode(piece)) == piece

    def test_what_is_said_about_images(self) -> None:
        for frame in (
            ImagePieceReceivedFrame(1, "camera", 1024),
            ImageRequestFrame(5, "screen"),
            ImageRefusedFrame(5, "the camera is off"),
        ):
            assert decode(encode(frame)) == frame

    @pytest.mark.parametrize("data", [None, {}, {"id": -1}, {"id": "1"}, {"id": 1, "bytes": -1}])
    def test_what_is_said_about_no_image(self, data: object) -> None:
        message = {"label": "voicews", "type": "image-received", "data": data}
        with pytest.raises(InvalidMessage):
            decode(pb.Frame(message=pb.MessageFrame(data=json.dumps(message))))

    def test_a_file_of_odd_length_may_be_a_wav_file(self) -> None:
        wav = wrap_wav(b"\x01\x02", 16000) + b"x"
        assert decode(audio(wav)) == InputAudioRawFrame(wav, 16000, 1)

    @pytest.mark.parametrize(
        ("wire", "error"),
        [
            (audio(b"", 0), "expected a sample rate of 1 to 192000 Hz, found 0"),
            (audio(b"", 192_001), "expected a sample rate of 1 to 192000 Hz, found 192001"),
            (audio(b"", 2**32 - 1), "expected a sample rate of 1 to 192000 Hz, found 4294967295"),
            (audio(b"", channels=9), "expected at most 8 channels, found 9"),
            (audio(b"", channels=2**32 - 1), "expected at most 8 channels, found 4294967295"),
            (audio(b"abc"), "expected whole 16-bit samples of 1 channel(s), found 3 bytes"),
            (
                audio(b"abcdef", channels=2),
                "expected whole 16-bit samples of 2 channel(s), found 6 bytes",
            ),
            (
                # A chunk of noise that begins like a WAV file, and is none.
                audio(b"RIFFabc"),
                "expected whole 16-bit samples of 1 channel(s), found 7 bytes",
            ),
            (message(SECRET), "expected a JSON object in a message frame"),
            (message('{"a": NaN}'), "expected a JSON object in a message frame"),
            (message('{"a": [-Infinity]}'), "expected a JSON object in a message frame"),
            (message(f'"{SECRET}"'), "expected a JSON object, found str"),
            (message("null"), "expected a JSON object, found NoneType"),
            (message("[" * 200_000), "expected a JSON object in a message frame"),
            (message('{"a":' * 200_000), "expected a JSON object in a message frame"),
            (message("9" * 5000), "expected a JSON object in a message frame"),
            (pb.Frame(), "expected a frame that this version knows, found none"),
        ],
    )
    def test_what_is_wrong_is_said(self, wire: pb.Frame, error: str) -> None:
        with pytest.raises(InvalidMessage) as raised:
            decode(wire)
        assert str(raised.value) == error

    def test_text_message(self) -> None:
        with pytest.raises(InvalidMessage, match="^expected a binary message, found text$"):
            serializer.deserialize(SECRET)

    def test_no_protobuf(self) -> None:
        with pytest.raises(InvalidMessage, match="^expected a protobuf Frame in 7 bytes$") as error:
            serializer.deserialize(SECRET.encode())
        # Nor does a log line with the traceback show what was in the message.
        assert error.value.__suppress_context__

    def test_a_field_that_a_later_version_may_have(self) -> None:
        with pytest.raises(InvalidMessage, match="this version"):
            serializer.deserialize(b"\xba\x06\x02\x08\x01")


class TestExtension:
    def test_ping(self) -> None:
        assert decode(message({"label": "voicews", "type": "ping", "id": "7"})) == PingFrame("7")

    @pytest.mark.parametrize("id_", ["x" * 100_000, 7, None, ["a"], {"a": 1}])
    def test_ids_are_echoed_cut_short(self, id_: Any) -> None:
        frame = decode(message({"label": "voicews", "type": "ping", "id": id_}))
        assert isinstance(frame, PingFrame)
        assert len(frame.id) <= 64

    @pytest.mark.parametrize("state", ["playing", "idle", "flushed"])
    def test_playback(self, state: str) -> None:
        data = {"pts": 5, "state": state, "buffered_ms": 3}
        frame = decode(message({"label": "voicews", "type": "playback", "data": data}))
        assert frame == PlaybackPositionFrame(5, state)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            "x",
            {},
            {"pts": -1},
            {"pts": 2**63},
            {"pts": "1"},
        ],
    )
    def test_playback_without_a_position(self, data: Any) -> None:
        with pytest.raises(InvalidMessage) as error:
            decode(message({"label": "voicews", "type": "playback", "data": data}))
        assert str(error.value) == "expected data.pts in nanoseconds in a playback report"

    @pytest.mark.parametrize("kind", ["later", None, 7, []])
    def test_what_a_later_client_may_say(self, kind: Any) -> None:
        assert decode(message({"label": "voicews", "type": kind})) is None

    @pytest.mark.parametrize("label", ["rtvi-ai", "mine", None, 7, []])
    def test_other_labels_are_messages(self, label: Any) -> None:
        data = {"label": label, "type": "ping"}
        assert decode(message(data)) == InputTransportMessageFrame(data)

    @pytest.mark.parametrize("depth", [100, 300, 900, 960, 990, 5000])
    @pytest.mark.parametrize("key", ["id", "data", "type"])
    def test_deep_nesting_anywhere(self, key: str, depth: int) -> None:
        for kind in ("ping", "playback"):
            fields = {"label": '"voicews"', "type": f'"{kind}"', "data": '{"pts":1,"state":"idle"}'}
            fields[key] = "[" * depth + "]" * depth
            text = ",".join(f'"{name}":{value}' for name, value in fields.items())
            assert_refused_or_taken(message(f"{{{text}}}").SerializeToString())

    @pytest.mark.parametrize("depth", [900, 960, 990])
    def test_deep_nesting_in_a_state(self, depth: int) -> None:
        state = "[" * depth + "]" * depth
        text = f'{{"label":"voicews","type":"playback","data":{{"pts":1,"state":{state}}}}}'
        assert_refused_or_taken(message(text).SerializeToString())


def assert_refused_or_taken(data: bytes | str) -> None:
    try:
        frame = serializer.deserialize(data)
    except InvalidMessage as error:
        text = str(error)
        assert text.startswith("expected ")
        assert len(text) < 120
        assert SECRET not in text
    else:
        assert frame is None or isinstance(frame, Frame)


def _wire(*parts: Any) -> Any:
    return st.builds(lambda frame: frame.SerializeToString(), st.one_of(*parts))


uint32 = st.integers(0, 2**32 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)
extension_messages = st.fixed_dictionaries(
    {"label": st.just("voicews"), "type": st.sampled_from(["ping", "playback"]) | json_values},
    optional={"id": json_values, "data": json_values},
)
wire_frames = _wire(
    st.builds(audio, st.binary(max_size=9) | st.just(b"RIFF\0\0\0\0WAVEx"), uint32, uint32),
    st.builds(audio, st.binary(max_size=9), st.just(16000), st.integers(0, 9)),
    st.builds(message, json_values),
    st.builds(message, extension_messages),
    st.builds(lambda text: message(SECRET + text), st.text()),
    st.builds(lambda text: pb.Frame(text=pb.TextFrame(text=text)), st.text(max_size=9)),
)


class TestFuzz:
    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"\x22\x03\x0a\x01\xff")
    def test_any_bytes(self, data: bytes) -> None:
        assert_refused_or_taken(data)

    @given(st.text(max_size=50))
    def test_any_text(self, data: str) -> None:
        assert_refused_or_taken(data)

    @given(wire_frames)
    def test_any_field(self, data: bytes) -> None:
        assert_refused_or_taken(data)

    @given(wire_frames, st.data())
    def test_any_truncation(self, data: bytes, draw: st.DataObject) -> None:
        assert_refused_or_taken(data[: draw.draw(st.integers(0, len(data)))])

    @given(wire_frames, st.data())
    def test_any_damage(self, data: bytes, draw: st.DataObject) -> None:
        if data:
            at = draw.draw(st.integers(0, len(data) - 1))
            damaged = bytes([draw.draw(st.integers(0, 255))])
            assert_refused_or_taken(data[:at] + damaged + data[at + 1 :])

    @given(
        st.binary(max_size=40).map(lambda pcm: pcm[: len(pcm) // 4 * 4]),
        st.integers(1, 192_000),
        st.sampled_from([1, 2]),
        st.none() | st.integers(0, 2**64 - 1),
    )
    def test_audio_there_and_back(
        self, pcm: bytes, rate: int, channels: int, pts: int | None
    ) -> None:
        data = serializer.serialize(OutputAudioRawFrame(pcm, rate, channels, pts))
        assert isinstance(data, bytes)
        assert serializer.deserialize(data) == InputAudioRawFrame(pcm, rate, channels, pts)

    @given(json_values.filter(lambda value: isinstance(value, dict)))
    def test_messages_there_and_back(self, data: Any) -> None:
        # Neither NaN nor an infinity is JSON.
        text = json.dumps(data).replace("NaN", "0").replace("Infinity", "0")
        data = json.loads(text)
        data["label"] = "mine"
        wire = serializer.serialize(OutputTransportMessageFrame(data))
        assert wire is not None
        assert serializer.deserialize(wire) == InputTransportMessageFrame(data)


def test_half_a_character_costs_no_text() -> None:
    frame = TranscriptionFrame("half \ud83d, whole \ud83d\ude00", "u\udc00", "now")
    data = ProtobufFrameSerializer().serialize(frame)
    assert isinstance(data, bytes)
    said = pb.Frame.FromString(data).transcription
    assert (said.text, said.user_id) == ("half \ufffd, whole 😀", "u\ufffd")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_no_browser_reads_is_not_sent(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ProtobufFrameSerializer().serialize(OutputTransportMessageFrame({"data": number}))


def test_the_message_class_is_not_pipecats() -> None:
    # Both packages' generated code can live in one process only under different names.
    assert issubclass(pb.Frame, Message)
    assert pb.Frame.DESCRIPTOR.full_name == "voicews.Frame"
