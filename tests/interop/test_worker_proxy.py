"""Our proxies and Pipecat's: a job asked for on one side, done on the other, both ways round."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.interop.processes import pipecat_process, until_ready
from tests.polling import until
from tests.server_processes import free_port
from tests.workers.agents import Listener, Researcher
from voicews.frames import Direction, OutputAudioRawFrame, TextFrame
from voicews.servers.embedded import Listener as Port
from voicews.transports import ReconnectPolicy
from voicews.workers import (
    BaseWorker,
    BusFrameMessage,
    BusMessage,
    JobError,
    JobGroupError,
    JobParams,
    WebSocketProxyClient,
    WorkerRunner,
)
from voicews.workers.consumers import ProxyConsumer

TOKEN = "a token for the tests"


async def test_our_client_and_pipecat_s_server(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    voice = Listener("voice")
    proxy = WebSocketProxyClient(
        "proxy",
        url=f"ws://127.0.0.1:{port}/ws",
        remote_worker_name="research",
        local_worker_name="voice",
        forward_messages=(BusFrameMessage,),
        active=True,
        reconnect=ReconnectPolicy(first_delay_secs=0.2, max_delay_secs=0.5, max_failures=None),
    )
    events: list[str] = []
    for name in sorted(proxy.events):
        proxy.event_handler(name)(lambda *_, name=name: events.append(name))

    async def ask(name: str, **payload: Any) -> dict[str, Any]:
        params = JobParams(name=name, payload=payload, timeout=20)
        async with voice.job("research", params=params) as one:
            pass
        return one.response

    async with WorkerRunner() as runner:
        await runner.add_workers(voice, proxy)
        async with pipecat_process(log, "pipecat_workers", "server", str(port)) as process:
            await until_ready(process, log)
            assert await ask("double", n=21) == {"result": 42}
            params = JobParams(name="stream", payload={"n": 3}, timeout=10)
            async with voice.job("research", params=params) as one:
                seen = [(event.type, event.data) async for event in one]
            assert seen == [
                ("update", {"at": 0}),
                ("stream_start", {"of": 3}),
                *(("stream_data", {"n": n, "raw": bytes([n])}) for n in range(3)),
                ("stream_end", {"sum": 3}),
            ]
            assert one.response == {"sum": 3}
            with pytest.raises(JobError, match="timeout"):
                async with voice.job("research", params=JobParams(name="forever", timeout=0.3)):
                    pass
            for frame in (TextFrame("hello"), OutputAudioRawFrame(bytes(640), 16000)):
                message = BusFrameMessage(source="voice", frame=frame, direction=Direction.UPSTREAM)
                runner.bus.send(message)
            await until(lambda: len(voice.of(BusFrameMessage)) == 2)
            frames = [message.frame for message in voice.of(BusFrameMessage)]
            assert frames == [TextFrame("hello!"), TextFrame("640 at 16000!")]
            assert await ask("report") == {
                "cancelled": 1,
                "frames": ["TextFrame UPSTREAM", "OutputAudioRawFrame UPSTREAM"],
                "active": 0,
            }
            # Given up before, and right after, their requests have left.
            for pause_secs in (0.0, 0.005):
                given_up = [
                    await voice.request_job("research", params=JobParams(name="forever"))
                    for _ in range(3)
                ]
                await asyncio.sleep(pause_secs)
                for job_id in given_up:
                    await voice.cancel_job_group(job_id)
            await asyncio.sleep(0.6)
            assert (await ask("report"))["active"] == 0
            assert proxy.refused_messages == 0
            # It can't resume a link, so a job that was under way is lost with it.
            job_id = await voice.request_job("research", params=JobParams(name="forever"))
            group = voice.job_groups[job_id]
            await until(lambda: not proxy.queued_messages)
            await asyncio.sleep(0.1)
        with pytest.raises(JobGroupError, match="connection was lost"):
            await group.wait()
        await until(lambda: "on_disconnected" in events)
        # Asked while it is away, done when it is back.
        waiting = asyncio.create_task(ask("double", n=1))
        async with pipecat_process(log, "pipecat_workers", "server", str(port)) as process:
            await until_ready(process, log)
            assert await waiting == {"result": 2}
    assert events.count("on_connected") == 2
    assert "ERROR" not in log.read_text()


class Research(ProxyConsumer):
    worker_name = "research"
    remote_worker_name = "voice"
    forward_messages = (BusFrameMessage,)
    tokens = [TOKEN]
    workers: list[Researcher] = []

    def build_workers(self) -> Sequence[BaseWorker]:
        worker = Answering("research")
        self.workers.append(worker)
        return [worker]


class Answering(Researcher):
    async def on_bus_message(self, message: BusMessage) -> None:
        if isinstance(message, BusFrameMessage):
            frame = message.frame
            if isinstance(frame, TextFrame):
                text = frame.text
            else:
                assert isinstance(frame, OutputAudioRawFrame)
                text = f"{len(frame.audio)} at {frame.sample_rate}"
            await self.send_bus_message(
                BusFrameMessage(source=self.name, frame=TextFrame(f"{text}!"))
            )


async def test_pipecat_s_client_and_our_server(tmp_path: Path) -> None:
    listener = Port(Research.as_asgi(), "127.0.0.1", 0)
    await listener.start()
    log = tmp_path / "client.log"
    arguments = ["client", f"ws://127.0.0.1:{listener.port}/workers/", TOKEN]
    async with pipecat_process(log, "pipecat_workers", *arguments) as process:
        output, _ = await process.communicate()
    await listener.stop()
    assert process.returncode == 0, log.read_text()
    seen = json.loads(output)
    assert seen == {
        "events": ["connected"],
        "double": {"result": 42},
        "stream": [
            ["update", {"at": 0}],
            ["stream_start", {"of": 3}],
            ["stream_data", {"n": 0}],
            ["stream_data", {"n": 1}],
            ["stream_data", {"n": 2}],
            ["stream_end", {"sum": 3}],
        ],
        "sum": {"sum": 3},
        "forever": "timeout",
        "broken": "worker 'research' errored",
        "frames": ["hello!", "640 at 16000!"],
    }
    (worker,) = Research.workers
    assert len(worker.cancelled) == 1
    assert "ERROR" not in log.read_text()
    assert "WARNING" not in log.read_text()


async def test_pipecat_s_client_without_a_token_stays_outside(tmp_path: Path) -> None:
    listener = Port(Research.as_asgi(), "127.0.0.1", 0)
    await listener.start()
    log = tmp_path / "client.log"
    arguments = ["client", f"ws://127.0.0.1:{listener.port}/workers/", "wrong"]
    async with pipecat_process(log, "pipecat_workers", *arguments) as process:
        await until(lambda: "403" in log.read_text(), timeout_secs=30)
        assert process.returncode is None
    await listener.stop()
