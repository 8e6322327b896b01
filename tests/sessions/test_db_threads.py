"""Threads for database jobs: deadlines, what is abandoned, what is tried again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from django.db import DataError, InternalError, OperationalError

from tests.sessions.cluster import until
from voicews.sessions import db_threads
from voicews.sessions.db_threads import DatabaseThreads, DatabaseTimeout, retry_until_stored

pytestmark = pytest.mark.django_db(transaction=True)

SHORT_SECS = 0.2


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when jobs that hang may go on: at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_job_that_hangs_is_abandoned_with_its_thread(over: threading.Event) -> None:
    threads = DatabaseThreads("test", 1, SHORT_SECS)
    hanging: list[threading.Thread] = []

    def hang() -> None:
        hanging.append(threading.current_thread())
        over.wait(10)

    with pytest.raises(DatabaseTimeout, match="no answer within 0.2 s"):
        await threads.run(hang)
    # The next one has a thread of its own at once, though there may be only one.
    assert await threads.run(threading.current_thread) not in hanging
    assert threads.thread_count == 1
    assert hanging[0].is_alive()
    over.set()
    await until(lambda: not hanging[0].is_alive(), 5.0)
    assert await threads.run(lambda: "goes on") == "goes on"


async def test_what_waits_behind_a_job_that_hangs_gets_its_turn(over: threading.Event) -> None:
    threads = DatabaseThreads("test", 1, SHORT_SECS)
    hanging = asyncio.create_task(threads.run(lambda: over.wait(10), SHORT_SECS))
    waiting = asyncio.create_task(threads.run(lambda: "done", 5.0))
    assert await waiting == "done"
    with pytest.raises(DatabaseTimeout):
        await hanging


async def test_a_job_that_found_no_thread_in_time_is_never_run(over: threading.Event) -> None:
    threads = DatabaseThreads("test", 1, 5.0)
    ran: list[bool] = []
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        over.wait(10)

    hanging = asyncio.create_task(threads.run(hang))
    await until(begun.is_set, 5.0)
    with pytest.raises(DatabaseTimeout):
        await threads.run(lambda: ran.append(True), SHORT_SECS)
    over.set()
    await hanging
    await threads.run(lambda: None)
    assert not ran


async def test_an_abandoned_job_is_not_tried_again(over: threading.Event) -> None:
    threads = DatabaseThreads("test", 1, SHORT_SECS)
    count = 0
    done = threading.Event()

    def fail_late() -> None:
        nonlocal count
        count += 1
        over.wait(10)
        done.set()
        raise OperationalError("the connection is closed")

    with pytest.raises(DatabaseTimeout):
        await threads.run(fail_late)
    over.set()
    await until(done.is_set, 5.0)
    await asyncio.sleep(SHORT_SECS)
    assert count == 1


async def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_threads, "IDLE_SECS", 0.05)
    threads = DatabaseThreads("test", 4)
    both = threading.Barrier(4)
    await asyncio.gather(*(threads.run(lambda: both.wait(5)) for _ in range(4)))
    assert threads.thread_count > 1
    await until(lambda: not threads.thread_count, 5.0)
    assert await threads.run(lambda: "again") == "again"


async def test_a_caller_that_is_gone_stops_no_job() -> None:
    threads = DatabaseThreads("test", 1)
    begun, done = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        done.wait(5)

    calling = asyncio.create_task(threads.run(job))
    await until(begun.is_set, 5.0)
    calling.cancel()
    done.set()
    assert await threads.run(lambda: "next") == "next"


@pytest.mark.parametrize("error", [OperationalError("gone"), InternalError("read-only")])
async def test_what_may_pass_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_threads, "FIRST_RETRY_SECS", 0.01)
    left = 5

    def job() -> str:
        nonlocal left
        if left:
            left -= 1
            raise error
        return "stored"

    assert await retry_until_stored(job) == "stored"


@pytest.mark.parametrize("error", [DataError("no such text"), ValueError("surrogates")])
async def test_what_will_never_do_is_raised(error: Exception) -> None:
    def job() -> None:
        raise error

    with pytest.raises(type(error)):
        await retry_until_stored(job)


async def test_pages_that_look_again_hold_up_no_claim(over: threading.Event) -> None:
    polling = [
        asyncio.create_task(db_threads.polling_database.run(lambda: over.wait(10)))
        for _ in range(8)
    ]
    records = asyncio.create_task(db_threads.records_database.run(lambda: over.wait(10)))
    async with asyncio.timeout(5):
        assert await db_threads.session_database.run(lambda: "claimed") == "claimed"
    over.set()
    await asyncio.gather(*polling, records)
