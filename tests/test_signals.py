from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import current_loop, settle, virtual_time
from voicews.exceptions import ConfigurationError
from voicews.signals import DELIVERY_TIMEOUT_SECS, EVENTS, EventHandler, EventSource

NAMES = frozenset(["on_client_connected", "on_client_disconnected", "on_websocket_ready"])


class Sender:
    """What a transport is to its events."""

    def __init__(self) -> None:
        self.source = EventSource(self, NAMES)


@pytest.fixture(autouse=True)
def no_receiver_is_left() -> Iterator[None]:
    before = {name: len(signal.receivers) for name, signal in EVENTS.items()}
    yield
    assert {name: len(signal.receivers) for name, signal in EVENTS.items()} == before


@virtual_time
async def test_every_event_name_is_a_signal() -> None:
    for name, signal in EVENTS.items():
        sender = object()
        source = EventSource(sender, frozenset([name]))
        seen: list[tuple[Any, ...]] = []
        source.connect(name, lambda *args, seen=seen: seen.append(args))
        source.send(name, websocket="ws")
        await settle()
        assert seen == [(sender, "ws")]
        assert signal.has_listeners(sender)
        assert not signal.has_listeners(object())
        source.disconnect_all()
        await settle()


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ConfigurationError) as error:
        Sender().source.connect("on_client_conected", print)
    assert str(error.value) == (
        "expected one of the events on_client_connected, on_client_disconnected, "
        "on_websocket_ready, found 'on_client_conected'"
    )
    # A signal, but none of this transport's events.
    with pytest.raises(ConfigurationError):
        Sender().source.connect("on_session_timeout", print)


@virtual_time
async def test_plain_and_async_handlers_on_the_event_loop() -> None:
    sender = Sender()
    seen: list[Any] = []

    def plain(*args: Any) -> None:
        seen.append(("plain", args, asyncio.get_running_loop()))

    async def coroutine(*args: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("async", args, asyncio.get_running_loop()))

    class Callable:
        async def __call__(self, *args: Any) -> None:
            seen.append(("object", args, asyncio.get_running_loop()))

    async def bound(name: str, *args: Any) -> None:
        seen.append((name, args, asyncio.get_running_loop()))

    handlers = (
        plain,
        coroutine,
        Callable(),
        functools.partial(bound, "partial"),
        lambda *args: bound("lambda", *args),
    )
    for handler in handlers:
        sender.source.connect("on_client_connected", handler)
    sender.source.send("on_client_connected", websocket="ws")
    await settle()
    here = (sender, "ws"), asyncio.get_running_loop()
    names = ("plain", "async", "object", "partial", "lambda")
    assert sorted(seen, key=lambda entry: names.index(entry[0])) == [(n, *here) for n in names]
    sender.source.disconnect_all()
    await settle()


@virtual_time
async def test_events_keep_their_order_whatever_a_handler_takes() -> None:
    sender = Sender()
    seen: list[Any] = []

    async def slow(_sender: object, websocket: int) -> None:
        await asyncio.sleep(1 / (websocket + 1))
        seen.append(("connected", websocket))

    sender.source.connect("on_client_connected", slow)
    sender.source.connect("on_client_disconnected", lambda _, ws: seen.append(("gone", ws)))
    for n in range(3):
        sender.source.send("on_client_connected", websocket=n)
        sender.source.send("on_client_disconnected", websocket=n)
    assert seen == []
    await asyncio.sleep(5)
    assert seen == [(kind, n) for n in range(3) for kind in ("connected", "gone")]
    sender.source.disconnect_all()
    await settle()


