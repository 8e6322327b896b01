"""Who may hold a session: the rules, without a clock, a database or a network.

A session belongs to at most one process at a time, its owner, which runs the bot and feeds it from
at most one socket. A client that wants it claims it, which gets the next epoch. Three things keep
two processes from feeding the bot at once:

* an owner's claim is followed by the next one's entry only when the owner has released the session
  or its lease has run out,
* an owner whose lease may have run out is suspended: it takes nothing and sends nothing until it
  has found that the session is still its own,
* of several that wait, only the newest claim may go in.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from uuid import UUID

#: The share of its lease after which a process that could not renew it stops: the rest is for
#: clocks that don't run at the same speed, and for what is on its way.
SAFE_LEASE_SHARE = 0.9
#: Heartbeats in one lease.
HEARTBEATS_PER_LEASE = 5
#: A holder whose client has been silent so long (seconds) is doubted, and gets as long again.
CHALLENGE_SILENCE_SECS = 2.0


class SocketState(enum.IntEnum):
    """The life of one socket of a session, in its process."""

    #: Accepted, has said nothing that makes sense yet.
    SILENT = 0
    #: Has made a claim, may not go in yet.
    CLAIMING = 1
    #: Has got the session; what it says does not reach the bot yet.
    ADMITTED = 2
    #: Feeds the bot.
    ACTIVE = 3
    CLOSED = 4


class LiveState(enum.IntEnum):
    """The life of a session's bot in the process that owns it."""

    RUNNING = 0
    #: Another process gets the session: the bot's state is being stored.
    RELEASING = 1
    #: Over here; the session goes on elsewhere, or waits for its client.
    RELEASED = 2
    ENDED = 3


class Verdict(enum.Enum):
    #: The session is the claimer's.
    GRANTED = enum.auto()
    #: The claim stands, but the owner has to release the session first.
    WAIT = enum.auto()
    #: Another client holds it, and the one that asked has made no claim.
    HELD = enum.auto()
    #: A newer claim has been made.
    SUPERSEDED = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a session to everybody: the fields that decide about it."""

    ended: bool = False
    #: Its end was requested: no client is admitted, and its owner is about to end it.
    is_ending: bool = False
    #: The newest claim's number.
    epoch: int = 0
    #: The process that runs the bot, and the claim that it got the session with.
    owner: UUID | None = None
    owner_epoch: int = 0
    #: Whether the owner's lease lasts. Without meaning if there is no owner.
    owner_alive: bool = False

    @property
    def is_over(self) -> bool:
        """Whether no client is admitted any more."""
        return self.ended or self.is_ending

    @property
    def is_free(self) -> bool:
        return self.owner is None or not self.owner_alive

    @property
    def is_superseded(self) -> bool:
        """Whether the owner should release the session."""
        return self.epoch > self.owner_epoch

    def granted(self, process: UUID, epoch: int) -> Record:
        return replace(self, epoch=epoch, owner=process, owner_epoch=epoch, owner_alive=True)


def arrive(record: Record, process: UUID, *, has_client: bool) -> tuple[Record, Verdict]:
    """A new socket in `process`, before its first message: admitted if no client has to leave.

    `has_client` says whether a client is connected, where `process` is the owner.
    """
    if record.is_over:
        return record, Verdict.ENDED
    if record.is_free or (record.owner == process and not has_client):
        epoch = record.epoch + 1
        return record.granted(process, epoch), Verdict.GRANTED
    return record, Verdict.HELD


def claim(record: Record, process: UUID) -> tuple[Record, Verdict]:
    """A socket of `process` has said something valid: it gets the session, or is next."""
    if record.is_over:
        return record, Verdict.ENDED
    epoch = record.epoch + 1
    if record.is_free or record.owner == process:
        return record.granted(process, epoch), Verdict.GRANTED
    return replace(record, epoch=epoch), Verdict.WAIT


def enter(record: Record, process: UUID, epoch: int) -> tuple[Record, Verdict]:
    """A socket that waits with the claim `epoch` asks whether it may go in now."""
    if record.is_over:
        return record, Verdict.ENDED
    if record.epoch != epoch:
        return record, Verdict.SUPERSEDED
    if record.is_free or record.owner == process:
        return record.granted(process, epoch), Verdict.GRANTED
    return record, Verdict.WAIT


def release(record: Record, process: UUID) -> tuple[Record, bool]:
    """`process` releases the session; False if it is no longer its own."""
    if record.ended or record.owner != process:
        return record, False
    return replace(record, owner=None, owner_alive=False), True


def end(record: Record, process: UUID | None) -> tuple[Record, bool]:
    """The session is over, says its owner, or anybody (None) where it has none that lives.

    False if it is not for this one to say, or was over before: of all who try, one reports it.
    """
    entitled = record.owner == process if process is not None else record.is_free
    if record.ended or not entitled:
        return record, False
    return replace(record, ended=True, owner=None, owner_alive=False), True


def regain(record: Record, process: UUID, epoch: int) -> tuple[Record, bool]:
    """`process` was cut off and asks whether the session that it got with `epoch` is its own.

    So it is if there was no claim since; also if it was given up for lost in the meantime.
    """
    if record.is_over or record.epoch != epoch:
        return record, False
    if record.owner not in (None, process):
        return record, False
    return record.granted(process, epoch), True


class ChallengeReply(enum.Enum):
    """What a challenged holder can say."""

    ALIVE = "alive"
    #: Silent, but not for long enough to be sure: ask again at the end of the term.
    DOUBT = "doubt"
    GONE = "gone"


def challenge(silent_secs: float, waited_secs: float) -> ChallengeReply:
    """What a holder whose client has said nothing for `silent_secs` answers to a challenge that
    was made `waited_secs` ago.
    """
    if silent_secs < waited_secs or silent_secs < CHALLENGE_SILENCE_SECS:
        return ChallengeReply.ALIVE
    return ChallengeReply.GONE if waited_secs >= CHALLENGE_SILENCE_SECS else ChallengeReply.DOUBT


class Lease:
    """Until when a process may feed its bots. Callers pass its monotonic time (seconds).

    The database knows the same lease by its own clock, and there it ends a little later: it
    begins when the heartbeat arrives there, here when it was sent.
    """

    def __init__(self, secs: float) -> None:
        self.secs = secs
        self.valid_until = float("-inf")

    @property
    def heartbeat_secs(self) -> float:
        return self.secs / HEARTBEATS_PER_LEASE

    @property
    def heartbeat_timeout_secs(self) -> float:
        """How long a heartbeat may take: one that is lost leaves time for two others."""
        return self.secs / 3

    def is_valid(self, now: float) -> bool:
        return now < self.valid_until

    def renewed(self, sent_at: float, answered_at: float) -> bool:
        """A heartbeat was stored. False if the lease may have run out before: then it holds again
        only after `confirmed`, when the process knows which sessions are still its own.
        """
        if not self.is_valid(answered_at):
            return False
        self.confirmed(sent_at)
        return True

    def confirmed(self, sent_at: float) -> None:
        """The process knows what is its own since its heartbeat of `sent_at`."""
        self.valid_until = sent_at + self.secs * SAFE_LEASE_SHARE
