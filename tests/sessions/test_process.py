"""One process's lease: what it does while it can't renew it, and when it can again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from django.db import OperationalError

from tests.sessions.cluster import until
from voicews.exceptions import Busy
from voicews.sessions import store
from voicews.sessions.health import Health
from voicews.sessions.process import Process, this_process
from voicews.signals import process_resumed, process_suspended

pytestmark = pytest.mark.django_db(transaction=True)

LEASE_SECS = 2.0


@pytest.fixture(autouse=True)
async def short_times(settings: Any) -> AsyncIterator[None]:
    settings.VOICEWS = {**settings.VOICEWS, "LEASE_SECS": LEASE_SECS, "DRAIN_TIMEOUT_SECS": 0}
    yield
    drained = this_process().drain_soon()
    if drained is not None:
        await drained


async def mute(process: Process) -> None:
    await until(lambda: not process.has_lease, 10.0)


async def test_a_mute_process_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    process = this_process()
    await process.started()
    heartbeat = store.heartbeat

    def full(*args: Any) -> Any:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(store, "heartbeat", full)
    await mute(process)
    with pytest.raises(Busy, match="not ready"):
        await process.started(0.2)
    # It answers queries all the same: health must not say that it is well.
    report = await Health(process).report()
    assert report["database"]["ok"]
    assert (report["heartbeat"]["ok"], report["status"]) == (False, "failed")
    waiting = asyncio.create_task(process.started(10.0))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    monkeypatch.setattr(store, "heartbeat", heartbeat)
    await waiting
    assert process.has_lease
    report = await Health(process).report()
    assert (report["heartbeat"]["ok"], report["status"]) == (True, "ok")


async def test_after_a_heartbeat_that_hung_it_goes_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = this_process()
    await process.started()
    told: list[str] = []

    def suspended(**kwargs: Any) -> None:
        told.append("suspended")

    def resumed(**kwargs: Any) -> None:
        told.append("resumed")

    process_suspended.connect(suspended)
    process_resumed.connect(resumed)
    heartbeat = store.heartbeat
    over = threading.Event()

    def hang(*args: Any) -> Any:
        over.wait(20)
        return heartbeat(*args)

    monkeypatch.setattr(store, "heartbeat", hang)
    await mute(process)
    over.set()
    await until(lambda: process.has_lease, 10.0)
    # It stays so: no lease that is almost over is taken for a new one.
    held_until = monotonic() + LEASE_SECS
    while monotonic() < held_until:
        assert process.has_lease
        await asyncio.sleep(0.02)
    assert told == ["suspended", "resumed"]
    process_suspended.disconnect(suspended)
    process_resumed.disconnect(resumed)
