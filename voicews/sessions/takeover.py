"""How a session changes hands: between sockets of this process, and between processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

from voicews.close_codes import CloseCode
from voicews.conf import Policy
from voicews.exceptions import Busy, NotAllowed, Replaced
from voicews.sessions import rules, store
from voicews.sessions.db_threads import session_database
from voicews.sessions.live import LiveSessions, retry_until_stored
from voicews.sessions.rules import CHALLENGE_SILENCE_SECS, SocketState, Verdict
from voicews.sessions.store import ClaimResult, Client

if TYPE_CHECKING:
    from voicews.sessions.control import Message
    from voicews.sessions.process import Process

logger = logging.getLogger(__name__)

#: How often a newcomer looks whether it may go in, when nobody tells it.
POLL_SECS = 0.5
#: How much longer than a lease a newcomer waits: heartbeats that notice it, a slow database.
PATIENCE_SECS = 5.0
#: What an answer may take beyond the terms of a challenge.
CHALLENGE_ANSWER_SECS = 1.0

SESSION_ENDED = "the session has ended"
IN_USE = "the session is in use"


class Claimant:
    """A socket that wants a session. `admit` is called when it gets it, under the session's lock.

    What `admit` raises is what the claim raises.
    """

    def __init__(
        self, session_id: UUID, client: Client, policy: Policy, admit: Callable[[ClaimResult], None]
    ) -> None:
        self.session_id = session_id
        self.client = client
        self.policy = policy
        self.state = SocketState.SILENT
        self.overtaken = False
        #: Something has changed: time to look again.
        self.news = asyncio.Event()
        self._admit = admit

    def admitted(self, answer: ClaimResult) -> None:
        self._admit(answer)
        self.state = SocketState.ACTIVE

    def overtake(self) -> None:
        self.overtaken = True
        self.news.set()


class Takeovers:
    """The claims of this process's sockets, and what other processes' claims ask of it."""

    def __init__(self, process: Process, live_sessions: LiveSessions) -> None:
        self._process = process
        self._live = live_sessions
        self._newest: dict[UUID, Claimant] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- the newcomer's side ----------------------------------------------------------------------

    async def arrive(self, claimant: Claimant, max_per_user: int | None) -> bool:
        """Let a socket in that has said nothing yet, if that evicts nobody; False if it would.

        Raises `NotAllowed` if the session has ended, `Busy` if its user has too many.
        """
        session_id = claimant.session_id
        async with self._live.lock(session_id):
            live = self._live.get(session_id)
            self._check_not_ending(session_id)
            job = partial(
                store.arrive,
                session_id,
                self._process.id,
                claimant.client,
                has_client=live is not None and live.has_client,
                max_per_user=max_per_user,
            )
            return await self._settle(claimant, await session_database.run(job))

    async def claim(self, claimant: Claimant) -> None:
        """Get the session for a socket that has said something valid.

        Raises `Replaced` if a newer socket gets it, `Busy` if it can't be had, `NotAllowed` if the
        session has ended.
        """
        session_id = claimant.session_id
        claimant.state = SocketState.CLAIMING
        if claimant.policy is Policy.REJECT:
            await self._challenge_holder(session_id)
        # Of several in this process only the newest goes on: the others need not ask.
        previous = self._newest.get(session_id)
        self._newest[session_id] = claimant
        if previous is not None:
            previous.overtake()
        try:
            await self._claim(claimant)
        finally:
            if self._newest.get(session_id) is claimant:
                del self._newest[session_id]

    async def _claim(self, claimant: Claimant) -> None:
        session_id, process = claimant.session_id, self._process
        async with self._live.lock(session_id):
            self._check_not_overtaken(claimant)
            self._check_not_ending(session_id)
            answer = await session_database.run(
                partial(store.claim, session_id, process.id, claimant.client)
            )
            if await self._settle(claimant, answer):
                return
        epoch = answer.epoch
        deadline = monotonic() + process.lease.secs + PATIENCE_SECS
        while monotonic() < deadline:
            claimant.news.clear()
            process.control.post(
                answer.owner_channel, "claimed", session=str(session_id), epoch=epoch
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(claimant.news.wait(), POLL_SECS)
            async with self._live.lock(session_id):
                self._check_not_overtaken(claimant)
                answer = await session_database.run(
                    partial(store.enter, session_id, process.id, claimant.client, epoch)
                )
                if await self._settle(claimant, answer):
                    return
        raise Busy("the server that has the session does not answer")

    async def _settle(self, claimant: Claimant, answer: ClaimResult) -> bool:
        """Whether the claimant is in now; raises if it never will be."""
        if answer.verdict is Verdict.GRANTED:
            try:
                claimant.admitted(answer)
            except Exception:
                # Its bot can't be built here: nobody else shall have to wait for our lease.
                await retry_until_stored(
                    partial(
                        store.release,
                        claimant.session_id,
                        self._process.id,
                        answer.epoch,
                        None,
                        self._process.grace_secs,
                    )
                )
                raise
            return True
        if answer.verdict is Verdict.ENDED:
            raise NotAllowed(SESSION_ENDED)
        if answer.verdict is Verdict.SUPERSEDED:
            raise Replaced
        return False

    def _check_not_overtaken(self, claimant: Claimant) -> None:
        if claimant.overtaken:
            raise Replaced

    def _check_not_ending(self, session_id: UUID) -> None:
        if self._live.is_ending(session_id):
            raise NotAllowed(SESSION_ENDED)

    async def _challenge_holder(self, session_id: UUID) -> None:
        """Return when nobody holds the session who is there. Raises `Busy` if somebody does."""
        process = self._process
        deadline = monotonic() + process.lease.secs + PATIENCE_SECS
        timeout_secs = 2 * CHALLENGE_SILENCE_SECS + CHALLENGE_ANSWER_SECS
        while monotonic() < deadline:
            if self._live.get(session_id) is not None:
                if await self.challenge(session_id) is rules.ChallengeReply.ALIVE:
                    raise Busy(IN_USE)
                return
            where = await session_database.run(partial(store.whereabouts, session_id))
            if where is None or where.owner is None or where.owner == process.id:
                return
            asked_at = monotonic()
            answer = await process.control.request(
                where.channel, "challenge", timeout_secs, session=str(session_id)
            )
            if answer is None:
                # Its process is dead, or the layer is. A dead one's lease runs out.
                await asyncio.sleep(max(0.0, asked_at + POLL_SECS - monotonic()))
            elif answer.get("verdict") == rules.ChallengeReply.ALIVE.value:
                raise Busy(IN_USE)
            else:
                return
        raise Busy(IN_USE)

    # --- the holder's side ------------------------------------------------------------------------

    async def challenge(self, session_id: UUID) -> rules.ChallengeReply:
        """Find out whether the client of a session that is here is there."""
        challenged_at = monotonic()
        while True:
            live = self._live.get(session_id)
            if live is None or not live.has_client:
                return rules.ChallengeReply.GONE
            waited_secs = monotonic() - challenged_at
            verdict = rules.challenge(live.silent_secs, waited_secs)
            if verdict is not rules.ChallengeReply.DOUBT:
                return verdict
            await asyncio.sleep(min(0.1, CHALLENGE_SILENCE_SECS - waited_secs + 0.001))

    def let_go_soon(self, session_id: UUID, epoch: int, reply_to: str = "") -> None:
        """Release a session to the claim `epoch`, and say so. Does not wait."""
        task = asyncio.get_running_loop().create_task(self._let_go(session_id, epoch, reply_to))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_go(self, session_id: UUID, epoch: int, reply_to: str) -> None:
        async with self._live.lock(session_id):
            live = self._live.get(session_id)
            # The message may be old: a later claim of our own may have been granted since.
            if live is not None and live.epoch < epoch:
                await live.release(
                    CloseCode.REPLACED,
                    "replaced by another connection",
                    self._process.grace_secs,
                )
        if reply_to:
            self._process.control.post(reply_to, "released", session=str(session_id))

    def answer_challenge(self, message: Message) -> None:
        """Another process asks whether a client is there. Does not wait."""
        task = asyncio.get_running_loop().create_task(self._answer_challenge(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_challenge(self, message: Message) -> None:
        verdict = await self.challenge(UUID(message["session"]))
        self._process.control.answer(message, verdict=verdict.value)

    def released(self, session_id: UUID) -> None:
        """Another process has let go of a session."""
        claimant = self._newest.get(session_id)
        if claimant is not None:
            claimant.news.set()
