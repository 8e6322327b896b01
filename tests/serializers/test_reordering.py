from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicews.serializers.reordering import ReorderWindow


def chunk(number: int) -> bytes:
    return f"<{number}>".encode()


def put(window: ReorderWindow, *numbers: int) -> list[bytes]:
    return [window.put(number, chunk(number)) for number in numbers]


def joined(*numbers: int) -> bytes:
    return b"".join(map(chunk, numbers))


def test_in_order_nothing_waits() -> None:
    window = ReorderWindow()
    assert put(window, 1, 2, 3) == [chunk(1), chunk(2), chunk(3)]
    assert (window.lost, window.dropped) == (0, 0)


def test_a_swap_is_put_right() -> None:
    assert put(ReorderWindow(), 1, 3, 2, 4) == [chunk(1), b"", joined(2, 3), chunk(4)]


def test_the_first_may_be_swapped_too() -> None:
    assert put(ReorderWindow(), 2, 1, 3) == [b"", joined(1, 2), chunk(3)]


def test_a_stream_may_count_from_0_or_be_joined_late() -> None:
    assert put(ReorderWindow(), 0, 1) == [chunk(0), chunk(1)]
    assert put(ReorderWindow(), 1000, 1001) == [chunk(1000), chunk(1001)]


def test_what_never_comes_is_given_up_when_the_window_is_full() -> None:
    window = ReorderWindow(max_held=2)
    assert put(window, 1, 3, 4, 5) == [chunk(1), b"", b"", joined(3, 4, 5)]
    assert window.lost == 1
    assert put(window, 6, 2) == [chunk(6), b""]
    assert window.dropped == 1


def test_two_gaps_at_once() -> None:
    window = ReorderWindow(max_held=2)
    assert put(window, 1, 3, 5, 7) == [chunk(1), b"", b"", chunk(3)]
    assert put(window, 9) == [chunk(5)]
    assert window.lost == 2


def test_a_chunk_that_comes_twice_counts_once() -> None:
    window = ReorderWindow()
    assert put(window, 1, 1, 3, 3, 2) == [chunk(1), b"", b"", b"", joined(2, 3)]
    assert window.dropped == 2


def test_a_peer_that_counts_from_the_start_again_is_heard() -> None:
    window = ReorderWindow(max_held=2)
    put(window, *range(1, 100))
    assert put(window, 1, 2, 3, 4, 5) == [b"", b"", chunk(3), chunk(4), chunk(5)]


@given(st.permutations(range(40)), st.integers(1, 8))
def test_nothing_is_lost_while_no_chunk_is_further_off_than_the_window(
    noise: list[int], size: int
) -> None:
    # A shuffle in which each chunk is at most `size` places away from its own.
    order = sorted(range(1, 41), key=lambda number: number + noise[number - 1] % (size + 1))
    window = ReorderWindow(max_held=size)
    assert b"".join(put(window, *order)) == joined(*range(1, 41))
    assert (window.lost, window.dropped) == (0, 0)


@given(st.lists(st.integers(-5, 2**40), max_size=60), st.integers(1, 5))
def test_it_never_holds_more_than_the_window(numbers: list[int], size: int) -> None:
    window = ReorderWindow(max_held=size)
    for number in numbers:
        window.put(number, b"x" * 10)
        assert len(window._held) <= size
