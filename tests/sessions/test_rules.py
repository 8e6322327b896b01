"""The rules, under every order of events that hypothesis can think of."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from voicews.sessions import rules
from voicews.sessions.rules import ChallengeReply, Lease, Record, Verdict

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))
LEASE_SECS = 10.0


# --- one step -------------------------------------------------------------------------------------


def test_a_free_session_is_had_at_once() -> None:
    record, verdict = rules.arrive(Record(), ONE, has_client=False)
    assert verdict is Verdict.GRANTED
    assert record == Record(epoch=1, owner=ONE, owner_epoch=1, owner_alive=True)


@pytest.mark.parametrize("process", [ONE, TWO])
def test_who_says_nothing_evicts_nobody(process: UUID) -> None:
    held = Record().granted(ONE, 1)
    assert rules.arrive(held, process, has_client=True) == (held, Verdict.HELD)


def test_a_client_comes_back_to_a_bot_without_one() -> None:
    held = Record().granted(ONE, 1)
    record, verdict = rules.arrive(held, ONE, has_client=False)
    assert (record.owner_epoch, verdict) == (2, Verdict.GRANTED)
    assert rules.arrive(held, TWO, has_client=False) == (held, Verdict.HELD)


def test_a_claim_waits_for_the_owner_to_let_go() -> None:
    held = Record().granted(ONE, 1)
    waiting, verdict = rules.claim(held, TWO)
    assert verdict is Verdict.WAIT
    assert (waiting.epoch, waiting.owner, waiting.is_superseded) == (2, ONE, True)
    assert rules.enter(waiting, TWO, 2) == (waiting, Verdict.WAIT)
    released, ok = rules.release(waiting, ONE)
    assert ok
    record, verdict = rules.enter(released, TWO, 2)
    assert (record.owner, record.owner_epoch, verdict) == (TWO, 2, Verdict.GRANTED)
    assert rules.release(record, ONE) == (record, False)


def test_only_the_newest_claim_goes_in() -> None:
    waiting, _verdict = rules.claim(Record().granted(ONE, 1), TWO)
    newer, _verdict = rules.claim(waiting, THREE)
    released, _ok = rules.release(newer, ONE)
    assert rules.enter(released, TWO, 2) == (released, Verdict.SUPERSEDED)
    assert rules.enter(released, THREE, 3)[1] is Verdict.GRANTED


def test_a_lost_owner_is_not_waited_for() -> None:
    lost = replace(Record().granted(ONE, 1), owner_alive=False)
    assert rules.claim(lost, TWO)[1] is Verdict.GRANTED
    assert rules.arrive(lost, TWO, has_client=True)[1] is Verdict.GRANTED
    # It comes back: what nobody wanted is its own, what somebody claimed is not.
    assert rules.regain(lost, ONE, 1)[1]
    assert not rules.regain(rules.claim(lost, TWO)[0], ONE, 1)[1]


def test_an_end_is_reported_once() -> None:
    held = Record().granted(ONE, 1)
    assert rules.end(held, TWO) == (held, False)
    assert rules.end(held, None) == (held, False)
    ended, reported = rules.end(held, ONE)
    assert reported
    assert rules.end(ended, ONE) == (ended, False)
    for step in (
        rules.claim(ended, TWO),
        rules.arrive(ended, TWO, has_client=False),
        rules.enter(ended, TWO, 1),
    ):
        assert step == (ended, Verdict.ENDED)


@pytest.mark.parametrize(
    ("silent_secs", "waited_secs", "answer"),
    [
        (0.0, 0.0, ChallengeReply.ALIVE),
        (1.9, 0.0, ChallengeReply.ALIVE),
        (2.1, 0.0, ChallengeReply.DOUBT),
        (3.0, 0.9, ChallengeReply.DOUBT),
        (0.5, 0.9, ChallengeReply.ALIVE),
        (4.1, 2.0, ChallengeReply.GONE),
        (float("inf"), 2.0, ChallengeReply.GONE),
    ],
)
def test_a_challenge(silent_secs: float, waited_secs: float, answer: ChallengeReply) -> None:
    assert rules.challenge(silent_secs, waited_secs) is answer


def test_a_lease() -> None:
    lease = Lease(LEASE_SECS)
    assert not lease.is_valid(0.0)
    assert not lease.renewed(0.0, 0.1), "the first time, one has to know what is one's own"
    lease.confirmed(0.0)
    assert lease.is_valid(8.9)
    assert not lease.is_valid(9.1)
    assert lease.renewed(5.0, 8.9)
    assert lease.is_valid(13.9)
    assert not lease.renewed(13.0, 14.1), "it may have run out while the heartbeat was under way"
    assert not lease.is_valid(14.1)


# --- all orders of steps --------------------------------------------------------------------------


@dataclass
class FakeProcess:
    """A process as far as the rules go: what it runs, its lease, and answers under way to it."""

    id: UUID
    lease: Lease = field(default_factory=lambda: Lease(LEASE_SECS))
    alive: bool = True
    #: The claim that its bot runs with, if it runs one, and whether it has a client.
    epoch: int | None = None
    has_client: bool = False
    #: The claim that a newcomer waits with here.
    waiting: int | None = None
    #: A heartbeat under way: when it was sent.
    sent_at: float | None = None

    def feeds(self, now: float) -> bool:
        return (
            self.alive and self.has_client and self.epoch is not None and self.lease.is_valid(now)
        )


class Sessions(RuleBasedStateMachine):
    """One session, three processes that freeze, die, are cut off, and a database that decides."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.record = Record()
        self.leases: dict[UUID, float] = {}
        self.ends = 0
        self.ids = itertools.count(4)
        self.processes = [FakeProcess(one) for one in (ONE, TWO, THREE)]
        for process in self.processes:
            self.beat(process)

    # The database's view: whose lease lasts, by its own clock.
    def current(self) -> Record:
        owner = self.record.owner
        alive = owner is not None and self.leases.get(owner, -1.0) > self.now
        return replace(self.record, owner_alive=alive)

    def beat(self, process: FakeProcess) -> None:
        sent_at = self.now if process.sent_at is None else process.sent_at
        process.sent_at = None
        self.leases[process.id] = self.now + LEASE_SECS
        if not process.lease.renewed(sent_at, self.now):
            if process.epoch is not None:
                self.record, own = rules.regain(self.current(), process.id, process.epoch)
                if not own:
                    self.record, _released = rules.release(self.current(), process.id)
                    process.epoch, process.has_client = None, False
            process.lease.confirmed(sent_at)

    def grant(self, process: FakeProcess, epoch: int) -> None:
        process.epoch, process.has_client, process.waiting = epoch, True, None

    def pick(self, number: int) -> FakeProcess:
        return self.processes[number % 3]

    numbers = st.integers(0, 2)

    @rule(secs=st.floats(0.1, 6.0))
    def time_passes(self, secs: float) -> None:
        self.now += secs

    @rule(number=numbers)
    def heartbeat(self, number: int) -> None:
        process = self.pick(number)
        if process.alive:
            self.beat(process)

    @rule(number=numbers)
    def heartbeat_is_sent_and_answered_later(self, number: int) -> None:
        process = self.pick(number)
        if process.alive and process.sent_at is None:
            process.sent_at = self.now

    @rule(number=numbers)
    def a_socket_arrives(self, number: int) -> None:
        process = self.pick(number)
        if not process.alive:
            return
        self.record, verdict = rules.arrive(
            self.current(), process.id, has_client=process.has_client
        )
        if verdict is Verdict.GRANTED:
            self.grant(process, self.record.owner_epoch)

    @rule(number=numbers)
    def a_socket_claims(self, number: int) -> None:
        process = self.pick(number)
        if not process.alive:
            return
        self.record, verdict = rules.claim(self.current(), process.id)
        if verdict is Verdict.GRANTED:
            self.grant(process, self.record.owner_epoch)
        elif verdict is Verdict.WAIT:
            process.waiting = self.record.epoch

    @rule(number=numbers)
    def a_socket_that_waits_asks_again(self, number: int) -> None:
        process = self.pick(number)
        if not process.alive or process.waiting is None:
            return
        self.record, verdict = rules.enter(self.current(), process.id, process.waiting)
        if verdict is Verdict.GRANTED:
            self.grant(process, self.record.owner_epoch)
        elif verdict is not Verdict.WAIT:
            process.waiting = None

    @rule(number=numbers)
    def the_owner_lets_go(self, number: int) -> None:
        """It stops feeding its bot first, whatever the database then says."""
        process = self.pick(number)
        if not process.alive or process.epoch is None:
            return
        process.epoch, process.has_client = None, False
        self.record, _released = rules.release(self.current(), process.id)

    @rule(number=numbers)
    def a_client_is_lost(self, number: int) -> None:
        self.pick(number).has_client = False

    @rule(number=numbers)
    def a_process_dies(self, number: int) -> None:
        process = self.pick(number)
        process.alive = False
        self.processes[self.processes.index(process)] = FakeProcess(UUID(int=next(self.ids)))

    @rule(number=numbers)
    def the_call_ends(self, number: int) -> None:
        process = self.pick(number)
        if process.alive and process.epoch is not None and number == 0:
            process.epoch, process.has_client = None, False
            self.record, reported = rules.end(self.current(), process.id)
            self.ends += reported

    @rule()
    def somebody_ends_what_nobody_runs(self) -> None:
        if self.record.epoch > 8:
            self.record, reported = rules.end(self.current(), None)
            self.ends += reported

    @precondition(lambda self: not self.record.ended)
    @rule(number=numbers)
    def in_the_end_somebody_gets_in(self, number: int) -> None:
        """Never none for ever: if all goes well from here on, the newest claim is granted."""
        process = self.pick(number)
        if not process.alive:
            return
        self.record, verdict = rules.claim(self.current(), process.id)
        epoch = self.record.epoch
        if verdict is Verdict.WAIT:
            # Either the owner hears of it and lets go, or its lease runs out.
            self.now += LEASE_SECS + 0.1
            self.record, verdict = rules.enter(self.current(), process.id, epoch)
        assert verdict is Verdict.GRANTED
        self.grant(process, self.record.owner_epoch)

    @invariant()
    def never_two(self) -> None:
        feeding = [process for process in self.processes if process.feeds(self.now)]
        assert len(feeding) <= 1, feeding

    @invariant()
    def who_feeds_is_the_owner(self) -> None:
        for process in self.processes:
            if process.feeds(self.now) and not self.record.ended:
                assert self.record.owner == process.id

    @invariant()
    def the_end_is_reported_once(self) -> None:
        assert self.ends == int(self.record.ended)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