@virtual_time
async def test_a_failing_handler_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender()
    seen: list[str] = []

    def fail(*args: Any) -> None:
        raise ValueError("secret")

    async def fail_later(*args: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("secret")

    sender.source.connect("on_client_connected", fail)
    sender.source.connect("on_client_connected", fail_later)
    sender.source.connect("on_client_connected", lambda *args: seen.append("other"))
    sender.source.connect("on_client_disconnected", lambda *args: seen.append("next"))
    sender.source.send("on_client_connected", websocket=1)
    sender.source.send("on_client_disconnected", websocket=1)
    await settle()
    assert seen == ["other", "next"]
    assert len(caplog.records) == 2
    sender.source.disconnect_all()
    await settle()


@virtual_time
async def test_a_handler_that_gives_itself_up() -> None:
    sender = Sender()
    seen: list[str] = []

    async def give_up(*args: Any) -> None:
        raise asyncio.CancelledError

    sender.source.connect("on_client_connected", give_up)
    sender.source.connect("on_client_disconnected", lambda *args: seen.append("next"))
    sender.source.send("on_client_connected", websocket=1, on_delivered=lambda: seen.append("then"))
    sender.source.send("on_client_disconnected", websocket=1)
    await settle()
    assert seen == ["then", "next"]
    sender.source.disconnect_all()
    await settle()


class TestThen:
    @virtual_time
    async def test_at_once_when_nobody_listens(self) -> None:
        seen: list[str] = []
        Sender().source.send("on_websocket_ready", on_delivered=lambda: seen.append("then"))
        assert seen == ["then"]
        assert current_loop().timers() == []

    @virtual_time
    async def test_after_the_receivers(self) -> None:
        sender = Sender()
        seen: list[str] = []

        async def slow(*args: Any) -> None:
            await asyncio.sleep(1)
            seen.append("handler")

        sender.source.connect("on_websocket_ready", slow)
        sender.source.send("on_websocket_ready", on_delivered=lambda: seen.append("then"))
        await asyncio.sleep(2)
        assert seen == ["handler", "then"]
        sender.source.disconnect_all()
        await settle()
        assert current_loop().timers() == []

    @virtual_time
    async def test_a_handler_that_never_returns_holds_no_end_up(self) -> None:
        sender = Sender()
        seen: list[str] = []
        release = asyncio.Event()

        async def converse(*args: Any) -> None:
            await release.wait()

        sender.source.connect("on_client_connected", converse)
        sender.source.send("on_client_connected", websocket=1)
        sender.source.send("on_websocket_ready", on_delivered=lambda: seen.append("then"))
        await asyncio.sleep(DELIVERY_TIMEOUT_SECS + 1)
        assert seen == ["then"]
        release.set()
        await settle()
        assert seen == ["then"]
        sender.source.disconnect_all()
        await settle()


class TestGlobalReceivers:
    """What a project connects with `@receiver(client_connected)`."""

    @virtual_time
    async def test_plain_and_async(self) -> None:
        sender = Sender()
        seen: list[Any] = []

        def plain(**kwargs: Any) -> None:
            seen.append(("plain", kwargs["transport"], kwargs["websocket"]))

        async def coroutine(**kwargs: Any) -> None:
            seen.append(("async", kwargs["transport"], kwargs["websocket"]))

        signal = EVENTS["on_client_connected"]
        signal.connect(plain)
        signal.connect(coroutine)
        try:
            sender.source.send("on_client_connected", websocket="ws")
            assert sender.source._worker is not None
            await sender.source._worker
        finally:
            signal.disconnect(plain)
            signal.disconnect(coroutine)
        assert sorted(seen) == [("async", sender, "ws"), ("plain", sender, "ws")]


@virtual_time
async def test_handlers_hear_of_their_own_sender_only() -> None:
    one, other = Sender(), Sender()
    seen: list[Any] = []
    one.source.connect("on_client_connected", lambda *args: seen.append(args))
    other.source.send("on_client_connected", websocket=1)
    await settle()
    assert seen == []
    one.source.disconnect_all()
    await settle()


@virtual_time
async def test_events_sent_right_after_the_end_are_still_heard() -> None:
    sender = Sender()
    seen: list[str] = []
    sender.source.connect("on_client_disconnected", lambda *args: seen.append("gone"))
    sender.source.disconnect_all()
    sender.source.send("on_client_disconnected", websocket=1)
    await settle()
    assert seen == ["gone"]
    sender.source.send("on_client_disconnected", websocket=1)
    await settle()
    assert seen == ["gone"]


@virtual_time
async def test_a_handler_gets_the_first_arguments_that_it_takes() -> None:
    sender = Sender()
    seen: list[Any] = []

    class Receiver:
        async def method(self, transport: object) -> None:
            seen.append((transport,))

    def two(transport: object, websocket: object, extra: str = "") -> None:
        seen.append((transport, websocket, extra))

    def keyword_only(transport: object, *, verbose: bool = False) -> None:
        seen.append((transport, verbose))

    def none() -> None:
        seen.append(())

    def every(*args: object) -> None:
        seen.append(args)

    handlers: list[EventHandler] = [
        Receiver().method,
        two,
        keyword_only,
        none,
        every,
        functools.partial(two, 1),
    ]
    for handler in handlers:
        sender.source.connect("on_client_connected", handler)
    sender.source.send("on_client_connected", websocket="ws")
    await settle()
    # Receivers run at the same time.
    expected = [(sender, "ws", ""), (sender, False), (), (sender, "ws"), (1, sender, "ws")]
    assert sorted(seen, key=str) == sorted([*expected, (sender,)], key=str)
    sender.source.disconnect_all()
    await settle()
