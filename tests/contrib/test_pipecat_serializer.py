"""Pipecat's serializers as ours."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any, disable-error-code=import-untyped

import asyncio
import json
from typing import Any

import pytest
from pipecat.frames import frames as pipecat
from pipecat.frames.protobufs import frames_pb2 as pipecat_pb
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

from voicews import frames as ours
from voicews.contrib.pipecat import PipecatSerializer
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.serializers import ProtobufFrameSerializer as OurProtobuf
from voicews.serializers import frames_pb2 as our_pb

PCM = bytes(range(256)) * 5


class Fixed(FrameSerializer):
    """Reads one frame, whatever it is sent."""

    def __init__(self, frame: Any) -> None:
        super().__init__()
        self.frame = frame
        self.rates: tuple[int, int] | None = None

    async def setup(self, setup: Any) -> None:
        self.rates = (setup.audio_in_sample_rate, setup.audio_out_sample_rate)

    async def serialize(self, frame: Any) -> str:
        return type(frame).__name__

    async def deserialize(self, data: str | bytes) -> Any:
        return self.frame


class Slow(FrameSerializer):
    async def serialize(self, frame: Any) -> str:
        await asyncio.sleep(0.01)
        return ""

    async def deserialize(self, data: str | bytes) -> Any:
        await asyncio.sleep(0)


def test_both_generated_modules_live_in_one_process() -> None:
    theirs = pipecat_pb.Frame()
    theirs.audio.audio = PCM
    theirs.audio.sample_rate = 16000
    theirs.audio.num_channels = 1
    theirs.audio.pts = 5
    read = our_pb.Frame.FromString(theirs.SerializeToString())
    assert (read.audio.audio, read.audio.pts) == (PCM, 5)
    assert pipecat_pb.Frame.FromString(read.SerializeToString()) == theirs
    assert our_pb.DESCRIPTOR.package != pipecat_pb.DESCRIPTOR.package


@pytest.mark.parametrize(
    "frame",
    [
        ours.OutputAudioRawFrame(PCM, 24000),
        ours.OutputTransportMessageUrgentFrame({"label": "rtvi-ai", "type": "x"}),
        ours.OutputTransportMessageFrame({"a": [1]}),
        ours.InterruptionFrame(),
        ours.TextFrame("hello"),
        ours.PongFrame("7"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_what_it_writes_is_what_our_own_writes(frame: ours.Frame) -> None:
    written = PipecatSerializer(ProtobufFrameSerializer()).serialize(frame)
    own = OurProtobuf().serialize(frame)
    assert isinstance(written, bytes)
    assert isinstance(own, bytes)
    assert _content(written) == _content(own)


def _content(data: bytes) -> Any:
    frame = our_pb.Frame.FromString(data)
    body = getattr(frame, str(frame.WhichOneof("frame")))
    if frame.HasField("message"):
        return json.loads(body.data)
    for field in ("id", "name"):
        body.ClearField(field)
    return frame


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (pipecat.InputAudioRawFrame(PCM, 8000, 1), ours.InputAudioRawFrame(PCM, 8000)),
        (pipecat.InputDTMFFrame(button=pipecat.KeypadEntry("#")), ours.InputDTMFFrame("#")),
        (pipecat.InterruptionFrame(), ours.InterruptionFrame()),
        (pipecat.TextFrame(text="hi"), ours.InputTextFrame("hi")),
        (
            pipecat.TranscriptionFrame(text="hi", user_id="u", timestamp="t"),
            ours.TranscriptionFrame("hi", "u", "t"),
        ),
        (
            pipecat.InterimTranscriptionFrame(text="hi", user_id="u", timestamp="t"),
            ours.TranscriptionFrame("hi", "u", "t", final=False),
        ),
        (
            pipecat.InputTransportMessageFrame(message={"a": 1}),
            ours.InputTransportMessageFrame({"a": 1}),
        ),
        (
            pipecat.InputTransportMessageFrame(
                message={"label": "voicews", "type": "ping", "id": "7"}
            ),
            ours.PingFrame("7"),
        ),
        (pipecat.EndFrame(), None),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_reads(theirs: Any, expected: ours.Frame | None) -> None:
    assert PipecatSerializer(Fixed(theirs)).deserialize(b"") == expected


@pytest.mark.parametrize(
    "theirs",
    [
        pipecat.InputAudioRawFrame(b"odd", 16000, 1),
        pipecat.InputAudioRawFrame(b"\0\0", 16000, 2),
        pipecat.InputTransportMessageFrame(message=["not", "an", "object"]),
    ],
    ids=["half a sample", "half a frame", "a list"],
)
def test_what_cannot_be_right_is_refused(theirs: Any) -> None:
    with pytest.raises(InvalidMessage, match="expected"):
        PipecatSerializer(Fixed(theirs)).deserialize(b"")


def test_its_errors_are_invalid_messages_without_the_payload() -> None:
    with pytest.raises(InvalidMessage, match="ProtobufFrameSerializer.*DecodeError") as error:
        PipecatSerializer(ProtobufFrameSerializer()).deserialize(b"secret")
    assert "secret" not in str(error.value)


async def test_one_that_waits_is_refused() -> None:
    serializer = PipecatSerializer(Slow())
    with pytest.raises(ConfigurationError, match=r"Slow\.serialize\(\) to answer at once"):
        serializer.serialize(ours.InterruptionFrame())
    with pytest.raises(ConfigurationError, match=r"Slow\.deserialize\(\) to answer at once"):
        serializer.deserialize(b"")


def test_it_is_set_up_with_the_rates() -> None:
    serializer = Fixed(None)
    PipecatSerializer(serializer, audio_in_sample_rate=8000, audio_out_sample_rate=16000)
    assert serializer.rates == (8000, 16000)


def test_what_has_no_word_in_pipecat_is_not_written() -> None:
    assert PipecatSerializer(Fixed(None)).serialize(ours.MarkFrame("1", 20.0)) is None


def test_twilio() -> None:
    params = TwilioFrameSerializer.InputParams(auto_hang_up=False)
    serializer = PipecatSerializer(
        TwilioFrameSerializer("MZ1", params=params), audio_in_sample_rate=8000, sample_rate=8000
    )
    assert serializer.sample_rate == 8000
    media = {"event": "media", "streamSid": "MZ1", "media": {"payload": "/////w=="}}
    heard = serializer.deserialize(json.dumps(media))
    assert heard == ours.InputAudioRawFrame(bytes(8), 8000)
    said = serializer.serialize(ours.OutputAudioRawFrame(bytes(320), 8000))
    assert isinstance(said, str)
    assert json.loads(said)["media"]["payload"].startswith("////")
    clear = serializer.serialize(ours.InterruptionFrame())
    assert clear == '{"event": "clear", "streamSid": "MZ1"}'
