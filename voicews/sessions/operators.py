"""What operators do with a session, in whichever process it lives.

The functions that end a session or send its client a message are plain, for views and commands;
what a page shows live is asked for on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import transaction

from voicews import signals
from voicews.close_codes import CloseCode
from voicews.exceptions import NotAllowed
from voicews.fields import storable, storable_json
from voicews.frames import Direction, OutputTransportMessageUrgentFrame
from voicews.models import SessionEvent, VoiceSession
from voicews.security.users import storable_user
from voicews.sessions import store
from voicews.sessions.control import Message
from voicews.sessions.db_threads import polling_database, session_database
from voicews.sessions.event_log import send_signal
from voicews.sessions.live import LiveSession, live_sessions
from voicews.sessions.process import Process, this_process

#: How long another process may take to answer.
ANSWER_TIMEOUT_SECS = 2.0
NO_ANSWER = "the server process that runs the call does not answer"

Kind, Actor = SessionEvent.Kind, SessionEvent.Actor


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """How a call is doing, as the process that runs it knows."""

    has_client: bool
    #: How long the client has said nothing; None while there is none.
    silent_secs: float | None = None
    #: What went through the client's present socket.
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    invalid_messages: int = 0
    #: The claim that the socket got in with.
    epoch: int = 0
    #: The worst delay of the process's event loop in the last seconds.
    loop_lag_ms: float = 0.0


# --- from anywhere --------------------------------------------------------------------------------


def end_session(session_id: UUID, reason: str, operator: Any = None) -> None:
    """End a session with 4002 and the close reason `reason`. Does not wait for the end.

    `operator` is the user who wants it, if it is one. In a transaction it is done when that is
    committed. Raises `NotAllowed` if there is no such session, or if it has ended.
    """
    reason = storable(reason)
    operator = storable_user(operator)
    with store.atomic():
        at_once, where = store.request_end(session_id, CloseCode.ENDED_BY_OPERATOR, reason)
        _note(session_id, Kind.END_REQUESTED, operator, reason)
        if at_once:
            _note(session_id, Kind.ENDED, operator, reason, CloseCode.ENDED_BY_OPERATOR)
    if at_once:
        tell = partial(_announce_end, session_id, reason)
    else:
        tell = partial(_ask_for_end, where.channel, session_id, reason)
    # The caller may be in a transaction of its own, as with ATOMIC_REQUESTS.
    transaction.on_commit(tell, using=store.database())


def _announce_end(session_id: UUID, reason: str) -> None:
    signals.session_ended.send_robust(
        sender=VoiceSession,
        session=store.load_session(session_id),
        close_code=CloseCode.ENDED_BY_OPERATOR,
        reason=reason,
    )


def _ask_for_end(channel: str, session_id: UUID, reason: str) -> None:
    # Without a channel, the next heartbeat delivers it.
    if channel:
        code = CloseCode.ENDED_BY_OPERATOR
        async_to_sync(_send)(channel, "end", session=str(session_id), code=code, reason=reason)


def send_message(session_id: UUID, data: Any, operator: Any = None) -> None:
    """Send a session's client a `server-message` with any JSON data.

    Raises `NotAllowed` if no client is there to get it, or if the process that runs the session
    can't be reached; `TypeError` or `ValueError` if it is no JSON data.
    """
    data = storable_json(data)
    operator = storable_user(operator)
    where = store.whereabouts(session_id)
    if where is None or where.owner is None:
        raise NotAllowed("no client is connected")
    operator_id = None if operator is None else str(operator.pk)
    problem = async_to_sync(_deliver)(session_id, where.channel, data, operator_id)
    if problem:
        raise NotAllowed(problem)
    text = data["text"] if isinstance(data, dict) and "text" in data else str(data)
    _note(session_id, Kind.MESSAGE, operator, str(text))


def _note(
    session_id: UUID,
    kind: SessionEvent.Kind,
    operator: Any,
    detail: str,
    close_code: int | None = None,
) -> None:
    SessionEvent.objects.using(store.database()).create(
        session_id=session_id,
        kind=kind,
        actor=Actor.OPERATOR,
        operator=operator,
        close_code=close_code,
        detail=detail,
    )


def _hears_answers() -> bool:
    return bool(this_process().control.name)


async def _send(channel: str, op: str, **data: Any) -> bool:
    return await this_process().control.send(channel, op, **data)


async def _deliver(session_id: UUID, channel: str, data: Any, operator_id: str | None) -> str:
    """Have the session's process send a message; returns what is wrong."""
    live = live_sessions.get(session_id)
    if live is not None:
        return _send_message(live, data, operator_id)
    request = {"session": str(session_id), "data": data, "operator": operator_id}
    if not _hears_answers():
        # A process that serves no sockets: it can send requests, but gets no answers.
        return "" if await _send(channel, "message", **request) else NO_ANSWER
    answer = await ask_owner(channel, "message", **request)
    return NO_ANSWER if answer is None else str(answer.get("problem", NO_ANSWER))


