from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.fakes import FakeSocket, current_loop, settle, virtual_time
from voicews.exceptions import WriteTimeout
from voicews.transports.writer import MAX_PENDING_BYTES, SocketWriter

TIMEOUT_SECS = 10.0


class Writer(SocketWriter):
    """Remembers its failures."""

    def __init__(self, socket: FakeSocket) -> None:
        self.failures: list[Exception | None] = []
        super().__init__(socket, TIMEOUT_SECS, lambda writer: self.failures.append(writer.error))


@virtual_time
async def test_messages_are_written_in_order() -> None:
    socket = FakeSocket()
    writer = Writer(socket)
    for n in range(50):
        writer.put(str(n))
        if n % 7 == 0:
            await asyncio.sleep(0)
    await settle()
    assert socket.sent == [str(n) for n in range(50)]
    assert not writer.has_work
    writer.stop()
    assert current_loop().timers() == []


@virtual_time
async def test_urgent_ones_go_first() -> None:
    socket = FakeSocket()
    writer = Writer(socket)
    for data, urgent in (("1", False), ("u1", True), ("2", False), ("u2", True)):
        writer.put(data, urgent=urgent)
    await settle()
    assert socket.sent == ["u1", "u2", "1", "2"]
    writer.stop()


@virtual_time
async def test_one_write_at_a_time() -> None:
    class Busy(FakeSocket):
        busy = 0

        async def send(self, data: str | bytes) -> None:
            self.busy += 1
            assert self.busy == 1
            await asyncio.sleep(0.01)
            self.busy -= 1
            await super().send(data)

    socket = Busy()
    writer = Writer(socket)
    for n in range(20):
        writer.put(str(n))
        await writer.drain()
        await asyncio.sleep(0.003)
    await asyncio.sleep(1)
    assert socket.sent == [str(n) for n in range(20)]
    writer.stop()


@virtual_time
async def test_corked_it_waits_for_drain() -> None:
    socket = FakeSocket()
    writer = Writer(socket)
    writer.corked = True
    writer.put("1")
    await settle()
    assert socket.sent == []
    writer.corked = False
    assert writer.has_work
    await writer.drain()
    assert socket.sent == ["1"]
    writer.stop()


@virtual_time
async def test_corked_while_another_task_is_writing() -> None:
    socket = FakeSocket()
    socket.flows.clear()
    writer = Writer(socket)
    writer.put("1")
    await settle()
    writer.corked = True
    writer.put("2")
    writer.corked = False
    # It does not wait for the peer behind the other task's back.
    await asyncio.wait_for(writer.drain(), 1)
    socket.flows.set()
    await settle()
    assert socket.sent == ["1", "2"]
    writer.stop()


@virtual_time
async def test_drop_pending_keeps_what_is_urgent() -> None:
    socket = FakeSocket()
    socket.flows.clear()
    writer = Writer(socket)
    writer.put("under way")
    await settle()
    writer.put("dropped")
    writer.put("kept", urgent=True)
    writer.drop_pending()
    writer.put("next")
    socket.flows.set()
    await settle()
    assert socket.sent == ["under way", "kept", "next"]
    writer.stop()


