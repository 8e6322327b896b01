"""Two ends of a link, without sockets: bytes in, bytes out."""

from __future__ import annotations

import json
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicews.exceptions import InvalidMessage
from voicews.workers import BusJobRequestMessage, BusJobResponseMessage, BusMessage, JobStatus
from voicews.workers.outbox import Outbox
from voicews.workers.proxy.link import CONFIRM_MESSAGES, HELLO, RECEIVED, Hello, Link, Lost


def make_link(heartbeat_secs: float = 5.0, max_messages: int = 1000) -> Link:
    return Link(Outbox(max_messages), heartbeat_secs)


def put(link: Link, message: BusMessage, data: bytes = b"{}") -> None:
    assert link.outbox.put(message, data) == []


def request(job_id: str) -> BusJobRequestMessage:
    return BusJobRequestMessage(source="voice", target="research", job_id=job_id)


def response(job_id: str) -> BusJobResponseMessage:
    return BusJobResponseMessage(
        source="research", target="voice", job_id=job_id, status=JobStatus.COMPLETED
    )


def written(link: Link) -> list[bytes]:
    """All that a link has to say for now."""
    found = []
    while (data := link.next()) is not None:
        found.append(data)
    return found


class End:
    """A link, what has reached its bus, and what is on the way to it."""

    def __init__(self) -> None:
        self.link = make_link()
        self.heard: list[bytes] = []
        self.wire: deque[bytes] = deque()

    def read(self) -> None:
        """Take one message from the wire."""
        if not self.wire:
            return
        data = self.wire.popleft()
        if not self.link.is_control(data):
            if self.link.count():
                self.link.say_received()
            self.heard.append(data)
            return
        hello = self.link.take_control(data)
        if hello is not None:
            self.link.greet(hello)


class Pair:
    """The end that dials, and the one that is dialled."""

    def __init__(self) -> None:
        self.dialling, self.dialled = End(), End()
        self.sent: dict[End, list[bytes]] = {self.dialling: [], self.dialled: []}
        self.connect(resumed=False)

    def connect(self, *, resumed: bool = True) -> None:
        """Another socket: what was under way on the one before is gone."""
        for end in (self.dialling, self.dialled):
            end.wire.clear()
        self.dialling.link.attach(confirms=True)
        self.dialled.link.attach(confirms=True, resumed=resumed)

    def peer(self, end: End) -> End:
        return self.dialled if end is self.dialling else self.dialling

    def say(self, end: End) -> None:
        data = b"%d" % len(self.sent[end])
        self.sent[end].append(data)
        put(end.link, response(data.decode()), data)

    def write(self, end: End) -> None:
        """Put one message on the wire."""
        data = end.link.next()
        if data is not None:
            self.peer(end).wire.append(data)


@given(
    st.lists(st.tuples(st.sampled_from(["say", "write", "read", "alive", "cut"]), st.booleans()))
)
def test_a_link_that_is_cut_anywhere_loses_and_doubles_nothing(
    steps: list[tuple[str, bool]],
) -> None:
    pair = Pair()
    for step, from_dialling in steps:
        end = pair.dialling if from_dialling else pair.dialled
        if step == "cut":
            # The dialled end says that it goes on, whether or not it had greeted before.
            pair.connect()
        elif step == "say":
            pair.say(end)
        elif step == "write":
            pair.write(end)
        elif step == "read":
            end.read()
        elif end.link.is_greeted:
            end.link.say_received()
    for _ in range(2 * len(steps) + 10):
        for end in (pair.dialling, pair.dialled):
            pair.write(end)
            end.read()
    assert pair.dialled.heard == pair.sent[pair.dialling]
    assert pair.dialling.heard == pair.sent[pair.dialled]


def hello(received: int = 0, *, resumed: bool = False, heartbeat_secs: float = 5.0) -> Hello:
    return Hello(received, heartbeat_secs, resumed)


def said(data: bytes) -> tuple[str, dict[str, object]]:
    control = json.loads(data)
    return control["__type__"], control["__data__"]


def test_the_end_that_dials_greets_and_waits_for_the_answer() -> None:
    link = make_link()
    put(link, response("1"))
    link.attach(confirms=True)
    assert list(map(said, written(link))) == [(HELLO, {"received": 0, "heartbeat_secs": 5.0})]
    assert link.greet(hello()) == Lost([], [], set())
    assert written(link) == [b"{}"]
    assert link.sent_messages == 1


def test_the_end_that_is_dialled_answers() -> None:
    link = make_link()
    link.attach(confirms=True, resumed=False)
    assert written(link) == []
    link.greet(hello())
    greeting = {"received": 0, "heartbeat_secs": 5.0, "resumed": False}
    assert list(map(said, written(link))) == [(HELLO, greeting)]


def test_a_sign_of_life_waits_for_a_greeting_that_has_yet_to_leave() -> None:
    link = make_link()
    link.attach(confirms=True, resumed=False)
    link.greet(hello())
    link.count()
    link.say_received()
    link.count()
    first, second = map(said, written(link))
    assert first[0] == HELLO
    assert second == (RECEIVED, {"received": 2})


def test_a_peer_of_another_kind_is_told_nothing() -> None:
    link = make_link()
    link.attach(confirms=False)
    put(link, response("1"))
    assert written(link) == [b"{}"]
    assert not any(link.count() for _ in range(1000))
    assert not link.is_control(b'{"__type__":"voicews.workers.Hello"}')


def test_many_messages_are_confirmed_at_once() -> None:
    link = make_link()
    link.attach(confirms=True, resumed=False)
    link.greet(hello())
    due = []
    for number in range(1, 3 * CONFIRM_MESSAGES):
        if link.count():
            due.append(number)
            link.say_received()
    assert due == [CONFIRM_MESSAGES, 2 * CONFIRM_MESSAGES]


def test_a_link_that_begins_anew_fails_the_jobs_under_way() -> None:
    link = make_link()
    link.attach(confirms=True, resumed=False)
    link.greet(hello())
    asked, answered, waiting, done = map(request, ("asked", "answered", "waiting", "done"))
    put(link, asked)
    put(link, answered)
    link.admit(done)
    link.admit(request("doing"))
    put(link, response("done"))
    written(link)
    link.admit(response("answered"))
    lost = link.restart()
    assert (lost.asked, lost.doing) == ([asked], {"doing"})
    assert len(lost.messages) == 3
    put(link, waiting)
    assert link.restart() == Lost([], [], set())
    assert link.give_up() == Lost([], [waiting], set())


def test_ends_that_don_t_agree_have_nothing_to_go_on_from() -> None:
    link = make_link()
    link.attach(confirms=True, resumed=True)
    with pytest.raises(InvalidMessage, match="found 7"):
        link.greet(hello(7))
    assert not link.is_greeted


def test_patience_is_the_slower_end_s() -> None:
    link = make_link(heartbeat_secs=2)
    assert link.patience_secs == 6
    link.attach(confirms=True, resumed=False)
    link.greet(hello(heartbeat_secs=20))
    assert link.patience_secs == 60
    link.attach(confirms=True, resumed=True)
    link.greet(hello(heartbeat_secs=1e9))
    assert link.patience_secs == 180