def _send_message(live: LiveSession, data: Any, operator_id: str | None) -> str:
    if not live.has_client:
        return "no client is connected"
    message = {"label": "rtvi-ai", "type": "server-message", "data": data}
    frame = OutputTransportMessageUrgentFrame(message)
    live.transport.output().process_frame(frame, Direction.DOWNSTREAM)
    send_signal(
        signals.session_message,
        VoiceSession,
        session=live.row,
        data=data,
        operator_id=operator_id,
    )
    return ""


# --- on the event loop ----------------------------------------------------------------------------


async def drain_process(process_id: UUID) -> bool:
    """Make a server process refuse new calls; its running calls go on. False if it is gone.

    It goes on to run, so that what supervises it does not start it anew: end it with SIGTERM.
    """
    channel = await session_database.run(partial(store.request_drain, process_id))
    if channel:
        # Without it, the next heartbeat delivers it.
        await _send(channel, "drain")
    return channel is not None


async def figures(session_id: UUID) -> LiveFigures | None:
    """How a call is doing; None if it isn't live, or if its process does not answer."""
    live = live_sessions.get(session_id)
    if live is not None:
        return live_figures(live, this_process())
    where = await polling_database.run(partial(store.whereabouts, session_id))
    if where is None or where.owner is None:
        return None
    answer = await ask_owner(where.channel, "figures", session=str(session_id))
    found = None if answer is None else answer.get("figures")
    known = {one.name for one in fields(LiveFigures)}
    # Another process may run another version.
    if not isinstance(found, Mapping) or not {"has_client"} <= found.keys() <= known:
        return None
    return LiveFigures(**found)


async def ask_owner(channel: str, op: str, **data: Any) -> Mapping[str, Any] | None:
    """What the process behind a channel answers; None if it doesn't."""
    process = this_process()
    return await process.control.request(channel, op, ANSWER_TIMEOUT_SECS, **data)


def live_figures(live: LiveSession, process: Process) -> LiveFigures:
    """How a call of this process is doing."""
    lag_ms = round(process.loop_lag.worst_secs * 1000, 1)
    connection = live.connection
    if connection is None:
        return LiveFigures(has_client=False, loop_lag_ms=lag_ms)
    return LiveFigures(
        has_client=True,
        silent_secs=round(live.silent_secs, 1),
        messages_in=connection.messages_in,
        messages_out=connection.writer.messages_out,
        bytes_in=connection.bytes_in,
        bytes_out=connection.writer.bytes_out,
        invalid_messages=connection.invalid_messages,
        epoch=live.epoch,
        loop_lag_ms=lag_ms,
    )


# --- in the process that runs the session ---------------------------------------------------------


def answer_operators(process: Process) -> None:
    """Have a process do what operators of other processes ask for."""
    process.on_message("message", partial(_answer_message, process))
    process.on_message("figures", partial(_answer_figures, process))


def _answer_message(process: Process, message: Message) -> None:
    live = live_sessions.get(UUID(message["session"]))
    problem = (
        _send_message(live, message["data"], message["operator"])
        if live is not None
        else "no client is connected"
    )
    process.control.answer(message, problem=problem)


def _answer_figures(process: Process, message: Message) -> None:
    live = live_sessions.get(UUID(message["session"]))
    found = None if live is None else asdict(live_figures(live, process))
    process.control.answer(message, figures=found)
