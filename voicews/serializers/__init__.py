"""Serializers turn one WebSocket message into one frame and back: pure, no I/O, no Django."""

from voicews.serializers.base import FrameSerializer
from voicews.serializers.opus import OpusFrameSerializer
from voicews.serializers.pcm import PCMSerializer
from voicews.serializers.protobuf import ProtobufFrameSerializer

__all__ = ["FrameSerializer", "OpusFrameSerializer", "PCMSerializer", "ProtobufFrameSerializer"]
