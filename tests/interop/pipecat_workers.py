"""Pipecat's own worker proxies.

``python -m tests.interop.pipecat_workers server PORT``: its proxy server, with a worker that does
jobs. ``... client URL TOKEN``: its proxy client, with a worker that has the other side do jobs, and
prints what it has seen as one JSON object.
"""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any, allow-untyped-decorators

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.bus import BusFrameMessage
from pipecat.frames.frames import OutputAudioRawFrame, TextFrame
from pipecat.pipeline.job_context import JobError, JobParams
from pipecat.pipeline.job_decorator import job
from pipecat.processors.frame_processor import FrameDirection
from pipecat.workers.base_worker import BaseWorker
from pipecat.workers.proxy.websocket.client import WebSocketProxyClient
from pipecat.workers.proxy.websocket.server import WebSocketProxyServer
from pipecat.workers.runner import WorkerRunner


class Research(BaseWorker):
    """Does jobs, and says on which of them it is."""

    def __init__(self) -> None:
        super().__init__("research")
        self.cancelled = 0
        self.frames: list[str] = []

    @job(name="double")
    async def double(self, message: Any) -> None:
        await self.send_job_response(message.job_id, {"result": message.payload["n"] * 2})

    @job(name="stream")
    async def stream(self, message: Any) -> None:
        await self.send_job_update(message.job_id, {"at": 0})
        await self.send_job_stream_start(message.job_id, {"of": message.payload["n"]})
        for n in range(message.payload["n"]):
            await self.send_job_stream_data(message.job_id, {"n": n, "raw": bytes([n])})
        await self.send_job_stream_end(message.job_id, {"sum": sum(range(message.payload["n"]))})

    @job(name="forever")
    async def forever(self, message: Any) -> None:
        await self.send_job_update(message.job_id, {"started": True})
        await asyncio.Event().wait()

    async def on_job_cancelled(self, message: Any) -> None:
        self.cancelled += 1

    @job(name="report")
    async def report(self, message: Any) -> None:
        await self.send_job_response(
            message.job_id,
            {
                "cancelled": self.cancelled,
                "frames": self.frames,
                "active": len(self.active_jobs) - 1,
            },
        )

    async def on_bus_message(self, message: Any) -> None:
        await super().on_bus_message(message)
        if isinstance(message, BusFrameMessage) and message.source != self.name:
            frame = message.frame
            self.frames.append(f"{type(frame).__name__} {message.direction.name}")
            text = getattr(frame, "text", None) or f"{len(frame.audio)} at {frame.sample_rate}"
            answer = TextFrame(text=f"{text}!")
            await self.send_bus_message(
                BusFrameMessage(source=self.name, frame=answer, direction=FrameDirection.DOWNSTREAM)
            )


async def serve_proxy(websocket: WebSocket) -> None:
    """One link, with workers of its own."""
    await websocket.accept()
    proxy = WebSocketProxyServer(
        "gateway",
        websocket=websocket,
        worker_name="research",
        remote_worker_name="voice",
        forward_messages=(BusFrameMessage,),
    )
    runner = WorkerRunner(handle_sigint=False)

    async def leave(worker: Any, websocket: Any) -> None:
        await runner.cancel()

    proxy.add_event_handler("on_client_disconnected", leave)
    await runner.add_workers(Research(), proxy)
    await runner.run()


async def server(port: int) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws", serve_proxy)
    with socket.create_server(("127.0.0.1", port)) as opened:
        print("ready", flush=True)
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[opened])


class Voice(BaseWorker):
    """Has the other side do jobs."""

    def __init__(self) -> None:
        super().__init__("voice")
        self.frames: list[str] = []

    async def on_bus_message(self, message: Any) -> None:
        await super().on_bus_message(message)
        if isinstance(message, BusFrameMessage) and message.source != self.name:
            self.frames.append(message.frame.text)


async def client(url: str, token: str) -> dict[str, Any]:
    voice = Voice()
    proxy = WebSocketProxyClient(
        "proxy",
        url=url,
        remote_worker_name="research",
        local_worker_name="voice",
        forward_messages=(BusFrameMessage,),
        headers={"Authorization": f"Bearer {token}"},
        active=True,
    )
    seen: dict[str, Any] = {"events": []}

    async def connected(worker: Any, websocket: Any) -> None:
        seen["events"].append("connected")

    proxy.add_event_handler("on_connected", connected)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(voice, proxy)
    running = asyncio.create_task(runner.run(auto_end=False))

    double = JobParams(name="double", payload={"n": 21}, timeout=10)
    async with voice.job("research", params=double) as one:
        pass
    seen["double"] = one.response
    stream = JobParams(name="stream", payload={"n": 3}, timeout=10)
    async with voice.job("research", params=stream) as one:
        seen["stream"] = [[event.type, event.data] async for event in one]
    seen["sum"] = one.response
    try:
        async with voice.job("research", params=JobParams(name="forever", timeout=0.3)):
            pass
    except JobError as error:
        seen["forever"] = str(error)
    try:
        async with voice.job("research", params=JobParams(name="broken", timeout=10)):
            pass
    except JobError as error:
        seen["broken"] = str(error)
    frames = [
        TextFrame(text="hello"),
        OutputAudioRawFrame(audio=bytes(640), sample_rate=16000, num_channels=1),
    ]
    for frame in frames:
        await voice.send_bus_message(
            BusFrameMessage(source="voice", frame=frame, direction=FrameDirection.UPSTREAM)
        )
    for _ in range(200):
        if len(voice.frames) == len(frames):
            break
        await asyncio.sleep(0.02)
    seen["frames"] = voice.frames
    await runner.cancel()
    await running
    return seen


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(server(int(sys.argv[2])))
    else:
        print(json.dumps(asyncio.run(client(*sys.argv[2:])), default=repr))
