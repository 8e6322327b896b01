"""What waits for the other side: bounded, in order, and never twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.workers import (
    BusCancelMessage,
    BusEndMessage,
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusMessage,
)
from voicews.workers.outbox import Outbox


def data(text: str) -> BusMessage:
    return BusEndMessage(source=text)


def system(text: str) -> BusMessage:
    return BusCancelMessage(source=text)


def put(outbox: Outbox, *messages: BusMessage) -> list[str]:
    dropped = []
    for message in messages:
        dropped += [one.source for one in outbox.put(message, message.source.encode())]
    return dropped


def take_all(outbox: Outbox) -> list[str]:
    taken = []
    while (entry := outbox.take()) is not None:
        taken.append(entry[0].source)
    return taken


def test_system_messages_first_otherwise_in_order() -> None:
    outbox = Outbox()
    put(outbox, data("1"), system("2"), data("3"), system("4"))
    assert len(outbox) == 4
    assert take_all(outbox) == ["2", "4", "1", "3"]
    assert len(outbox) == 0


def test_the_oldest_data_makes_room_then_the_oldest_system_message() -> None:
    outbox = Outbox(max_messages=2)
    assert put(outbox, data("1"), data("2"), data("3")) == ["1"]
    assert put(outbox, system("4"), system("5")) == ["2", "3"]
    assert put(outbox, data("6")) == ["6"]
    assert put(outbox, system("7")) == ["4"]
    assert take_all(outbox) == ["5", "7"]
    assert outbox.dropped_messages == 5


def test_bytes_are_bounded_too() -> None:
    outbox = Outbox(max_bytes=10)
    assert put(outbox, data("12345"), data("67890"), data("x")) == ["12345"]
    assert put(outbox, data("y" * 11)) == ["67890", "x", "y" * 11]
    assert take_all(outbox) == []


def test_a_cancel_takes_back_a_request_that_waits() -> None:
    def about(kind: type[BusJobRequestMessage | BusJobCancelMessage], job: str) -> BusMessage:
        return kind(source="voice", target="research", job_id=job)

    outbox = Outbox()
    outbox.put(about(BusJobRequestMessage, "1"), b"request 1")
    outbox.put(about(BusJobRequestMessage, "2"), b"request 2")
    outbox.put(about(BusJobCancelMessage, "1"), b"cancel 1")
    outbox.put(about(BusJobCancelMessage, "0"), b"cancel 0")
    other = BusJobCancelMessage(source="voice", target="another", job_id="2")
    outbox.put(other, b"another's")
    taken = [entry[1] for entry in iter(outbox.take, None)]
    assert taken == [b"cancel 0", b"another's", b"request 2"]
    # What has left can only be cancelled.
    outbox.put(about(BusJobCancelMessage, "2"), b"cancel 2")
    assert [entry[1] for entry in iter(outbox.take, None)] == [b"cancel 2"]
    assert outbox.dropped_messages == 0


def test_what_the_peer_would_not_take_goes() -> None:
    outbox = Outbox()
    put(outbox, data("12345"), system("123456"), data("1234"))
    assert [message.source for message in outbox.drop_longer(4)] == ["123456", "12345"]
    assert take_all(outbox) == ["1234"]
    assert outbox.dropped_messages == 2


@pytest.mark.parametrize("limits", [{"max_messages": 0}, {"max_bytes": 0}])
def test_there_must_be_some_room(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        Outbox(**limits)


def test_what_is_not_confirmed_is_sent_again() -> None:
    outbox = Outbox()
    outbox.confirmed = True
    put(outbox, data("1"), data("2"), data("3"))
    assert take_all(outbox) == ["1", "2", "3"]
    outbox.confirm(1)
    assert outbox.unconfirmed == 2
    put(outbox, system("4"))
    outbox.rewind()
    assert take_all(outbox) == ["2", "3", "4"]
    outbox.confirm(4)
    assert outbox.unconfirmed == 0
    assert outbox.dropped_messages == 0


def test_what_is_not_confirmed_on_a_new_link_is_lost() -> None:
    outbox = Outbox()
    outbox.confirmed = True
    put(outbox, data("1"), data("2"), data("3"))
    assert outbox.take() is not None
    assert outbox.take() is not None
    outbox.confirm(1)
    assert [message.source for message in outbox.restart()] == ["2"]
    assert outbox.taken == 0
    assert take_all(outbox) == ["3"]
    outbox.rewind()
    put(outbox, data("4"))
    assert sorted(message.source for message in outbox.clear()) == ["3", "4"]
    assert outbox.dropped_messages == 3
    assert take_all(outbox) == []


@pytest.mark.parametrize("received", [-1, 0, 3, 2**70])
def test_a_peer_can_t_confirm_what_it_can_t_have(received: int) -> None:
    outbox = Outbox()
    outbox.confirmed = True
    put(outbox, data("1"), data("2"))
    take_all(outbox)
    outbox.confirm(1)
    with pytest.raises(InvalidMessage):
        outbox.confirm(received)


def test_a_peer_that_confirms_nothing_gets_nothing_new() -> None:
    outbox = Outbox(max_messages=2)
    outbox.confirmed = True
    put(outbox, data("1"), data("2"))
    assert take_all(outbox) == ["1", "2"]
    assert put(outbox, data("3"), data("4"), data("5")) == ["3"]
    assert take_all(outbox) == []
    outbox.confirm(1)
    assert take_all(outbox) == ["4"]
    large = Outbox(max_bytes=3)
    large.confirmed = True
    put(large, data("123"))
    assert take_all(large) == ["123"]
    put(large, data("4"))
    assert take_all(large) == ["4"]
    put(large, data("5"))
    assert take_all(large) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.booleans()),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("confirm"), st.none()),
        st.tuples(st.just("cut"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_over_a_link_that_is_cut_again_and_again_nothing_is_doubled_or_lost_uncounted(
    steps: list[tuple[str, Any]],
) -> None:
    outbox = Outbox(max_messages=6)
    outbox.confirmed = True
    arrived: list[str] = []
    on_the_way: list[str] = []
    sent = 0
    for step, argument in steps:
        if step == "put":
            sent += 1
            put(outbox, system(str(sent)) if argument else data(str(sent)))
        elif step == "send":
            for _ in range(argument):
                entry = outbox.take()
                if entry is not None:
                    on_the_way.append(entry[0].source)
        elif step == "confirm":
            arrived += on_the_way
            on_the_way.clear()
            outbox.confirm(len(arrived))
        else:
            arrived += on_the_way[:argument]
            on_the_way.clear()
            outbox.confirm(len(arrived))
            outbox.rewind()
    arrived += on_the_way
    outbox.confirm(len(arrived))
    while True:
        rest = take_all(outbox)
        if not rest:
            break
        arrived += rest
        outbox.confirm(len(arrived))
    assert len(set(arrived)) == len(arrived)
    assert len(arrived) + outbox.dropped_messages == sent