class TestStall:
    @virtual_time
    async def test_a_write_without_progress_fails(self) -> None:
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.put("1")
        writer.put("2")
        await asyncio.sleep(TIMEOUT_SECS - 0.1)
        assert writer.failures == []
        await asyncio.sleep(0.2)
        assert isinstance(writer.error, WriteTimeout)
        assert str(writer.error) == "no progress in 10 s"
        assert writer.failures == [writer.error]
        writer.put("3")
        socket.flows.set()
        await settle()
        assert socket.sent == []
        assert current_loop().timers() == []

    @virtual_time
    async def test_a_slow_peer_is_no_stalled_one(self) -> None:
        class Slow(FakeSocket):
            async def send(self, data: str | bytes) -> None:
                await asyncio.sleep(TIMEOUT_SECS * 0.9)
                await super().send(data)

        socket = Slow()
        writer = Writer(socket)
        for n in range(10):
            writer.put(str(n))
        await asyncio.sleep(TIMEOUT_SECS * 10)
        assert len(socket.sent) == 10
        assert writer.error is None
        writer.stop()
        assert current_loop().timers() == []

    @virtual_time
    async def test_the_task_that_it_ran_in_goes_on(self) -> None:
        """As a consumer's receive loop, which writes what a message was answered with."""
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.corked = True
        writer.put("1")
        writer.corked = False
        await writer.drain()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        assert isinstance(writer.error, WriteTimeout)

    @virtual_time
    async def test_somebody_elses_cancel_at_the_same_moment_is_not_swallowed(self) -> None:
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.corked = True
        writer.put("1")
        task = asyncio.create_task(writer.drain())
        await settle()
        current_loop().call_at(current_loop().time() + TIMEOUT_SECS, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(writer.error, WriteTimeout)

    @virtual_time
    async def test_a_socket_that_says_it_in_its_own_way(self) -> None:
        """Servers turn a cancelled write into an error of theirs."""

        class Own(FakeSocket):
            async def send(self, data: str | bytes) -> None:
                try:
                    await super().send(data)
                except asyncio.CancelledError:
                    raise OSError("gone") from None

        socket = Own()
        socket.flows.clear()
        writer = Writer(socket)
        writer.corked = True
        writer.put("1")
        await writer.drain()
        assert writer.failures == [writer.error]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    @virtual_time
    async def test_a_cancelled_task_is_cancelled(self) -> None:
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.corked = True
        writer.put("1")
        task = asyncio.create_task(writer.drain())
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert writer.error is None
        writer.stop()


@virtual_time
async def test_an_error_of_the_socket_fails_it_once() -> None:
    socket = FakeSocket()
    socket.error = ConnectionResetError("gone")
    writer = Writer(socket)
    writer.put("1")
    writer.put("2")
    await settle()
    writer.put("3")
    await settle()
    assert writer.failures == [socket.error]
    assert not writer.has_work
    assert current_loop().timers() == []


@virtual_time
async def test_too_much_waits() -> None:
    socket = FakeSocket()
    socket.flows.clear()
    writer = Writer(socket)
    data = bytes(MAX_PENDING_BYTES // 4)
    writer.put(data)
    await settle()
    for _ in range(4):
        writer.put(data)
    assert writer.failures == []
    writer.put(b"x", urgent=True)
    assert isinstance(writer.error, WriteTimeout)
    assert str(MAX_PENDING_BYTES + 1) in str(writer.error)
    assert not writer.has_work
    socket.flows.set()
    await settle()


@virtual_time
async def test_what_was_dropped_or_written_does_not_count() -> None:
    socket = FakeSocket()
    writer = Writer(socket)
    data = bytes(MAX_PENDING_BYTES // 2)
    for _ in range(5):
        writer.put(data)
        await settle()
        writer.put(data)
        writer.drop_pending()
    assert writer.failures == []
    writer.stop()


class TestClose:
    @virtual_time
    async def test_what_waits_is_written_first(self) -> None:
        socket = FakeSocket()
        writer = Writer(socket)
        writer.put("1")
        await writer.close(4000, "time is up", 0.5)
        assert socket.sent == ["1"]
        assert socket.closed == [(4000, "time is up")]
        writer.put("2")
        await settle()
        assert socket.sent == ["1"]
        assert current_loop().timers() == []
        assert writer.failures == []

    @virtual_time
    async def test_what_another_task_is_writing_is_waited_for(self) -> None:
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.put("1")
        writer.put("2")
        await settle()
        current_loop().call_later(0.3, socket.flows.set)
        await writer.close(1000, "", 0.5)
        assert socket.sent == ["1", "2"]
        assert socket.closed == [(1000, "")]

    @pytest.mark.parametrize("begun", [False, True])
    @virtual_time
    async def test_a_peer_that_reads_no_more_holds_nothing_up(self, begun: bool) -> None:
        socket = FakeSocket()
        socket.flows.clear()
        writer = Writer(socket)
        writer.put("1")
        if begun:
            await settle()
        started = current_loop().time()
        await writer.close(1000, "", 0.5)
        assert current_loop().time() - started == pytest.approx(0.5)
        await asyncio.sleep(TIMEOUT_SECS + 1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert current_loop().timers() == []

    @virtual_time
    async def test_a_peer_that_does_not_answer_the_close(self) -> None:
        socket = FakeSocket()
        socket.close_answered.clear()
        writer = Writer(socket)
        started = current_loop().time()
        await writer.close(1000, "", 0.5)
        assert current_loop().time() - started == pytest.approx(0.5)

    @virtual_time
    async def test_the_peer_was_faster(self) -> None:
        class Gone(FakeSocket):
            async def close(self, code: int, reason: str) -> None:
                raise RuntimeError("close after close")

        writer = Writer(Gone())
        await writer.close(1000, "", 0.5)
        assert writer.failures == []

    @virtual_time
    async def test_a_failed_writer_still_closes(self) -> None:
        socket = FakeSocket()
        socket.error = OSError("gone")
        writer = Writer(socket)
        writer.put("1")
        await settle()
        await writer.close(1011, "", 0.5)
        assert socket.closed == [(1011, "")]


@virtual_time
async def test_nothing_keeps_the_socket_alive() -> None:
    for fails in (False, True):
        socket = FakeSocket()
        if fails:
            socket.error = OSError("gone")
        writer = Writer(socket)
        writer.put("1")
        await settle()
        writer.stop()
        reference = weakref.ref(socket)
        del socket, writer
        gc.collect()
        assert reference() is None
