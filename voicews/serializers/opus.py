"""Our protobuf wire with Opus for the audio, where the peer has agreed to it."""

from __future__ import annotations

import json
from typing import Any

from voicews.audio.opus import (
    DECODED_RATE,
    MAX_BITRATE,
    MIN_BITRATE,
    OpusDecoder,
    OpusEncoder,
    check_opus,
)
from voicews.audio.wav import is_wav, split_wav
from voicews.exceptions import AudioFormatError, ConfigurationError, InvalidMessage
from voicews.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    MarkFrame,
    OutputAudioRawFrame,
    ProtocolRequestFrame,
)
from voicews.serializers import frames_pb2 as pb
from voicews.serializers.protobuf import EXTENSION_LABEL, ProtobufFrameSerializer

NS_PER_SEC = 1_000_000_000
CODECS_REQUEST = "codecs"
#: Packets of 20 ms in one message.
MAX_PACKETS = 50


class OpusFrameSerializer(ProtobufFrameSerializer):
    """Compresses to the transport's `audio_out_bitrate`; needs the extra `voicews[opus]`.

    A peer that can has to offer it, with the JSON message `codecs` (label `voicews`, `data.audio`
    the list of what it takes); it is answered with `data.audio` as "opus", and from then on both
    sides send their audio so. All others get PCM as ever. `offers` makes it the one that offers:
    for the transport that connects out.
    """

    def __init__(self, *, offers: bool = False) -> None:
        """Raises `ConfigurationError` when the package is missing."""
        check_opus()
        self._offers = offers
        self._encodes = False
        self._encoders: dict[str | None, OpusEncoder] = {}
        self._decoder: OpusDecoder | None = None
        self._bitrate = 96000

    @property
    def bitrate(self) -> int:
        """Bits per second."""
        return self._bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int) -> None:
        if not MIN_BITRATE <= bitrate <= MAX_BITRATE:
            raise ConfigurationError(
                f"expected audio_out_bitrate {MIN_BITRATE} to {MAX_BITRATE}, found {bitrate}"
            )
        self._bitrate = bitrate

    def connected(self) -> str | bytes | None:
        self._encodes = False
        self._encoders.clear()
        self._decoder = None
        return _codecs_message(["opus"]) if self._offers else None

    # --- out -------------------------------------------------------------------------------------

    def serialize(self, frame: Frame) -> str | bytes | None:
        if isinstance(frame, ProtocolRequestFrame) and frame.request == CODECS_REQUEST:
            self._encodes = True
            return _codecs_message("opus")
        if not self._encodes:
            return super().serialize(frame)
        if isinstance(frame, OutputAudioRawFrame):
            return self._serialize_audio(frame)
        if isinstance(frame, MarkFrame):
            return self._flush(frame.transport_destination)
        if isinstance(frame, EndFrame):
            return self._flush(None)
        if isinstance(frame, InterruptionFrame):
            self._encoders.pop(frame.transport_destination, None)
        return super().serialize(frame)

    def _serialize_audio(self, frame: OutputAudioRawFrame) -> bytes | None:
        pcm, destination = frame.audio, frame.transport_destination
        if is_wav(pcm):
            pcm = split_wav(pcm).audio
        encoder = self._encoders.get(destination)
        wanted = (frame.sample_rate, frame.num_channels)
        if encoder is None or (encoder.sample_rate, encoder.num_channels) != wanted:
            encoder = OpusEncoder(*wanted, self._bitrate)
            self._encoders[destination] = encoder
        held_ns = round(encoder.held_secs * NS_PER_SEC)
        packets = encoder.encode(pcm)
        pts = None if frame.pts is None else max(0, frame.pts - held_ns)
        return _audio_message(encoder, packets, pts, destination)

    def _flush(self, destination: str | None) -> bytes | None:
        encoder = self._encoders.get(destination)
        return (
            None if encoder is None else _audio_message(encoder, encoder.flush(), None, destination)
        )

    # --- in --------------------------------------------------------------------------------------

    def _decode(self, kind: str, message: Any) -> Frame | None:
        if kind == "encoded_audio":
            return self._decode_audio(message)
        # Looked into only where it may be ours: most are not.
        if kind == "message" and CODECS_REQUEST in message.data:
            codecs = _parse_codecs(message.data)
            if codecs is not None:
                return self._agree(codecs)
        return super()._decode(kind, message)

    def _decode_audio(self, audio: pb.EncodedAudioFrame) -> Frame:
        if audio.codec != "opus":
            raise InvalidMessage("expected audio in Opus, found another codec")
        channels = audio.num_channels or 1
        if channels > 2 or not 0 < len(audio.packets) <= MAX_PACKETS:
            raise InvalidMessage(
                f"expected 1 or 2 channels and 1 to {MAX_PACKETS} packets, "
                f"found {channels} and {len(audio.packets)}"
            )
        if self._decoder is None or self._decoder.num_channels != channels:
            self._decoder = OpusDecoder(channels)
        try:
            pcm = b"".join(map(self._decoder.decode, audio.packets))
        except AudioFormatError as error:
            raise InvalidMessage(str(error)) from None
        pts = audio.pts if audio.HasField("pts") else None
        return InputAudioRawFrame(pcm, DECODED_RATE, channels, pts)

    def _agree(self, codecs: object) -> Frame | None:
        """Take an offer, a list, or the answer to our own, one of it."""
        if isinstance(codecs, list):
            return ProtocolRequestFrame(CODECS_REQUEST) if "opus" in codecs else None
        if self._offers and codecs == "opus":
            self._encodes = True
        return None


def _parse_codecs(text: str) -> object:
    """What a `codecs` message says of audio; None if it is no such message."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("label") != EXTENSION_LABEL:
        return None
    data = message.get("data")
    if message.get("type") != CODECS_REQUEST or not isinstance(data, dict):
        return None
    return data.get("audio")


def _codecs_message(audio: str | list[str]) -> bytes:
    message = {
        "label": EXTENSION_LABEL,
        "type": CODECS_REQUEST,
        "id": CODECS_REQUEST,
        "data": {"audio": audio},
    }
    return pb.Frame(message=pb.MessageFrame(data=json.dumps(message))).SerializeToString()


def _audio_message(
    encoder: OpusEncoder, packets: list[bytes], pts: int | None, destination: str | None
) -> bytes | None:
    if not packets:
        return None
    message = pb.Frame()
    audio = message.encoded_audio
    audio.codec = "opus"
    audio.packets.extend(packets)
    audio.sample_rate = encoder.sample_rate
    audio.num_channels = encoder.num_channels
    if pts is not None:
        audio.pts = pts
    if destination is not None:
        audio.destination = destination
    return message.SerializeToString()
