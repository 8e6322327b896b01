"""What a transport asks of a serializer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from voicews.frames import Frame, StartFrame


class FrameSerializer(ABC):
    """Turns wire messages into frames and frames into wire messages.

    One serializer serves one connection, so that a protocol that numbers its messages can.

    `setup`, `serialize` and `deserialize` may be coroutine methods: the transport then waits for
    one message after the other, so that they keep their order both ways.
    """

    #: The sample rate (Hz) of audio on the wire, where the protocol fixes one.
    sample_rate: int | None = None
    #: Whether the peer answers a serialized `MarkFrame`, which `deserialize` then turns into a
    #: `MarkPlayedFrame`.
    acknowledges_marks: bool = False
    #: Whether audio for one of the `audio_out_destinations` can be distinguished from other audio.
    carries_destinations: bool = False

    #: Whether it has messages for pictures.
    carries_pictures: bool = False

    #: True: keys are pressed by a message (`OutputDTMFFrame`); else the transport plays tones.
    sends_dtmf: bool = False

    #: Bits per second for one that compresses: the transport's `audio_out_bitrate`.
    bitrate: int = 96000

    def setup(self, frame: StartFrame) -> None:  # noqa: B027 - most have nothing to set up
        """The pipeline starts, at the rates (Hz) in `frame`. Once a call, before any message."""

    def connected(self) -> str | bytes | None:
        """A peer is there, the first or another one; what to send it first, if anything."""
        return None

    @abstractmethod
    def serialize(self, frame: Frame) -> str | bytes | None:
        """The wire message for `frame`; None if this protocol has none for it."""

    @abstractmethod
    def deserialize(self, data: str | bytes) -> Frame | None:
        """The frame in `data`; None if it says nothing to a pipeline.

        Raises `InvalidMessage` with what was expected and found, never with the payload.
        """
