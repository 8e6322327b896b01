"""The wire of Pipecat's protobuf clients, and what voicews adds to it.

Additions, which other clients ignore: `pts` on outgoing audio, audio and interruptions for one of
the `audio_out_destinations`, and JSON messages with the label
`voicews`: `ping` and `pong` as signs of life, `playback` as the client's report of what it has
really played.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from voicews.audio.pcm import BYTES_PER_SAMPLE
from voicews.audio.wav import is_wav
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    Frame,
    ImagePieceFrame,
    ImagePieceReceivedFrame,
    ImageRefusedFrame,
    ImageRequestFrame,
    InputAudioRawFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTranscriptionFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    PingFrame,
    PlaybackPositionFrame,
    PongFrame,
    TextFrame,
    TranscriptionFrame,
)
from voicews.serializers import frames_pb2 as pb
from voicews.serializers.base import FrameSerializer
from voicews.texts import encodable

EXTENSION_LABEL = "voicews"
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 8

_parse = pb.Frame.FromString


class ProtobufFrameSerializer(FrameSerializer):
    """Every message is binary and holds one `Frame` of `frames.proto`."""

    carries_destinations = True
    carries_pictures = True

    def serialize(self, frame: Frame) -> str | bytes | None:
        encode = _ENCODERS.get(type(frame))
        return None if encode is None else encode(frame).SerializeToString()

    def deserialize(self, data: str | bytes) -> Frame | None:
        if isinstance(data, str):
            raise InvalidMessage("expected a binary message, found text")
        try:
            message = _parse(data)
        except DecodeError:
            raise InvalidMessage(f"expected a protobuf Frame in {len(data)} bytes") from None
        kind = message.WhichOneof("frame")
        if kind is None:
            raise InvalidMessage("expected a frame that this version knows, found none")
        return self._decode(kind, getattr(message, kind))

    def _decode(self, kind: str, message: Any) -> Frame | None:
        decode = _DECODERS.get(kind)
        return None if decode is None else decode(message)


def _encode_audio(frame: OutputAudioRawFrame) -> pb.Frame:
    # Field by field: keyword arguments to a generated class cost twice as much.
    message = pb.Frame()
    if frame.transport_destination is None:
        audio = message.audio
    else:
        audio = message.destination_audio
        audio.destination = frame.transport_destination
    audio.name = "audio"
    audio.audio = frame.audio
    audio.sample_rate = frame.sample_rate
    audio.num_channels = frame.num_channels
    if frame.pts is not None:
        audio.pts = frame.pts
    return message


def _encode_text(frame: TextFrame) -> pb.Frame:
    return pb.Frame(text=pb.TextFrame(name="text", text=encodable(frame.text)))


def _encode_transcription(frame: TranscriptionFrame | OutputTranscriptionFrame) -> pb.Frame:
    return pb.Frame(
        transcription=pb.TranscriptionFrame(
            name="transcription",
            text=encodable(frame.text),
            user_id=encodable(frame.user_id),
            timestamp=encodable(frame.timestamp),
        )
    )


def _encode_json(message: dict[str, Any]) -> pb.Frame:
    # NaN and Infinity are no JSON: a browser would not take the message.
    return pb.Frame(message=pb.MessageFrame(data=json.dumps(message, allow_nan=False)))


def _encode_message(
    frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame,
) -> pb.Frame:
    return _encode_json(frame.message)


def _encode_pong(frame: PongFrame) -> pb.Frame:
    return _encode_json(pong_message(frame))


def pong_message(frame: PongFrame) -> dict[str, Any]:
    """The answer to a ping, as JSON."""
    return {"label": EXTENSION_LABEL, "type": "pong", "id": frame.id, "data": {}}


def _encode_interruption(frame: InterruptionFrame) -> pb.Frame:
    if frame.transport_destination is not None:
        return pb.Frame(
            destination_interruption=pb.InterruptionFrame(
                name="interruption", destination=frame.transport_destination
            )
        )
    return pb.Frame(interruption=pb.InterruptionFrame(name="interruption"))


def _encode_image(frame: ImagePieceFrame) -> pb.Frame:
    message = pb.Frame()
    image = message.image
    image.id = frame.id
    image.name = frame.name
    image.image = frame.piece
    image.width, image.height = frame.size
    image.format = frame.format
    image.offset = frame.offset
    image.total = frame.total
    image.request = frame.request
    if frame.pts is not None:
        image.pts = frame.pts
    return message


def _encode_image_received(frame: ImagePieceReceivedFrame) -> pb.Frame:
    data = {"id": frame.id, "name": frame.name, "bytes": frame.num_bytes}
    return _encode_json({"label": EXTENSION_LABEL, "type": "image-received", "data": data})


def _encode_image_request(frame: ImageRequestFrame) -> pb.Frame:
    data = {"id": frame.id, "source": frame.source}
    return _encode_json({"label": EXTENSION_LABEL, "type": "image-request", "data": data})


def _encode_image_refused(frame: ImageRefusedFrame) -> pb.Frame:
    data = {"id": frame.id, "reason": frame.reason}
    return _encode_json({"label": EXTENSION_LABEL, "type": "image-refused", "data": data})


def _decode_audio(audio: pb.AudioRawFrame) -> Frame:
    pcm = audio.audio
    rate = audio.sample_rate
    channels = audio.num_channels or 1
    if not 0 < rate <= MAX_SAMPLE_RATE:
        raise InvalidMessage(f"expected a sample rate of 1 to {MAX_SAMPLE_RATE} Hz, found {rate}")
    if channels > MAX_CHANNELS:
        raise InvalidMessage(f"expected at most {MAX_CHANNELS} channels, found {channels}")
    if len(pcm) % (BYTES_PER_SAMPLE * channels) and not is_wav(pcm):
        raise InvalidMessage(
            f"expected whole 16-bit samples of {channels} channel(s), found {len(pcm)} bytes"
        )
    return InputAudioRawFrame(pcm, rate, channels, audio.pts if audio.HasField("pts") else None)


def _decode_image(image: pb.ImageRawFrame) -> Frame:
    piece = image.image
    return ImagePieceFrame(
        image.id,
        image.name,
        piece,
        image.offset,
        image.total or len(piece),
        (image.width, image.height),
        image.format.upper(),
        image.pts if image.HasField("pts") else None,
        image.request,
    )


def _decode_text(text: pb.TextFrame) -> Frame:
    return InputTextFrame(text.text)


def _decode_transcription(transcription: pb.TranscriptionFrame) -> Frame:
    return TranscriptionFrame(
        transcription.text, transcription.user_id, transcription.timestamp, final=True
    )


def _decode_interruption(_interruption: pb.InterruptionFrame) -> Frame:
    return InterruptionFrame()


def _not_json(constant: str) -> NoReturn:
    """NaN and the infinities, which Python's reader would take."""
    raise ValueError(f"{constant} is no JSON")


