"""Opus (RFC 6716), as an extra: audio for thin links. Packets of 20 ms."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16
from voicews.audio.resampling import Resampler
from voicews.exceptions import AudioFormatError, ConfigurationError

__all__ = ["DECODED_RATE", "OPUS_RATES", "OpusDecoder", "OpusEncoder", "check_opus"]

#: The rates (Hz) that Opus takes; all else is converted to the last one.
OPUS_RATES: Final = (8000, 12000, 16000, 24000, 48000)
#: What its decoder gives.
DECODED_RATE: Final = 48000
MIN_BITRATE, MAX_BITRATE = 6000, 510_000
_PACKETS_PER_SEC: Final = 50
#: So much later (seconds) than it went in a sample comes out of the encoder.
_LOOKAHEAD_SECS: Final = 0.0065
#: The longest packet of the format (bytes), and packets are no longer than that.
_MAX_PACKET_BYTES: Final = 3 * 1275 + 7


def check_opus() -> None:
    """Raise `ConfigurationError` where the package is missing."""
    _package()


def _package() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise ConfigurationError(
            "Opus needs a package that is not installed: pip install 'voicews[opus]'"
        ) from None


class OpusEncoder:
    """Compresses one stream of PCM16LE; takes 0.25 ms for 20 ms of audio."""

    def __init__(self, sample_rate: int, num_channels: int, bitrate: int) -> None:
        if not MIN_BITRATE <= bitrate <= MAX_BITRATE:
            raise ConfigurationError(
                f"bitrate of Opus: expected {MIN_BITRATE} to {MAX_BITRATE}, found {bitrate}"
            )
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self._bitrate = bitrate
        self._rate = sample_rate if sample_rate in OPUS_RATES else OPUS_RATES[-1]
        self._resampler = Resampler(sample_rate, self._rate, num_channels)
        self._samples = self._rate // _PACKETS_PER_SEC
        self._packet_bytes = self._samples * BYTES_PER_SAMPLE * num_channels
        self.reset()

    @property
    def held_secs(self) -> float:
        """How much audio waits for more, to fill a packet."""
        return len(self._pending) / (BYTES_PER_SAMPLE * self.num_channels * self._rate)

    def reset(self) -> None:
        """Forget the stream."""
        self._resampler.reset()
        self._pending = b""
        self._in_stream = False
        self._layout = "mono" if self.num_channels == 1 else "stereo"
        self._av = _package()
        codec = self._av.CodecContext.create("libopus", "w")
        codec.sample_rate = self._rate
        codec.layout = self._layout
        codec.format = "s16"
        codec.bit_rate = self._bitrate
        codec.options = {"application": "voip", "frame_duration": "20", "vbr": "constrained"}
        self._codec = codec

    def encode(self, pcm: bytes) -> list[bytes]:
        """The packets that this fills."""
        self._in_stream = True
        pending = self._pending + self._resampler.process(pcm)
        size = self._packet_bytes
        used = len(pending) // size * size
        self._pending = pending[used:]
        return [self._encode(pending[at : at + size]) for at in range(0, used, size)]

    def flush(self) -> list[bytes]:
        """The rest, with silence after it to fill a packet; then as new."""
        if not self._in_stream:
            return []
        self._in_stream = False
        lookahead = round(_LOOKAHEAD_SECS * self._rate) * BYTES_PER_SAMPLE * self.num_channels
        rest = self._pending + self._resampler.flush() + bytes(lookahead)
        rest += bytes(-len(rest) % self._packet_bytes)
        size = self._packet_bytes
        packets = [self._encode(rest[at : at + size]) for at in range(0, len(rest), size)]
        self._pending = b""
        return packets

    def _encode(self, pcm: bytes) -> bytes:
        samples = np.frombuffer(pcm, INT16).reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(samples, format="s16", layout=self._layout)
        frame.sample_rate = self._rate
        return b"".join(map(bytes, self._codec.encode(frame)))


class OpusDecoder:
    """Turns the packets of one stream into PCM16LE of 48 kHz."""

    def __init__(self, num_channels: int) -> None:
        self.num_channels = num_channels
        self._av = _package()
        self._codec = self._av.CodecContext.create("libopus", "r")
        self._codec.sample_rate = DECODED_RATE
        self._codec.layout = "mono" if num_channels == 1 else "stereo"

    def decode(self, packet: bytes) -> bytes:
        """The PCM of one packet; raises `AudioFormatError` for what is none."""
        if not 0 < len(packet) <= _MAX_PACKET_BYTES:
            raise AudioFormatError(
                f"Opus: expected packets of 1 to {_MAX_PACKET_BYTES} bytes, found {len(packet)}"
            )
        try:
            frames = self._codec.decode(self._av.Packet(packet))
        except self._av.FFmpegError:
            raise AudioFormatError(f"Opus: expected a packet in {len(packet)} bytes") from None
        return b"".join(frame.to_ndarray().astype(INT16, copy=False).tobytes() for frame in frames)
