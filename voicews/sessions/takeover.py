"""How a session changes hands: between sockets of this process, and between processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar
from uuid import UUID

from voicews.close_codes import CloseCode
from voicews.conf import Policy
from voicews.exceptions import Busy, NotAllowed, Replaced, VoicewsError
from voicews.models import VoiceSession
from voicews.sessions import rules, store
from voicews.sessions.control import ControlChannel, Message
from voicews.sessions.db_threads import (
    CONNECTION_ERRORS,
    polling_database,
    retry_until_stored,
    session_database,
)
from voicews.sessions.event_log import record_event
from voicews.sessions.live import LiveSessions, end_in_database
from voicews.sessions.rules import CHALLENGE_SILENCE_SECS, Lease, Verdict
from voicews.sessions.store import ClaimResult, Client, EventKind, Figures

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a newcomer checks whether it is admitted, when no notification comes.
POLL_SECS = 0.5
#: How much longer than a lease a newcomer waits: heartbeats that notice it, a slow database.
PATIENCE_SECS = 5.0
#: What an answer may take beyond the terms of a challenge.
CHALLENGE_ANSWER_SECS = 1.0

SESSION_ENDED = "the session has ended"
IN_USE = "the session is in use"


class Claimant(Protocol):
    """A socket that wants a session."""

    session_id: UUID
    client: Client
    policy: Policy
    #: Something has changed: time to look again.
    news: asyncio.Event

    @property
    def is_overtaken(self) -> bool:
        """Whether a newer socket wants the session, or this one is gone."""

    def overtake(self) -> None:
        """A newer socket wants the session."""

    def admit(self, answer: ClaimResult) -> None:
        """It has got the session: called under the session's lock. Also if it is gone since.

        What this raises is what the claim raises.
        """


class Takeovers:
    """The claims of this process's sockets, and what other processes' claims ask of it."""

    def __init__(
        self,
        process_id: UUID,
        lease: Lease,
        control: ControlChannel,
        live_sessions: LiveSessions,
        grace_secs: float,
    ) -> None:
        self._process_id = process_id
        self._lease = lease
        self._control = control
        self._live = live_sessions
        self._grace_secs = grace_secs
        self._newest: dict[UUID, Claimant] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- the newcomer's side ----------------------------------------------------------------------

    async def arrive(self, claimant: Claimant, max_per_user: int | None) -> bool:
        """Admit a socket before its first message, if no client has to leave; False if one would.

        Raises `NotAllowed` if the session has ended, `Busy` if its user has too many, or if the
        database does not answer.
        """

        def prepare() -> Callable[..., ClaimResult]:
            live = self._live.get(claimant.session_id)
            has_client = live is not None and live.has_client
            return partial(store.arrive, has_client=has_client, max_per_user=max_per_user)

        answer = await self._ask(claimant, prepare)
        return answer.verdict is Verdict.GRANTED

    async def claim(self, claimant: Claimant) -> None:
        """Get the session for a socket that has said something valid.

        Raises `Replaced` if a newer socket gets it, `Busy` if it can't be had, `NotAllowed` if the
        session has ended.
        """
        session_id = claimant.session_id
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
        answer = await self._ask(claimant, lambda: store.claim)
        epoch = answer.epoch
        deadline = monotonic() + self._lease.secs + PATIENCE_SECS
        is_news_trusted = True
        while answer.verdict is Verdict.WAIT and monotonic() < deadline:
            looked_at = monotonic()
            claimant.news.clear()
            self._control.post(
                answer.owner_channel, "claimed", session=str(claimant.session_id), epoch=epoch
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(claimant.news.wait(), POLL_SECS)
            if not is_news_trusted and not claimant.is_overtaken:
                await asyncio.sleep(looked_at + POLL_SECS - monotonic())
            answer = await self._ask(claimant, lambda: partial(store.enter, epoch=epoch))
            # An owner that says "released" while the database says that it holds the session is
            # heard once: the next look comes when it is time.
            is_news_trusted = False
        if answer.verdict is not Verdict.GRANTED:
            raise Busy("the server that has the session does not answer")

    async def _ask(
        self, claimant: Claimant, prepare: Callable[[], Callable[..., ClaimResult]]
    ) -> ClaimResult:
        """Ask the database for the session, and act on the answer; raises if it is a final no.

        Nothing comes between the two, not even the end of the socket that asks: what the database
        has granted is run here, or given back.
        """
        return await asyncio.shield(self._spawn(self._ask_under_lock(claimant, prepare)))

    async def _ask_under_lock(
        self, claimant: Claimant, prepare: Callable[[], Callable[..., ClaimResult]]
    ) -> ClaimResult:
        session_id = claimant.session_id
        async with self._live.lock(session_id):
            if claimant.is_overtaken:
                raise Replaced
            if self._live.is_ending(session_id):
                raise NotAllowed(SESSION_ENDED)
            job = partial(prepare(), session_id, self._process_id, claimant.client)
            try:
                answer = await session_database.run(job)
            except CONNECTION_ERRORS as error:
                logger.warning("call %s: a client could not get in: %s", session_id, error)
                raise Busy("the database does not answer") from None
            if answer.verdict is Verdict.GRANTED:
                await self._admit(claimant, answer)
        if answer.verdict is Verdict.ENDED:
            raise NotAllowed(SESSION_ENDED)
        if answer.verdict is Verdict.SUPERSEDED:
            raise Replaced
        return answer

    async def _admit(self, claimant: Claimant, answer: ClaimResult) -> None:
        try:
            claimant.admit(answer)
        except Exception:
            # Its bot can't be built here: other processes must not wait for our lease.
            await self._settle_under_lock(claimant.session_id, answer.epoch)
            raise

    async def _challenge_holder(self, session_id: UUID) -> None:
        """Return when no live client holds the session. Raises `Busy` if one does."""
        deadline = monotonic() + self._lease.secs + PATIENCE_SECS
        timeout_secs = 2 * CHALLENGE_SILENCE_SECS + CHALLENGE_ANSWER_SECS
        while monotonic() < deadline:
            if self._live.get(session_id) is not None:
                if await self.challenge(session_id) is rules.ChallengeReply.ALIVE:
                    raise Busy(IN_USE)
                return
            where = await polling_database.run(partial(store.whereabouts, session_id))
            if where is None or where.owner is None or where.owner == self._process_id:
                return
            asked_at = monotonic()
            answer = await self._control.request(
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
        self._spawn(self._let_go(session_id, epoch, reply_to))

    async def _let_go(self, session_id: UUID, epoch: int, reply_to: str) -> None:
        async with self._live.lock(session_id):
            live = self._live.get(session_id)
            if live is None:
                await self._give_back(session_id, epoch)
            # The message may be old: a later claim of our own may have been granted since.
            elif live.epoch < epoch:
                await live.release(
                    CloseCode.REPLACED, "replaced by another connection", self._grace_secs
                )
        if reply_to:
            self._control.post(reply_to, "released", session=str(session_id))

    def settle_soon(self, held: Iterable[tuple[UUID, int]]) -> None:
        """Release those of (session, claim) that this process does not run. Does not wait.

        They are this process's, says the database: it granted a claim whose answer was lost.
        """
        for session_id, epoch in held:
            live = self._live.get(session_id)
            if live is None or live.epoch < epoch:
                self._spawn(self._settle(session_id, epoch))

    async def _settle(self, session_id: UUID, epoch: int) -> None:
        async with self._live.lock(session_id):
            await self._settle_under_lock(session_id, epoch)

    async def _settle_under_lock(self, session_id: UUID, epoch: int) -> None:
        live = self._live.get(session_id)
        if live is None:
            await self._give_back(session_id, epoch + 1)
        else:
            live.epoch = max(live.epoch, epoch)

    async def _give_back(self, session_id: UUID, before_epoch: int) -> None:
        # One that has ended here is about to be stored as ended.
        if self._live.is_ending(session_id):
            return
        job = partial(store.disown, session_id, self._process_id, before_epoch, self._grace_secs)
        if await retry_until_stored(job):
            logger.warning(
                "call %s: assigned to this process but not running here, released", session_id
            )
            record_event(
                VoiceSession(pk=session_id),
                EventKind.INTERRUPTED,
                close_code=CloseCode.ABNORMAL,
                detail="its client was gone before it got in",
            )

    def end_soon(self, session_id: UUID, close_code: int, reason: str) -> None:
        """End a session of this process, whether it runs it or not. Does not wait."""
        live = self._live.get(session_id)
        if live is not None:
            live.end(close_code, reason)
        else:
            self._spawn(self._end(session_id, close_code, reason))

    async def _end(self, session_id: UUID, close_code: int, reason: str) -> None:
        async with self._live.lock(session_id):
            # It may have been on its way in.
            live = self._live.get(session_id)
            if live is not None:
                live.end(close_code, reason)
            elif not self._live.is_ending(session_id):
                figures = Figures(close_code, reason)
                await end_in_database(session_id, self._process_id, None, figures)

    def answer_challenge(self, message: Message) -> None:
        """Another process asks whether a client is there. Does not wait."""
        self._spawn(self._answer_challenge(message, UUID(message["session"])))

    async def _answer_challenge(self, message: Message, session_id: UUID) -> None:
        verdict = await self.challenge(session_id)
        self._control.answer(message, verdict=verdict.value)

    def released(self, session_id: UUID) -> None:
        """Another process has released a session."""
        claimant = self._newest.get(session_id)
        if claimant is not None:
            claimant.news.set()

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # The caller may be gone: then the error is logged here only.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, VoicewsError):
            logger.error("a session could not be taken over", exc_info=error)