def _decode_message(wrapped: pb.MessageFrame) -> Frame | None:
    try:
        message = json.loads(wrapped.data, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise InvalidMessage("expected a JSON object in a message frame") from None
    if not isinstance(message, dict):
        raise InvalidMessage(f"expected a JSON object, found {type(message).__name__}")
    if message.get("label") == EXTENSION_LABEL:
        return decode_extension(message)
    return InputTransportMessageFrame(message)


def decode_extension(message: dict[str, Any]) -> Frame | None:
    """The frame in a message with our label; None if this version doesn't know it."""
    kind = message.get("type")
    if kind == "ping":
        return PingFrame(str(message.get("id", ""))[:64])
    if kind == "playback":
        data = message.get("data")
        pts = data.get("pts") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(pts, int | float) or not 0 <= pts < 2**63:
            raise InvalidMessage("expected data.pts in nanoseconds in a playback report")
        return PlaybackPositionFrame(int(pts), str(data.get("state", "playing"))[:16])
    if kind in ("image-received", "image-request", "image-refused"):
        return _decode_image_message(kind, message.get("data"))
    return None


def _decode_image_message(kind: str, data: object) -> Frame:
    image_id = data.get("id") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(image_id, int) or not 0 <= image_id < 2**63:
        raise InvalidMessage(f"expected data.id, a number, in {kind}")
    if kind == "image-request":
        return ImageRequestFrame(image_id, str(data.get("source", "camera"))[:64])
    if kind == "image-refused":
        return ImageRefusedFrame(image_id, str(data.get("reason", ""))[:200])
    num_bytes = data.get("bytes")
    if not isinstance(num_bytes, int) or num_bytes < 0:
        raise InvalidMessage("expected data.bytes, a number, in image-received")
    return ImagePieceReceivedFrame(image_id, str(data.get("name", ""))[:64], num_bytes)


_ENCODERS: dict[type[Frame], Callable[[Any], pb.Frame]] = {
    OutputAudioRawFrame: _encode_audio,
    TextFrame: _encode_text,
    TranscriptionFrame: _encode_transcription,
    OutputTranscriptionFrame: _encode_transcription,
    OutputTransportMessageFrame: _encode_message,
    OutputTransportMessageUrgentFrame: _encode_message,
    PongFrame: _encode_pong,
    InterruptionFrame: _encode_interruption,
    ImagePieceFrame: _encode_image,
    ImagePieceReceivedFrame: _encode_image_received,
    ImageRequestFrame: _encode_image_request,
    ImageRefusedFrame: _encode_image_refused,
}

_DECODERS: dict[str, Callable[[Any], Frame | None]] = {
    "audio": _decode_audio,
    "text": _decode_text,
    "transcription": _decode_transcription,
    "message": _decode_message,
    "interruption": _decode_interruption,
    "image": _decode_image,
}
