"""A stream of PCM or WAV that comes in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from voicews.audio.formats import LONGEST_MAGIC_BYTES, audio_format, not_pcm
from voicews.audio.pcm import BYTES_PER_SAMPLE, Pcm, check_sample_rate, check_whole_frames
from voicews.audio.wav import is_wav, parse_wav_header

#: Smaller pieces are put together, up to so many seconds.
_MIN_PIECE_SECS: Final = 0.02
#: Fewer bytes than this say nothing about what they are.
_MIN_BYTES: Final = 12
_CONTAINERS: Final = (b"RIFF", b"RF64", b"BW64")


class PcmStream:
    """Takes pieces that may end anywhere, gives whole samples; no byte is lost.

    `sample_rate` (Hz) and `num_channels` are those of bare PCM16LE; a WAV header in the first
    piece, or at the beginning of a later one, says them better. Raises `AudioFormatError` that
    names what came instead, such as MP3.
    """

    def __init__(self, sample_rate: int, num_channels: int = 1) -> None:
        check_sample_rate(sample_rate)
        check_whole_frames(b"", num_channels)
        self.sample_rate = sample_rate
        self.num_channels = num_channels
        self._buffer = bytearray()
        self._is_known = False
        self._frame_bytes = BYTES_PER_SAMPLE * num_channels
        self._convert: Callable[[bytes], bytes] = bytes
        #: How much of the audio is still to come, where a WAV header says so.
        self._left: int | None = None

    def feed(self, piece: bytes) -> list[Pcm]:
        """The whole samples that are there with this piece; none while it can't be told yet what
        they are, or while they are too few.
        """
        before = []
        if self._is_known and is_wav(piece):
            before = self.finish()
            self._buffer.clear()
            self._is_known = False
        self._buffer += piece
        return before + self._take(is_last=False)

    def finish(self) -> list[Pcm]:
        """What is left at the end; a split sample is dropped."""
        return self._take(is_last=True)

    def _take(self, *, is_last: bool) -> list[Pcm]:
        if not self._is_known and not self._recognize(is_last=is_last):
            return []
        size = len(self._buffer)
        if self._left is not None:
            size = min(size, self._left)
            is_last = is_last or size == self._left
        size -= size % self._frame_bytes
        if not size or (size < self._min_bytes and not is_last):
            return []
        audio = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._left is not None:
            self._left -= size
            if self._left < self._frame_bytes:
                self._buffer.clear()  # other chunks, after the audio
        return [Pcm(self._convert(audio), self.sample_rate, self.num_channels)]

    @property
    def _min_bytes(self) -> int:
        return int(_MIN_PIECE_SECS * self.sample_rate) * self._frame_bytes

    def _recognize(self, *, is_last: bool) -> bool:
        """Whether it is clear by now what the data is."""
        data = bytes(self._buffer[: LONGEST_MAGIC_BYTES + 1])
        if not data:
            return False
        if data[:4] in _CONTAINERS or any(name.startswith(data) for name in _CONTAINERS):
            return self._read_header(is_last=is_last)
        name = audio_format(data)
        if name is not None:
            raise not_pcm(name)
        if not is_last and (len(data) < _MIN_BYTES or _may_become_something_else(data)):
            return False
        self._is_known = True
        return True

    def _read_header(self, *, is_last: bool) -> bool:
        header = parse_wav_header(bytes(self._buffer), is_whole=is_last)
        if header is None:
            return False
        check_sample_rate(header.sample_rate)
        self.sample_rate, self.num_channels = header.sample_rate, header.num_channels
        self._frame_bytes, self._convert = header.frame_bytes, header.convert
        self._left = header.size
        del self._buffer[: header.start]
        self._is_known = True
        return True


def _may_become_something_else(data: bytes) -> bool:
    if len(data) < LONGEST_MAGIC_BYTES and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return audio_format(data + bytes(LONGEST_MAGIC_BYTES)) is None
    return False
