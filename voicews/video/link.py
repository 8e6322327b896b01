"""Sends pictures over a link that also carries audio, without making the audio late. No I/O."""

from __future__ import annotations

#: Bytes in flight: at first and at least, and at most. The first piece is small, so that how long
#: it takes is the round trip, and not the time that a thin link needs for the piece itself.
MIN_WINDOW_BYTES, MAX_WINDOW_BYTES = 1024, 64 * 1024
#: A piece that takes so much longer (seconds) than the shortest round trip was too big.
TARGET_SECS = 0.1
#: A piece without an acknowledgement for so long (seconds) is lost, and its picture with it.
LOST_SECS = 10.0
#: The weight of the newest picture in the throughput.
_NEWEST_SHARE = 0.3


class PictureLink:
    """One picture at a time, in pieces, each sent when the one before was acknowledged.

    The size of a piece follows how long the last one took, so that audio that is written behind it
    waits some `TARGET_SECS` at most, on a thin link too.
    """

    def __init__(self) -> None:
        self._window = MIN_WINDOW_BYTES
        self._round_trip_secs = float("inf")
        self._picture = b""
        self._id = 0
        self._offset = 0
        self._in_flight = 0
        self._sent_at = 0.0
        self._began_at = 0.0
        #: Bytes per second of the last pictures; None: not known yet.
        self.throughput: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a picture is on its way."""
        return bool(self._picture)

    @property
    def picture_id(self) -> int:
        """The number of the newest picture, from 1."""
        return self._id

    def start(self, picture: bytes, now: float) -> tuple[int, bytes]:
        """Begin with a picture: the offset and bytes of its first piece."""
        self._id += 1
        self._picture = picture
        self._offset = 0
        self._began_at = now
        return self._next_piece(now)

    def acknowledge(self, picture_id: int, num_bytes: int, now: float) -> tuple[int, bytes] | None:
        """The peer has `num_bytes` of a picture: the next piece; None if there is none to send."""
        if picture_id != self._id or num_bytes != self._offset or not self._picture:
            return None
        took_secs = now - self._sent_at
        self._round_trip_secs = min(self._round_trip_secs, took_secs)
        waited_secs = took_secs - self._round_trip_secs
        if waited_secs > TARGET_SECS:
            fitting = self._in_flight * TARGET_SECS / waited_secs
            self._window = max(int(fitting), self._window // 4, MIN_WINDOW_BYTES)
        elif self._in_flight == self._window and waited_secs < TARGET_SECS / 4:
            self._window = min(self._window * 3 // 2, MAX_WINDOW_BYTES)
        if self._offset < len(self._picture):
            return self._next_piece(now)
        self._measure(now)
        self._picture = b""
        return None

    def reset(self) -> None:
        """Another client, or none: what was on its way is lost."""
        self._picture = b""
        self._window = MIN_WINDOW_BYTES
        self._round_trip_secs = float("inf")
        self.throughput = None

    def give_up_if_lost(self, now: float) -> None:
        """Drop a picture of which a piece was not acknowledged."""
        if self._picture and now - self._sent_at >= LOST_SECS:
            self._picture = b""

    def _next_piece(self, now: float) -> tuple[int, bytes]:
        offset = self._offset
        piece = self._picture[offset : offset + self._window]
        self._offset += len(piece)
        self._in_flight = len(piece)
        self._sent_at = now
        return offset, piece

    def _measure(self, now: float) -> None:
        measured = len(self._picture) / max(now - self._began_at, 0.001)
        before = self.throughput
        self.throughput = (
            measured if before is None else before + (measured - before) * _NEWEST_SHARE
        )


class PictureReceiver:
    """Puts the pieces of one sender's pictures together, within limits."""

    def __init__(self, max_picture_bytes: int) -> None:
        self._max_picture_bytes = max_picture_bytes
        self._id = -1
        self._pieces = bytearray()

    def add(self, picture_id: int, offset: int, total: int, piece: bytes) -> bytes | None:
        """Take one piece: the picture if it is complete.

        Raises `ValueError` for a piece that fits nowhere.
        """
        if not 0 < total <= self._max_picture_bytes:
            raise ValueError(
                f"expected a picture of 1 to {self._max_picture_bytes} bytes, found {total}"
            )
        if offset == 0:
            self._id = picture_id
            self._pieces.clear()
        if picture_id != self._id or offset != len(self._pieces) or not piece:
            raise ValueError(f"expected the piece at {len(self._pieces)}, found {offset}")
        if offset + len(piece) > total:
            raise ValueError(f"expected {total} bytes of picture, found {offset + len(piece)}")
        self._pieces += piece
        if len(self._pieces) < total:
            return None
        picture = bytes(self._pieces)
        self._pieces.clear()
        self._id = -1
        return picture

    def reset(self) -> None:
        """Another sender: forget the pieces."""
        self._pieces.clear()
        self._id = -1
