"""What a caller hears: audio as a provider plays it, with the time of each piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from voicews.audio.pcm import BYTES_PER_SAMPLE, INT16

#: Samples up to this are silence: A-law's and mu-law's own, and the noise of a resampler.
SILENCE_LEVEL: Final = 64


@dataclass(slots=True)
class Piece:
    """One piece of audio, mono PCM16LE. Times are in seconds on the monotonic clock."""

    received_at: float
    starts_at: float
    pcm: bytes
    sample_rate: int

    @property
    def ends_at(self) -> float:
        return self.starts_at + len(self.pcm) / (BYTES_PER_SAMPLE * self.sample_rate)

    def sounds(self) -> tuple[float, float] | None:
        """When its first and its last sound is heard; None if it is silent."""
        loud = np.flatnonzero(np.abs(np.frombuffer(self.pcm, INT16).astype(int)) > SILENCE_LEVEL)
        if not loud.size:
            return None
        first, last = int(loud[0]), int(loud[-1])
        return (
            self.starts_at + first / self.sample_rate,
            self.starts_at + (last + 1) / self.sample_rate,
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """The caller heard nothing because nothing had come. Seconds, monotonic."""

    starts_at: float
    ends_at: float

    @property
    def duration_secs(self) -> float:
        return self.ends_at - self.starts_at


class Heard:
    """A provider's play-out buffer, and a record of all that left it.

    A piece is played when the one before it has ended, or at once if nothing plays. Times are in
    seconds on the monotonic clock, `sample_rate` in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.pieces: list[Piece] = []
        #: When everything that has come so far will have been played.
        self.playhead = float("-inf")
        #: What a clear threw away (bytes of PCM).
        self.cleared_bytes = 0

    def add(self, pcm: bytes, now: float) -> Piece:
        """Take audio that came at `now`."""
        piece = Piece(now, max(now, self.playhead), pcm, self.sample_rate)
        self.pieces.append(piece)
        self.playhead = piece.ends_at
        return piece

    def clear(self, now: float) -> None:
        """Throw away what has not been played at `now`."""
        while self.pieces and self.pieces[-1].ends_at > now:
            piece = self.pieces[-1]
            played = max(0, round((now - piece.starts_at) * self.sample_rate)) * BYTES_PER_SAMPLE
            self.cleared_bytes += len(piece.pcm) - played
            piece.pcm = piece.pcm[:played]
            if played:
                break
            self.pieces.pop()
        self.playhead = min(self.playhead, now)

    def buffered_secs(self, now: float) -> float:
        """How much waits to be played."""
        return max(0.0, self.playhead - now)

    @property
    def pcm(self) -> bytes:
        """All audio in one, without the pauses between pieces; what waits to be played too."""
        return b"".join(piece.pcm for piece in self.pieces)

    def recording(self, began_at: float) -> bytes:
        """What a recorder would have from `began_at` on: all pieces, with the pauses."""
        recording = bytearray()
        for piece in self.pieces:
            at = round(max(0.0, piece.starts_at - began_at) * self.sample_rate) * BYTES_PER_SAMPLE
            recording += bytes(max(0, at - len(recording)))
            recording += piece.pcm
        return bytes(recording)

    def gaps(self, *, since: float = float("-inf"), longer_than_secs: float = 0.0) -> list[Gap]:
        """The pauses between pieces from `since` on, those that the bot meant too."""
        found = []
        for before, after in zip(self.pieces, self.pieces[1:], strict=False):
            gap = Gap(before.ends_at, after.starts_at)
            if gap.starts_at >= since and gap.duration_secs > max(longer_than_secs, 1e-6):
                found.append(gap)
        return found

    def sound_from(self, since: float) -> float | None:
        """When the first sound from `since` on is heard."""
        for piece in self.pieces:
            if piece.ends_at <= since:
                continue
            sounds = piece.sounds()
            if sounds is not None and sounds[1] > since:
                return max(since, sounds[0])
        return None

    def sound_until(self, since: float = float("-inf")) -> float:
        """When the last sound from `since` on ends; `since` itself if there is none."""
        for piece in reversed(self.pieces):
            if piece.ends_at <= since:
                break
            sounds = piece.sounds()
            if sounds is not None:
                return max(since, sounds[1])
        return since
