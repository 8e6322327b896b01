"""Our client transport calls Pipecat's servers; Pipecat's client calls our listening server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Tap, ramp
from tests.interop.processes import pipecat_process, until_ready
from tests.polling import until
from tests.server_processes import free_port
from voicews.exceptions import ConnectFailed
from voicews.frames import Direction, Frame, InputAudioRawFrame, OutputAudioRawFrame
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.transports import (
    ReconnectPolicy,
    WebsocketClientParams,
    WebsocketClientTransport,
    WebsocketServerParams,
    WebsocketServerTransport,
)

RATE = 16000
SECONDS = 20
FREQUENCY = 440.0
WAV_HEADER_BYTES = 44


@asynccontextmanager
async def pipecat_servers(
    directory: Path, port: int = 0, fastapi_port: int = 0
) -> AsyncIterator[list[str]]:
    """The addresses of Pipecat's server transport and of its FastAPI transport."""
    ports = [port or free_port(), fastapi_port or free_port()]
    log = directory / "pipecat.log"
    async with pipecat_process(log, "pipecat_transports", *map(str, ports)) as process:
        await until_ready(process, log)
        yield [f"ws://127.0.0.1:{ports[0]}", f"ws://127.0.0.1:{ports[1]}/ws"]


class Call:
    def __init__(self, uri: str, **params: Any) -> None:
        defaults: dict[str, Any] = {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_sample_rate": RATE,
            "audio_out_10ms_chunks": 2,
            "audio_out_auto_silence": False,
            "audio_out_end_silence_secs": 0.0,
            "add_wav_header": False,
        }
        self.transport = WebsocketClientTransport(uri, WebsocketClientParams(**defaults | params))
        self.events: list[str] = []
        for name in sorted(self.transport.events):
            self.transport.event_handler(name)(lambda *_, name=name: self.events.append(name))
        self.tap = Tap()
        self.task = PipelineTask(
            Pipeline([self.transport.input(), self.tap, self.transport.output()])
        )

    @property
    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.tap.down(InputAudioRawFrame))

    def say(self, pcm: bytes) -> None:
        self.task.queue_frame(OutputAudioRawFrame(pcm, RATE))

    async def hang_up(self) -> None:
        self.task.end()
        await self.task.wait()
        await self.transport.wait_closed()


async def hear_every_sample_again(uri: str) -> None:
    call = Call(uri)
    call.task.start()
    said = ramp(RATE * SECONDS)
    call.say(said)
    await until(lambda: len(call.pcm) >= len(said), timeout_secs=3 * SECONDS)
    assert call.pcm == said
    await call.hang_up()
    assert call.events == ["on_connected", "on_disconnected"]


class Echo(FrameProcessor):
    def __init__(self) -> None:
        super().__init__()
        self.heard = bytearray()

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, InputAudioRawFrame):
            self.heard += frame.audio
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate)
        self.push_frame(frame, direction)


async def be_called_by_pipecat(directory: Path, *arguments: str, seconds: int) -> None:
    echo = Echo()
    transport = WebsocketServerTransport(
        WebsocketServerParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_auto_silence=False,
            audio_out_10ms_chunks=2,
        ),
        host="127.0.0.1",
        port=0,
    )
    task = PipelineTask(Pipeline([transport.input(), echo, transport.output()]))
    await transport.listen()
    task.start()
    uri = f"ws://127.0.0.1:{transport.port}"
    options = ["--no-rtvi", f"--seconds={seconds}", f"--frequency={FREQUENCY}", *arguments]
    log = directory / f"client{'-'.join(arguments)}.log"
    async with pipecat_process(log, "pipecat_client", uri, *options) as process:
        output, _ = await process.communicate()
    assert process.returncode == 0, log.read_text()
    report = json.loads(output)
    assert report["connected"]
    assert report["sent_bytes"] == len(echo.heard) == seconds * RATE * 2
    assert report["sample_rates"] == [24000]
    assert report["received_bytes"] / 2 / 24000 == pytest.approx(seconds, abs=0.1)
    assert report["dominant_frequency"] == pytest.approx(FREQUENCY, abs=2)
    # It has hung up, so the call and the port are free.
    await asyncio.wait_for(task.wait(), 10)
    await transport.wait_closed()


async def hear_the_wav_headers(uri: str) -> None:
    call = Call(uri, add_wav_header=True)
    call.task.start()
    call.say(ramp(RATE))
    # Pipecat takes the headers for samples, and plays them: 50 chunks with one each.
    expected = RATE * 2 + 50 * WAV_HEADER_BYTES
    await until(lambda: len(call.pcm) >= expected - 2 * 640, timeout_secs=20)
    assert call.pcm.count(b"WAVEfmt ") >= 48
    await call.hang_up()


async def refused(addresses: list[str]) -> None:
    with pytest.raises(ConnectFailed, match="HTTP 40") as caught:
        await WebsocketClientTransport(addresses[1] + "/nowhere").open()
    assert caught.value.permanent
    wrong_scheme = Call(addresses[1].replace("ws://", "wss://"))
    wrong_scheme.task.start()
    assert await wrong_scheme.task.wait() == "could not connect"


async def test_twenty_seconds_each_way_with_each_of_pipecat_s_transports(tmp_path: Path) -> None:
    async with pipecat_servers(tmp_path) as addresses:
        # All at once, for these seconds are real ones.
        await asyncio.gather(
            *map(hear_every_sample_again, addresses),
            be_called_by_pipecat(tmp_path, "--no-wav-header", seconds=SECONDS),
            be_called_by_pipecat(tmp_path, seconds=2),
            hear_the_wav_headers(addresses[1]),
            refused(addresses),
        )


async def test_a_server_that_is_killed_and_restarted(tmp_path: Path) -> None:
    policy = ReconnectPolicy(first_delay_secs=0.2, max_delay_secs=0.5, max_failures=None)
    port, fastapi_port = free_port(), free_port()
    calls = []
    async with pipecat_servers(tmp_path, port, fastapi_port) as addresses:
        for uri in addresses:
            call = Call(uri, reconnect=policy)
            call.task.start()
            call.say(ramp(4800))
            calls.append(call)
        await until(lambda: all(len(call.pcm) == 9600 for call in calls), timeout_secs=20)
    await until(lambda: all("on_reconnecting" in call.events for call in calls))
    for call in calls:
        call.say(ramp(4800))
    async with pipecat_servers(tmp_path, port, fastapi_port):
        await until(lambda: all(call.pcm == ramp(4800) * 2 for call in calls), timeout_secs=30)
        for call in calls:
            await call.hang_up()
            assert call.events.count("on_connected") == 2
