"""Bare PCM in binary messages, JSON objects in text messages."""

from __future__ import annotations

import json

from voicews.audio.pcm import BYTES_PER_SAMPLE
from voicews.exceptions import InvalidMessage
from voicews.frames import (
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from voicews.serializers.base import FrameSerializer


class PCMSerializer(FrameSerializer):
    """For peers that send and take nothing but samples: 16-bit little-endian PCM.

    `sample_rate` (Hz) and `num_channels` hold both ways.
    """

    def __init__(self, sample_rate: int = 16000, num_channels: int = 1) -> None:
        self.sample_rate = sample_rate
        self._rate = sample_rate
        self._num_channels = num_channels

    def serialize(self, frame: Frame) -> str | bytes | None:
        if isinstance(frame, OutputAudioRawFrame):
            return frame.audio
        if isinstance(frame, OutputTransportMessageFrame | OutputTransportMessageUrgentFrame):
            return json.dumps(frame.message)
        return None

    def deserialize(self, data: str | bytes) -> Frame | None:
        if isinstance(data, bytes):
            if len(data) % (BYTES_PER_SAMPLE * self._num_channels):
                raise InvalidMessage(
                    f"expected whole 16-bit samples of {self._num_channels} channel(s), "
                    f"found {len(data)} bytes"
                )
            return InputAudioRawFrame(data, self._rate, self._num_channels)
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            raise InvalidMessage("expected a JSON object in a text message") from None
        if not isinstance(message, dict):
            raise InvalidMessage(f"expected a JSON object, found {type(message).__name__}")
        return InputTransportMessageFrame(message)
