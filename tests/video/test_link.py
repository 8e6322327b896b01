"""Pictures over links of several kinds, in numbers: no clock, no socket."""

from __future__ import annotations

import pytest

from voicews.video.link import LOST_SECS, MAX_WINDOW_BYTES, PictureLink, PictureReceiver


class Link:
    """A link of `bytes_per_sec` with a round trip of `round_trip_secs`."""

    def __init__(self, bytes_per_sec: float, round_trip_secs: float) -> None:
        self.link = PictureLink()
        self.bytes_per_sec = bytes_per_sec
        self.round_trip_secs = round_trip_secs
        self.now = 0.0
        #: How long (seconds) each piece held up what was written behind it.
        self.waits: list[float] = []

    def send(self, picture: bytes) -> bytes:
        """Send one picture; returns what arrived."""
        arrived = b""
        piece: tuple[int, bytes] | None = self.link.start(picture, self.now)
        while piece is not None:
            offset, data = piece
            assert offset == len(arrived)
            arrived += data
            self.waits.append(len(data) / self.bytes_per_sec)
            self.now += len(data) / self.bytes_per_sec + self.round_trip_secs
            piece = self.link.acknowledge(self.link.picture_id, len(arrived), self.now)
        assert not self.link.is_busy
        return arrived


@pytest.mark.parametrize("round_trip_secs", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("kbit_per_sec", [40, 64, 256, 100_000])
def test_audio_waits_a_moment_only(kbit_per_sec: float, round_trip_secs: float) -> None:
    link = Link(kbit_per_sec * 125, round_trip_secs)
    for size in (1, 5_000, 30_000, 12_345):
        picture = bytes(range(256)) * (size // 256) + b"x"
        assert link.send(picture) == picture
    # The first piece is never smaller than 1024 bytes: 205 ms at 40 kbit/s.
    assert max(link.waits) <= 0.45


def test_a_fast_link_is_used() -> None:
    link = Link(12_500_000, 0.02)
    link.send(bytes(2_000_000))
    link.waits.clear()
    link.send(bytes(1_000_000))
    assert max(link.waits) == MAX_WINDOW_BYTES / 12_500_000


def test_the_throughput_is_that_of_the_link() -> None:
    link = Link(8_000, 0.01)
    for _ in range(10):
        link.send(bytes(6_000))
    assert link.link.throughput is not None
    assert 6_500 < link.link.throughput <= 8_000


def test_answers_to_other_pieces_change_nothing() -> None:
    link = PictureLink()
    link.start(bytes(5000), 0.0)
    assert link.acknowledge(99, 1024, 1.0) is None
    assert link.acknowledge(link.picture_id, 1, 1.0) is None
    assert link.acknowledge(link.picture_id, 1024, 1.0) is not None


def test_a_lost_picture_is_given_up() -> None:
    link = PictureLink()
    link.start(bytes(5000), 0.0)
    busy = []
    for now in (LOST_SECS - 0.1, LOST_SECS):
        link.give_up_if_lost(now)
        busy.append(link.is_busy)
    assert busy == [True, False]
    assert link.acknowledge(link.picture_id, 1024, LOST_SECS) is None


def test_pieces_become_a_picture() -> None:
    receiver = PictureReceiver(100)
    assert receiver.add(1, 0, 5, b"abc") is None
    assert receiver.add(1, 3, 5, b"de") == b"abcde"
    # A picture that was given up is followed by another one.
    assert receiver.add(2, 0, 5, b"abc") is None
    assert receiver.add(3, 0, 2, b"xy") == b"xy"


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([(1, 0, 101, b"abc")], "expected a picture of 1 to 100 bytes, found 101"),
        ([(1, 0, 0, b"")], "expected a picture of 1 to 100 bytes, found 0"),
        ([(1, 3, 5, b"de")], "expected the piece at 0, found 3"),
        ([(1, 0, 5, b"abc"), (1, 2, 5, b"de")], "expected the piece at 3, found 2"),
        ([(1, 0, 5, b"abc"), (2, 3, 5, b"de")], "expected the piece at 3, found 3"),
        ([(1, 0, 5, b"abcdef")], "expected 5 bytes of picture, found 6"),
        ([(1, 0, 5, b"")], "expected the piece at 0, found 0"),
    ],
)
def test_pieces_that_fit_nowhere(pieces: list[tuple[int, int, int, bytes]], error: str) -> None:
    receiver = PictureReceiver(100)
    for piece in pieces[:-1]:
        receiver.add(*piece)
    with pytest.raises(ValueError, match=error):
        receiver.add(*pieces[-1])
