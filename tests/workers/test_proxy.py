"""Proxies on real sockets: a worker here and one there, a cable that is cut, hostile remotes."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.polling import until
from tests.relay import Relay
from tests.server_processes import ROOT, free_port, server_environment
from tests.workers.agents import Listener, Researcher
from tests.workers.remote import TOKEN
from voicews.exceptions import ConfigurationError, ConnectFailed
from voicews.frames import TextFrame
from voicews.servers.embedded import Listener as Port
from voicews.signals import client_connected, connected, disconnected
from voicews.transports import ReconnectPolicy
from voicews.workers import (
    BaseWorker,
    BusDataMessage,
    BusEndMessage,
    BusFrameMessage,
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusJobUpdateMessage,
    BusMessage,
    BusWorkerErrorMessage,
    BusWorkerLocalErrorMessage,
    BusWorkerRegistryMessage,
    JobError,
    JobGroupError,
    JobParams,
    JSONMessageSerializer,
    Payload,
    WebSocketProxyClient,
    WebSocketProxyServer,
    WorkerRegistryEntry,
    WorkerRunner,
    job,
)
from voicews.workers import consumers as consumers_module
from voicews.workers.consumers import ProxyConsumer
from voicews.workers.proxy.link import HELLO, LINK_HEADER, RECEIVED, SUBPROTOCOL

QUICK = ReconnectPolicy(first_delay_secs=0.05, max_delay_secs=0.1, max_failures=None)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
serializer = JSONMessageSerializer()


class Research(ProxyConsumer):
    """The consumer that most tests connect to; it keeps what it has made."""

    worker_name = "research"
    remote_worker_name = "voice"
    tokens = [TOKEN]
    heartbeat_secs = 0.2
    made: ClassVar[list[Research]] = []
    workers: ClassVar[list[Researcher]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).made.append(self)

    def build_workers(self) -> Sequence[BaseWorker]:
        worker = Researcher("research")
        type(self).workers.append(worker)
        return [worker]

    @property
    def server(self) -> WebSocketProxyServer:
        assert self.proxy is not None
        return self.proxy


@pytest.fixture
def research() -> type[Research]:
    return type("TestResearch", (Research,), {"made": [], "workers": []})


@asynccontextmanager
async def serving(consumer: type[ProxyConsumer], port: int = 0) -> AsyncIterator[Port]:
    listener = Port(consumer.as_asgi(), "127.0.0.1", port)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()
        # What a link leaves behind ends by itself, after a while.
        for proxy in list(consumers_module._links.values()):
            proxy._finished.set()
        await until(lambda: not consumers_module._serving)


class Here:
    """A worker called voice and the proxy of its remote, on one runner."""

    def __init__(self, port: int, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "remote_worker_name": "research",
            "local_worker_name": "voice",
            "headers": HEADERS,
            "active": True,
            "reconnect": QUICK,
            "heartbeat_secs": 0.2,
        }
        self.voice = Listener("voice")
        url = f"ws://127.0.0.1:{port}/workers/?secret=1"
        self.proxy = WebSocketProxyClient("proxy", url=url, **defaults | options)
        self.events: list[tuple[str, Any]] = []
        for name in sorted(self.proxy.events):
            self.proxy.event_handler(name)(self._remember(name))
        self.runner = WorkerRunner()

    def _remember(self, name: str) -> Callable[..., None]:
        def handler(worker: BaseWorker, argument: Any) -> None:
            assert worker is self.proxy
            self.events.append((name, argument))

        return handler

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def __aenter__(self) -> Here:
        await self.runner.add_workers(self.voice, self.proxy)
        await self.runner.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.runner.stop()

    async def linked(self) -> None:
        await until(lambda: "research" in self.runner.registry)

    def number(self, n: int) -> None:
        self.runner.bus.send(
            BusJobRequestMessage(
                source="voice",
                target="research",
                job_id=f"number {n}",
                job_name="number",
                payload={"n": n},
            )
        )


# --- jobs over a link ---------------------------------------------------------------------------


async def test_a_job_is_asked_here_done_there_and_streamed_back(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port) as here:
        # No wait: the job waits for the remote worker.
        params = JobParams(name="stream", payload={"n": 3}, timeout=5)
        async with here.voice.job("research", params=params) as one:
            events = [(event.type, event.data) async for event in one]
        assert events == [
            ("update", {"at": 0}),
            ("stream_start", {"of": 3}),
            ("stream_data", {"n": 0}),
            ("stream_data", {"n": 1}),
            ("stream_data", {"n": 2}),
            ("stream_end", {"sum": 3}),
        ]
        assert one.response == {"sum": 3}
        assert here.names() == ["on_connected"]
        assert isinstance(here.events[0][1], ClientConnection)
        assert here.proxy.is_connected


async def test_a_job_is_cancelled_over_the_link(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port) as here:
        job_id = await here.voice.request_job("research", params=JobParams(name="forever"))
        await until(lambda: research.workers[0].active_jobs)
        await here.voice.cancel_job_group(job_id)
        await until(lambda: research.workers[0].cancelled == [job_id])


async def test_the_other_side_can_ask_too(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port) as here:
        await here.linked()
        voice = Researcher("voice")
        await here.voice.stop()
        await until(lambda: here.runner.get_worker("voice") is None)
        await here.runner.add_workers(voice)
        worker = research.workers[0]
        params = JobParams(name="double", payload={"n": 21}, timeout=5)
        async with worker.job("voice", params=params) as one:
            pass
        assert one.response == {"result": 42}


async def test_clients_know_nothing_of_one_another(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port) as one, Here(port.port) as two:
        for here in (one, two):
            params = JobParams(name="double", payload={"n": 1}, timeout=5)
            async with here.voice.job("research", params=params):
                pass
        assert len(research.workers) == 2
        assert len([m for m in one.voice.heard if m.source == "research"]) == 1


async def test_clients_may_share_a_runner() -> None:
    runner = WorkerRunner()
    shared = Researcher("research")
    await runner.add_workers(shared)

    class Shared(ProxyConsumer):
        worker_name = "research"
        tokens = [TOKEN]

        @property
        def remote_worker_name(self) -> str:  # type: ignore[override]  # one for each client
            return str(self.scope["path"]).strip("/")

    Shared.runner = runner
    async with serving(Shared) as port:
        for name in ("anna", "ben"):
            proxy = WebSocketProxyClient(
                "proxy",
                url=f"ws://127.0.0.1:{port.port}/{name}/",
                remote_worker_name="research",
                local_worker_name=name,
                headers=HEADERS,
                active=True,
            )
            asker = Listener(name)
            async with WorkerRunner() as here:
                await here.add_workers(asker, proxy)
                params = JobParams(name="double", payload={"n": 1}, timeout=5)
                async with asker.job("research", params=params) as one:
                    pass
                assert one.response == {"result": 2}
    await runner.stop()


async def test_events_are_signals_too(research: type[Research]) -> None:
    heard: list[dict[str, Any]] = []

    def receiver(**kwargs: Any) -> None:
        heard.append(kwargs)

    signals = (connected, disconnected, client_connected)
    for signal in signals:
        signal.connect(receiver)
    try:
        async with serving(research) as port:
            async with Here(port.port) as here:
                await here.linked()
            await until(lambda: len(heard) == 3)
    finally:
        for signal in signals:
            signal.disconnect(receiver)
    assert {event["sender"] for event in heard} == {here.proxy, research.made[0].proxy}
    for event in heard:
        assert event["worker"] is event["sender"]
        assert isinstance(event["websocket"], ClientConnection | Research)


async def test_the_server_s_events(research: type[Research]) -> None:
    events: list[tuple[str, Any]] = []

    class Watched(research):  # type: ignore[misc, valid-type]  # a class made by a fixture
        def set_up(self, proxy: WebSocketProxyServer) -> None:
            for name in ("on_client_connected", "on_client_disconnected"):
                proxy.event_handler(name)(lambda w, s, n=name: events.append((n, s)))
            with pytest.raises(ConfigurationError):
                proxy.event_handler("on_connected")(lambda *_: None)

    async with serving(Watched) as port:
        async with Here(port.port) as here:
            await here.linked()
        await until(lambda: len(events) == 2)
    assert [name for name, _ in events] == ["on_client_connected", "on_client_disconnected"]
    assert all(isinstance(websocket, Watched) for _, websocket in events)


# --- who may connect ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"},
    ],
)
async def test_who_has_no_token_stays_outside(
    research: type[Research], headers: dict[str, str] | None
) -> None:
    async with serving(research) as port, Here(port.port, headers=headers) as here:
        # Asked before it is known, without a limit.
        with pytest.raises(JobError, match="refused the connection with HTTP 403"):
            async with here.voice.job("research"):
                pass
        await until(lambda: here.events)
        name, error = here.events[0]
        assert name == "on_connection_failed"
        assert isinstance(error, ConnectFailed)
        assert error.status == 403
        assert "secret" not in str(error)
        # It means it: nobody tries again, and the bus is told.
        await until(lambda: here.voice.of(BusWorkerErrorMessage))
        assert here.names() == ["on_connection_failed"]
        assert not here.proxy.active
        with pytest.raises(JobError, match="not ready: ws://.* refused"):
            async with here.voice.job("research", params=JobParams(timeout=5)):
                pass
        # Whoever activates it again may hope again.
        await here.voice.activate_worker("proxy")
        await until(lambda: here.names().count("on_connection_failed") == 2)
    assert research.workers == []


@pytest.mark.parametrize("tokens", [[], [""]])
async def test_by_default_nobody_may_connect(research: type[Research], tokens: list[str]) -> None:
    research.tokens = tokens
    async with serving(research) as port:
        for headers in ({}, {"Authorization": "Bearer "}, HEADERS):
            with pytest.raises(InvalidStatus, match="403"):
                await connect(f"ws://127.0.0.1:{port.port}/", additional_headers=headers)


def test_the_defaults_are_those_of_the_reference() -> None:
    proxy = WebSocketProxyClient(
        "proxy", url="ws://h/", remote_worker_name="a", local_worker_name="b"
    )
    assert proxy._starts_active is False
    assert proxy._forward_messages == ()
    assert ProxyConsumer.tokens == ()
    with pytest.raises(ConfigurationError, match="ws://"):
        WebSocketProxyClient("p", url="http://h/", remote_worker_name="a", local_worker_name="b")


async def test_it_connects_when_it_is_activated(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port, active=False) as here:
        here.number(1)
        await asyncio.sleep(0.1)
        assert here.events == []
        assert here.proxy.dropped_messages == 1
        await here.voice.activate_worker("proxy")
        await here.linked()
        await here.voice.deactivate_worker("proxy")
        await until(lambda: here.names() == ["on_connected", "on_disconnected"])
        assert here.events[1][1].close_code == 1000
        await until(lambda: "research" not in here.runner.registry)
        await here.voice.activate_worker("proxy")
        await here.linked()


async def test_it_has_been_activated_when_the_link_is_open_or_has_failed(
    research: type[Research],
) -> None:
    async with serving(research) as port, Here(port.port, active=False) as here:
        await here.proxy.on_activated(None)
        assert here.proxy.is_connected
        await here.proxy.on_activated(None)
        assert len(research.made) == 1
    async with Here(free_port(), active=False) as here:
        async with asyncio.timeout(5):
            await here.proxy.on_activated(None)
        assert not here.proxy.is_connected


async def test_a_deactivation_does_not_wait_for_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with Here(listener.getsockname()[1], active=False) as here:
            await here.voice.activate_worker("proxy")
            await until(lambda: here.proxy._linking is not None)
            await here.voice.deactivate_worker("proxy")
            async with asyncio.timeout(5):
                await until(lambda: here.proxy._linking is None)


# --- what passes --------------------------------------------------------------------------------


@asynccontextmanager
async def raw_server(
    handler: Callable[[ServerConnection], Any], **options: Any
) -> AsyncIterator[int]:
    limits = {"compression": None, "close_timeout": 0.2, "max_size": 2**24}
    async with serve(handler, "127.0.0.1", 0, **(limits | options)) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def test_only_what_is_for_the_remote_leaves() -> None:
    left: list[BusMessage] = []

    async def remote(websocket: ServerConnection) -> None:
        left.extend([serializer.deserialize(data) async for data in websocket])  # type: ignore[arg-type]

    frame = TextFrame("x")
    messages: list[BusMessage] = [
        BusJobUpdateMessage(source="voice", target="research", job_id="1"),
        BusJobUpdateMessage(source="another", target="research", job_id="2"),
        BusJobUpdateMessage(source="voice", target="another", job_id="no"),
        BusJobUpdateMessage(source="voice", job_id="no"),
        BusEndMessage(source="voice", target="nobody"),
        BusWorkerLocalErrorMessage(source="voice", target="research", error="no"),
        BusFrameMessage(source="voice", frame=frame),
        BusFrameMessage(source="voice", target="another", frame=frame),
        BusFrameMessage(source="another", frame=frame),
        BusJobUpdateMessage(source="voice", target="research", job_id="last"),
    ]
    async with (
        raw_server(remote) as port,
        Here(port, forward_messages=(BusFrameMessage,)) as here,
    ):
        await until(lambda: here.events)
        for message in messages:
            here.runner.bus.send(message)
    assert left == [messages[index] for index in (0, 1, 6, 7, 9)]


async def test_only_what_is_for_the_local_worker_enters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = TextFrame("x")
    entry = WorkerRegistryEntry(name="research")
    messages: list[BusMessage] = [
        BusJobUpdateMessage(source="research", target="another", job_id="no"),
        BusJobUpdateMessage(source="research", job_id="no"),
        BusEndMessage(source="research"),
        BusWorkerRegistryMessage(
            source="x", runner="far", workers=[entry, WorkerRegistryEntry(name="voice")]
        ),
        BusWorkerRegistryMessage(source="x", runner="far", workers=[]),
        BusFrameMessage(source="research", frame=frame),
        BusFrameMessage(source="research", target="another", frame=frame),
        BusWorkerRegistryMessage(source="x", runner="far", workers=[entry]),
        BusJobUpdateMessage(source="research", target="voice", job_id="yes"),
    ]

    async def remote(websocket: ServerConnection) -> None:
        for message in messages:
            await websocket.send(serializer.serialize(message))
        await websocket.wait_closed()

    another = Listener("another")
    async with (
        raw_server(remote) as port,
        Here(port, forward_messages=(BusFrameMessage,)) as here,
    ):
        await here.runner.add_workers(another)
        await until(lambda: here.voice.of(BusJobUpdateMessage))
        assert [message.job_id for message in here.voice.of(BusJobUpdateMessage)] == ["yes"]
        assert [message.frame for message in here.voice.of(BusFrameMessage)] == [frame]
        assert [message.frame for message in another.of(BusFrameMessage)] == [frame, frame]
        assert another.of(BusJobUpdateMessage) == []
        assert here.runner.registry.remote_workers == ["research"]
        assert here.proxy.refused_messages == 5
        assert here.proxy.received_messages == 4
        assert len([r for r in caplog.records if "was refused" in r.message]) == 1


async def test_a_message_that_can_t_be_written_is_counted_and_fails_its_job(
    research: type[Research],
) -> None:
    class Unknown(BusDataMessage):
        pass

    async with serving(research) as port, Here(port.port) as here:
        await here.linked()
        here.runner.bus.send(Unknown(source="voice", target="research"))
        assert here.proxy.refused_messages == 1
        params = JobParams(name="double", payload={"n": object()}, timeout=5)
        with pytest.raises(JobError, match="could not be sent"):
            async with here.voice.job("research", params=params):
                pass


# --- links that are lost ------------------------------------------------------------------------


async def test_a_clean_close_is_reported_and_meant() -> None:
    async def remote(websocket: ServerConnection) -> None:
        await websocket.close(1000)

    async with raw_server(remote) as port, Here(port) as here:
        await until(lambda: here.names() == ["on_connected", "on_disconnected"])
        await until(lambda: here.voice.of(BusWorkerErrorMessage))
        assert not here.proxy.is_connected
        assert not here.proxy.active


async def test_a_restarting_server_is_found_again(research: type[Research]) -> None:
    number = free_port()
    async with Here(number) as here:
        await until(lambda: "on_reconnecting" in here.names())
        async with serving(research, number):
            await here.linked()
        await until(lambda: here.names().count("on_disconnected") == 1)
        assert "research" not in here.runner.registry
        async with serving(research, number):
            params = JobParams(name="double", payload={"n": 1}, timeout=5)
            async with here.voice.job("research", params=params) as one:
                pass
        assert one.response == {"result": 2}
    assert here.names().count("on_connected") == 2


async def test_it_gives_up_when_the_policy_says_so() -> None:
    policy = ReconnectPolicy(first_delay_secs=0.01, max_delay_secs=0.01, max_failures=3)
    accepted = 0

    async def remote(websocket: ServerConnection) -> None:
        nonlocal accepted
        accepted += 1
        await websocket.close(1011)

    async with raw_server(remote) as port, Here(port, reconnect=policy) as here:
        here.number(1)
        await until(lambda: here.voice.of(BusWorkerErrorMessage))
        assert accepted == 4
        # Nothing waits for what will not come.
        assert here.proxy.queued_messages == 0
    async with raw_server(remote) as port, Here(port, reconnect=None) as here:
        await until(lambda: here.voice.of(BusWorkerErrorMessage))
        assert accepted == 5


async def test_a_lost_link_that_can_t_be_resumed_fails_its_jobs(research: type[Research]) -> None:
    async with serving(research) as port, Here(port.port) as here:
        job_id = await here.voice.request_job("research", params=JobParams(name="forever"))
        group = here.voice.job_groups[job_id]
        await until(lambda: research.workers[0].active_jobs)
        # Its memory of the link goes too.
        research.made[0].server._finished.set()
        with pytest.raises(JobGroupError, match="connection was lost|research: cancelled"):
            await group.wait()
        # It closed in order, so it is not asked again: there is nobody any more.
        await until(lambda: not here.proxy.active)
        assert research.workers[0].active_jobs == {}


@pytest.mark.program
async def test_a_killed_server_fails_its_jobs_and_is_found_again(tmp_path: Path) -> None:
    number = free_port()
    async with Here(number) as here:
        async with remote_process(number, tmp_path):
            job_id = await here.voice.request_job("research", params=JobParams(name="forever"))
            group = here.voice.job_groups[job_id]
            await until(lambda: not here.proxy.queued_messages)
        await until(lambda: "on_disconnected" in here.names())
        # Only the next link can tell that this one will not be resumed.
        assert not group.done.is_set()
        async with remote_process(number, tmp_path):
            with pytest.raises(JobGroupError, match="connection was lost"):
                await group.wait()
            async with here.voice.job("research", params=JobParams(name="report")) as one:
                pass
            assert one.response == {"heard": []}


async def test_a_client_that_is_gone_cancels_its_jobs(research: type[Research]) -> None:
    research.resume_secs = 0.1
    async with serving(research) as port, Relay(port.port) as relay:
        async with Here(relay.port) as here:
            await here.linked()
            await here.voice.request_job("research", params=JobParams(name="forever"))
            await until(lambda: research.workers[0].active_jobs)
            relay.cut()
            await until(lambda: research.workers[0].cancelled)
        await until(lambda: not consumers_module._serving)
        assert consumers_module._links == {}


async def test_a_link_that_is_reset_again_and_again_loses_and_doubles_nothing(
    research: type[Research],
) -> None:
    async with serving(research) as port, Relay(port.port) as relay, Here(relay.port) as here:
        await here.linked()
        server = research.made[0].server
        heard: list[int] = []
        numbers = research.workers[0]

        async def hear(message: BusMessage) -> None:
            if isinstance(message, BusJobUpdateMessage) and message.update:
                heard.append(message.update["n"])

        numbers.on_bus_message = hear  # type: ignore[method-assign]
        for n in range(300):
            for source, target, bus in (
                ("voice", "research", here.runner.bus),
                ("research", "voice", numbers.bus),
            ):
                update = {"n": n}
                bus.send(
                    BusJobUpdateMessage(source=source, target=target, job_id="x", update=update)
                )
            if n % 75 == 40:
                relay.reset()
            await asyncio.sleep(0.002)
        await until(lambda: len(heard) >= 300 and len(here.voice.of(BusJobUpdateMessage)) >= 300)
        await asyncio.sleep(0.05)
        assert heard == list(range(300))
        assert [m.update["n"] for m in here.voice.of(BusJobUpdateMessage)] == list(range(300))
        assert here.proxy.dropped_messages == server.dropped_messages == 0
        assert here.names().count("on_connected") == 5
        assert research.workers == [numbers]


@asynccontextmanager
async def remote_process(port: int, directory: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.workers.remote", str(port)),
        cwd=ROOT,
        env=server_environment(directory / "none.sqlite3"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.program
async def test_two_hosts_and_a_cable_that_is_out_for_five_seconds(tmp_path: Path) -> None:
    number = free_port()
    options: dict[str, Any] = {"max_queued_messages": 50, "reconnect": QUICK}
    loop = asyncio.get_running_loop()
    async with (
        remote_process(number, tmp_path),
        Relay(number) as relay,
        Here(relay.port, **options) as here,
    ):
        await here.linked()
        params = JobParams(name="count", payload={"to": 300, "every_secs": 0.02})
        counting = await here.voice.request_job("research", params=params)
        sent, began_at = 0, loop.time()
        while (elapsed := loop.time() - began_at) < 6.5:
            if relay.flows and 0.5 < elapsed < 5.5:
                relay.cut()
            elif not relay.flows and elapsed >= 5.5:
                relay.mend()
            here.number(sent)
            sent += 1
            await asyncio.sleep(0.02)
        async with here.voice.job("research", params=JobParams(name="report")) as report:
            pass
        heard = report.response["heard"]
        # Those that found no room are counted, and no other is missing; none came twice.
        assert heard == sorted(set(heard))
        assert len(heard) == sent - here.proxy.dropped_messages
        assert here.proxy.dropped_messages > 100
        # Who asked and was not heard was told so.
        failed = [m for m in here.voice.heard if getattr(m, "status", "") == "error"]
        assert len(failed) == here.proxy.dropped_messages
        # What the other side said meanwhile had room, and is all there, once.
        await until(lambda: counting not in here.voice.job_groups)
        updates = [m.update["n"] for m in here.voice.of(BusJobUpdateMessage)]
        assert updates == list(range(300))
        assert here.names().count("on_disconnected") == 1
        assert here.names().count("on_connected") == 2


async def test_a_slow_remote_blocks_nobody_here() -> None:
    async def remote(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await asyncio.sleep(1.5)

    async with raw_server(remote) as port:
        options = {"write_timeout_secs": 0.5, "heartbeat_secs": 60.0, "max_queued_messages": 100}
        async with Here(port, **options) as here:
            await until(lambda: here.events)
            big = {"x": "y" * 50_000}
            slowest = 0.0
            for n in range(300):
                started = time.monotonic()
                here.runner.bus.send(
                    BusJobUpdateMessage(
                        source="voice", target="research", job_id=str(n), update=big
                    )
                )
                here.runner.bus.send(BusJobUpdateMessage(source="x", target="voice", job_id=str(n)))
                slowest = max(slowest, time.monotonic() - started)
                await asyncio.sleep(0)
            await until(lambda: len(here.voice.of(BusJobUpdateMessage)) == 300)
            assert slowest < 0.2
            assert here.proxy.queued_messages <= 100
            assert here.proxy.dropped_messages > 0
            # In the end it is let go of.
            await until(lambda: "on_disconnected" in here.names())


async def test_a_client_that_says_nothing_is_let_go_of(research: type[Research]) -> None:
    async with serving(research) as port, Relay(port.port) as relay, Here(relay.port) as here:
        await here.linked()
        server = research.made[0].server
        relay.cut()
        started = time.monotonic()
        await until(lambda: not server.is_connected)
        await until(lambda: not here.proxy.is_connected)
        assert time.monotonic() - started < 2
        relay.mend()
        await here.linked()
        assert len(research.workers) == 1


# --- hostile clients ----------------------------------------------------------------------------


@asynccontextmanager
async def raw_client(port: int, *, ours: bool = False) -> AsyncIterator[ClientConnection]:
    async with connect(
        f"ws://127.0.0.1:{port}/",
        additional_headers={**HEADERS, LINK_HEADER: "link"} if ours else HEADERS,
        subprotocols=[SUBPROTOCOL] if ours else None,  # type: ignore[list-item]  # a NewType
        max_size=2**24,
        close_timeout=0.5,
    ) as client:
        yield client


def control(name: str, data: Any) -> bytes:
    return json.dumps({"__type__": name, "__data__": data}, separators=(",", ":")).encode()


def message_to(target: str, n: int = 0) -> bytes:
    return serializer.serialize(
        BusJobUpdateMessage(source="voice", target=target, job_id="x", update={"n": n})
    )


HOSTILE: dict[str, str | bytes] = {
    "os.system": b'{"__type__":"os.system","__data__":{"command":"touch /pwned"}}',
    "subprocess.Popen": b'{"__type__":"subprocess.Popen","__data__":{"args":["true"]}}',
    "any class path": b'{"__type__":"antigravity.Fly","__data__":{}}',
    "nested type": serializer.serialize(
        BusJobUpdateMessage(source="voice", target="research", job_id="x", update={"k": "HERE"})
    ).replace(b'"HERE"', b'{"__type__":"os.system","__data__":"true"}'),
    "deep nesting": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "no JSON": b"\x00\x01\x02",
    "text": "hello",
    "text of another type": '{"__type__":"os.system","__data__":"true"}',
    "another's mail": message_to("somebody else"),
}


@pytest.mark.parametrize("ours", [False, True])
async def test_hostile_messages_are_refused_and_the_link_is_kept(
    research: type[Research], ours: bool
) -> None:
    modules = set(sys.modules)
    async with serving(research) as port, raw_client(port.port, ours=ours) as client:
        if ours:
            await client.send(control(HELLO, {"received": 0}))
        for hostile in HOSTILE.values():
            await client.send(hostile)
        await client.send(message_to("research"))
        server = research.made[0].server
        await until(lambda: server.received_messages == 1)
        assert server.refused_messages == len(HOSTILE)
        assert client.close_code is None
    assert not {name for name in set(sys.modules) - modules if "antigravity" in name}


@pytest.mark.parametrize("ours", [False, True])
async def test_text_frames_are_taken_like_binary_ones(research: type[Research], ours: bool) -> None:
    async with serving(research) as port, raw_client(port.port, ours=ours) as client:
        if ours:
            await client.send(control(HELLO, {"received": 0}).decode())
        await client.send(message_to("research").decode())
        await until(lambda: research.made[0].server.received_messages == 1)
        assert research.made[0].server.refused_messages == 0


async def test_ten_bad_messages_in_a_row_are_too_many(research: type[Research]) -> None:
    async with serving(research) as port, raw_client(port.port) as client:
        for _ in range(9):
            await client.send(b"{")
        await client.send(message_to("research"))
        for _ in range(10):
            await client.send(b"{")
        await client.wait_closed()
        assert client.close_code == 1007
        await until(lambda: research.workers[0]._stopped)


@pytest.mark.parametrize("ours", [False, True])
async def test_what_is_unknown_is_counted_by_its_type_and_the_link_is_kept(
    research: type[Research], ours: bool
) -> None:
    async with serving(research) as port, raw_client(port.port, ours=ours) as client:
        if ours:
            await client.send(control(HELLO, {"received": 0}))
        for n in range(150):
            # As Pipecat's newer versions may send.
            await client.send(json.dumps({"__type__": f"x.{n % 3}", "__data__": {}}).encode())
        for n in range(150):
            await client.send(json.dumps({"__type__": f"y.{n}", "__data__": {}}).encode())
        await client.send(message_to("research"))
        server = research.made[0].server
        await until(lambda: server.received_messages == 1)
        assert server.refused_messages == 300
        assert [server.refused_types[f"x.{n}"] for n in range(3)] == [50, 50, 50]
        # Names of a peer's own choice fill no memory.
        assert len(server.refused_types) == 101
        assert server.refused_types["others"] == 53
        assert client.close_code is None


async def test_long_messages_pass_and_too_long_ones_fail_their_jobs(
    research: type[Research],
) -> None:
    class Long(BaseWorker):
        def __init__(self) -> None:
            super().__init__("research")
            self.cancelled: list[str] = []

        @job(name="long")
        async def long(self, message: BusJobRequestMessage) -> Payload:
            assert message.payload is not None
            return {"text": "x" * message.payload["size"]}

        @job(name="stream")
        async def stream(self, message: BusJobRequestMessage) -> None:
            await self.send_job_stream_start(message.job_id)
            await self.send_job_stream_data(message.job_id, {"text": "x" * 9_000_000})
            await asyncio.Event().wait()

        async def on_job_cancelled(self, message: BusJobCancelMessage) -> None:
            self.cancelled.append(message.job_id)

    there: list[Long] = []

    def build_workers(_consumer: ProxyConsumer) -> Sequence[BaseWorker]:
        there.append(Long())
        return there[-1:]

    research.build_workers = build_workers  # type: ignore[assignment,method-assign]
    async with serving(research) as port, Here(port.port) as here:

        async def ask(name: str = "long", *, size: int = 0, text: str = "") -> Payload:
            params = JobParams(name=name, payload={"size": size, "text": text})
            async with here.voice.job("research", params=params) as one:
                pass
            return one.response

        assert len((await ask(size=7_000_000, text="x" * 7_000_000))["text"]) == 7_000_000
        with pytest.raises(JobError, match="has more than 8388608 bytes"):
            await ask(text="x" * 9_000_000)
        assert here.proxy.dropped_messages == 1
        server = research.made[0].server
        for name in ("long", "stream"):
            with pytest.raises(JobError, match="has more than 8388608 bytes"):
                await ask(name, size=9_000_000)
        assert server.dropped_messages == 2
        await until(lambda: there[0].cancelled)
        assert there[0].active_jobs == {}
        # The link is the same, and what is behind is numbered right.
        here.proxy._socket.abort()  # type: ignore[union-attr]
        assert (await ask(size=3))["text"] == "xxx"
        assert len(there) == 1


async def test_a_client_of_another_kind_gets_what_it_takes(research: type[Research]) -> None:
    async with serving(research) as port, raw_client(port.port) as client:
        worker = research.workers[0]
        for size in (2_000_000, 900_000):
            worker.bus.send(
                BusJobUpdateMessage(
                    source="research", target="voice", job_id="1", update={"text": "x" * size}
                )
            )
        assert len(await client.recv()) < 1_000_000
        assert research.made[0].server.dropped_messages == 1


async def test_ends_agree_on_the_shorter_limit(research: type[Research]) -> None:
    research.max_message_bytes = 50_000
    async with serving(research) as port, Here(port.port) as here:
        # Before the server has said what it takes.
        asking = []
        for size in (60_000, 30_000):
            params = JobParams(name="double", payload={"n": 1, "text": "x" * size}, timeout=5)
            asking.append(asyncio.create_task(_ask(here, params)))
        with pytest.raises(JobError, match="has more than 50000 bytes"):
            await asking[0]
        assert await asking[1] == {"result": 2}
        assert here.proxy.is_connected


async def _ask(here: Here, params: JobParams) -> Payload:
    async with here.voice.job("research", params=params) as one:
        pass
    return one.response


async def test_ten_megabytes_are_too_long(research: type[Research]) -> None:
    async with serving(research) as port, raw_client(port.port) as client:
        with suppress(ConnectionClosed):
            await client.send(b" " * 10_000_000)
        await client.wait_closed()
        assert client.close_code == 1009


async def test_a_flood_is_stopped(research: type[Research]) -> None:
    async with serving(research) as port, raw_client(port.port) as client:
        flood = message_to("research")
        with suppress(ConnectionClosed):
            for _ in range(20_000):
                await client.send(flood)
        await client.wait_closed()
        assert client.close_code == 1008


@pytest.mark.parametrize(
    "controls",
    [
        [(RECEIVED, {"received": 0})],
        [(HELLO, {"received": 5}), (HELLO, {"received": 5})],
        [(HELLO, {"received": 0}), (RECEIVED, {"received": 99})],
        [(HELLO, {"received": 0}), (RECEIVED, {"received": -1})],
        [(HELLO, {"received": "0"})],
        [(HELLO, {"received": True})],
        [(HELLO, {"received": 0, "heartbeat_secs": "x"})],
        [(HELLO, {})],
        [(HELLO, [])],
        [("voicews.workers.Bye", {"received": 0})],
    ],
    ids=range(10),
)
async def test_nonsense_about_the_link_is_refused(
    research: type[Research], controls: list[tuple[str, Any]]
) -> None:
    async with serving(research) as port, raw_client(port.port, ours=True) as client:
        for name, data in controls:
            await client.send(control(name, data))
        server = research.made[0].server
        await until(lambda: server.refused_messages == 1)
        assert server.is_connected


async def test_a_link_that_can_t_be_resumed_is_closed(research: type[Research]) -> None:
    async with serving(research) as port:
        for received, code in ((0, None), (10**9, 1007)):
            async with raw_client(port.port, ours=True) as client:
                await client.send(control(HELLO, {"received": received}))
                if code is None:
                    answer = await client.recv()
                    assert json.loads(answer)["__data__"]["resumed"] is False
                    client.transport.abort()
                else:
                    await client.wait_closed()
                assert client.close_code in (code, 1006)


async def test_the_newcomer_on_a_link_replaces_the_one_before(research: type[Research]) -> None:
    async with serving(research) as port, raw_client(port.port, ours=True) as first:
        await until(lambda: research.made and research.made[0].proxy)
        async with raw_client(port.port, ours=True):
            await first.wait_closed()
            assert first.close_code == 4001
            server = research.made[0].server
            await until(lambda: research.made[1].proxy is server)
            assert server.is_connected
    assert len(research.workers) == 1


async def test_a_client_that_greets_and_never_confirms_is_no_burden(
    research: type[Research],
) -> None:
    research.max_queued_messages = 20
    async with serving(research) as port, raw_client(port.port, ours=True) as client:
        await client.send(control(HELLO, {"received": 0}))
        await until(lambda: research.workers and research.workers[0].active)
        worker, server = research.workers[0], research.made[0].server
        for n in range(100):
            worker.bus.send(BusJobUpdateMessage(source="research", target="voice", job_id=str(n)))
            await asyncio.sleep(0.001)
        assert server.sent_messages <= 20
        assert server.queued_messages <= 20
        assert server.dropped_messages >= 60


# --- hostile servers ----------------------------------------------------------------------------


async def test_a_hostile_server_s_messages_are_refused_and_the_link_is_kept() -> None:
    async def remote(websocket: ServerConnection) -> None:
        for hostile in HOSTILE.values():
            await websocket.send(hostile)
        await websocket.send(message_to("voice"))
        await websocket.wait_closed()

    async with raw_server(remote) as port, Here(port) as here:
        await until(lambda: here.voice.of(BusJobUpdateMessage))
        assert here.proxy.refused_messages == len(HOSTILE)
        assert here.proxy.is_connected


@pytest.mark.parametrize(
    ("hostile", "code"), [(b" " * 10_000_000, 1009), (b"{", 1007), (message_to("voice"), 1008)]
)
async def test_a_hostile_server_is_left(hostile: bytes, code: int) -> None:
    codes: list[int | None] = []

    async def remote(websocket: ServerConnection) -> None:
        try:
            for _ in range(10_000):
                await websocket.send(hostile)
                await asyncio.sleep(0)
        except ConnectionClosed:
            codes.append(websocket.close_code)

    async with raw_server(remote) as port, Here(port, reconnect=None) as here:
        await until(lambda: "on_disconnected" in here.names())
        await until(lambda: codes == [code])
        assert len(here.voice.heard) < 5000
