"""From whatever the bot pushes to the format that leaves: rate, channels, packets."""

from __future__ import annotations

from dataclasses import replace

from voicews.audio.joining import SampleJoiner
from voicews.audio.pcm import (
    BYTES_PER_SAMPLE,
    check_sample_rate,
    mix_channels,
)
from voicews.audio.resampling import Resampler
from voicews.frames import OutputAudioRawFrame


class OutputFormat:
    """PCM16LE at `sample_rate` Hz with `num_channels` channels.

    With a `packet_size` it leaves in packets of exactly so many bytes; a rest waits for the next.
    """

    __slots__ = (
        "_input_format",
        "_joiner",
        "_known",
        "_resampler",
        "_rest",
        "num_channels",
        "packet_size",
        "sample_rate",
    )

    def __init__(self, sample_rate: int, num_channels: int, packet_size: int | None) -> None:
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self.packet_size = packet_size
        self._resampler: Resampler | None = None
        self._input_format = (0, 0)
        self._known = (0, 0)
        self._joiner = SampleJoiner()
        self._rest = bytearray()

    @property
    def bytes_per_sec(self) -> int:
        return BYTES_PER_SAMPLE * self.num_channels * self.sample_rate

    def whole(self, frame: OutputAudioRawFrame) -> OutputAudioRawFrame:
        """The frame with whole samples only: a split one is joined with what comes next.

        Raises `AudioFormatError` for what can't be converted.
        """
        if (frame.sample_rate, frame.num_channels) != self._known:
            check_sample_rate(frame.sample_rate)
            mix_channels(b"", frame.num_channels, self.num_channels)
            self._known = (frame.sample_rate, frame.num_channels)
        if self._joiner or len(frame.audio) % (BYTES_PER_SAMPLE * frame.num_channels):
            pcm = self._joiner.join(frame.audio, frame.sample_rate, frame.num_channels)
            return replace(frame, audio=pcm)
        return frame

    def end_stream(self) -> None:
        """What is pushed next begins with a whole sample."""
        self._joiner.clear()

    def convert(self, pcm: bytes, rate: int, channels: int) -> bytes:
        """The next chunk of a stream in another format; what is held back comes with `tail`."""
        if channels != self.num_channels:
            pcm = mix_channels(pcm, channels, self.num_channels)
        if rate != self.sample_rate:
            if self._resampler is None or self._input_format != (rate, self.num_channels):
                self._resampler = Resampler(rate, self.sample_rate, self.num_channels)
                self._input_format = (rate, self.num_channels)
            pcm = self._resampler.process(pcm)
        return pcm

    def tail(self) -> bytes:
        """What the conversion still held back at the end of an utterance."""
        return self._resampler.flush() if self._resampler is not None else b""

    def packets(self, pcm: bytes) -> list[bytes]:
        """The packets that this fills."""
        size = self.packet_size
        if size is None:
            return [pcm] if pcm else []
        self._rest += pcm
        whole = len(self._rest) - len(self._rest) % size
        packets = [bytes(self._rest[start : start + size]) for start in range(0, whole, size)]
        del self._rest[:whole]
        return packets

    def padding(self) -> bytes:
        """The silence that fills up the last packet."""
        if not self._rest or self.packet_size is None:
            return b""
        return bytes(self.packet_size - len(self._rest))

    def reset(self) -> None:
        """Forget the stream."""
        self._joiner.clear()
        self._rest.clear()
        if self._resampler is not None:
            self._resampler.reset()
