"""Whether this process is well: for load balancers, and for people."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer
from django.db import connections

from voicews.sessions import store
from voicews.sessions.db_threads import polling_database
from voicews.sessions.process import Process

DATABASE_TIMEOUT_SECS = 5.0
CHANNEL_LAYER_TIMEOUT_SECS = 2.0
#: Seconds for which an answer is cached.
CACHE_SECS = 1.0
#: A loop that was so late is too busy for audio.
LOOP_LAG_LIMIT_SECS = 0.5


class Health:
    """Asks the database and the channel layer, at most once in `CACHE_SECS`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._asked_at = float("-inf")
        self._asking: asyncio.Future[dict[str, Any]] | None = None

    async def report(self) -> dict[str, Any]:
        """`status` (`ok`, `degraded`: calls go on, `failed`), and the reasons for it."""
        if self._asking is None or monotonic() - self._asked_at > CACHE_SECS:
            self._asked_at = monotonic()
            self._asking = asyncio.ensure_future(self._ask())
        return {**await asyncio.shield(self._asking), **self._own()}

    def _own(self) -> dict[str, Any]:
        process = self._process
        return {
            "state": process.state.name.lower(),
            "live_sessions": len(process.live_sessions),
            "capacity": process.capacity,
        }

    async def _ask(self) -> dict[str, Any]:
        process = self._process
        database, layer = await asyncio.gather(_ask_database(), self._ask_channel_layer())
        lag_secs = process.loop_lag.worst_secs
        loop = {"ok": lag_secs < LOOP_LAG_LIMIT_SECS, "worst_lag_ms": round(lag_secs * 1000, 1)}
        heartbeat = self._heartbeat()
        well = database["ok"] and loop["ok"] and heartbeat["ok"]
        return {
            "status": ("ok" if layer["ok"] else "degraded") if well else "failed",
            "database": database,
            "heartbeat": heartbeat,
            "channel_layer": layer,
            "event_loop": loop,
        }

    def _heartbeat(self) -> dict[str, Any]:
        """Whether this process can renew its lease: a database that answers may not store."""
        since = self._process.heartbeat_failed_since
        if since is None:
            return {"ok": True, "failing_secs": 0.0}
        return {"ok": False, "failing_secs": round(monotonic() - since, 1)}

    async def _ask_channel_layer(self) -> dict[str, Any]:
        if get_channel_layer() is None:
            return {"ok": True, "ms": None}
        control = self._process.control
        asked_at = monotonic()
        answer = await control.request(control.name, "ping", CHANNEL_LAYER_TIMEOUT_SECS)
        if answer is None:
            return {"ok": False}
        return {"ok": True, "ms": round((monotonic() - asked_at) * 1000, 1)}


_healths: WeakKeyDictionary[Process, Health] = WeakKeyDictionary()


def health_of(process: Process) -> Health:
    """The one that asks for a process."""
    health = _healths.get(process)
    if health is None:
        health = _healths[process] = Health(process)
    return health


async def report_of_wsgi() -> dict[str, Any]:
    """The report of a server that has no sockets: it runs no calls and has no lease."""
    database = await _ask_database()
    return {"status": "ok" if database["ok"] else "failed", "state": "wsgi", "database": database}


async def _ask_database() -> dict[str, Any]:
    asked_at = monotonic()
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECS):
            await polling_database.run(_query)
    except Exception:  # noqa: BLE001 - whatever it is, it does not answer
        return {"ok": False}
    return {"ok": True, "ms": round((monotonic() - asked_at) * 1000, 1)}


def _query() -> None:
    with connections[store.database()].cursor() as cursor:
        cursor.execute("SELECT 1")
