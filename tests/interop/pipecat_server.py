"""Pipecat's own FastAPI WebSocket transport with an echo bot, for the tests and the benchmarks.

Run by uvicorn under ``.venv-pipecat`` as ``tests.interop.pipecat_server:app``. The environment sets
the rates in Hz: ``PIPECAT_IN_RATE`` (16000) and ``PIPECAT_OUT_RATE`` (24000).
"""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any

import os
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.staticfiles import StaticFiles
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from tests.interop.environment import REPOSITORY_DIR

IN_RATE = int(os.environ.get("PIPECAT_IN_RATE", "16000"))
OUT_RATE = int(os.environ.get("PIPECAT_OUT_RATE", "24000"))


class Echo(FrameProcessor):
    """Return the caller's audio."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(
                audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
            )
        await self.push_frame(frame, direction)


async def talk(websocket: WebSocket) -> None:
    """Hold one call: an echo that also answers the client message ``echo``."""
    await websocket.accept()
    transport = FastAPIWebsocketTransport(
        websocket,
        FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_10ms_chunks=2,
            serializer=ProtobufFrameSerializer(),
        ),
    )
    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=IN_RATE, audio_out_sample_rate=OUT_RATE),
    )

    async def answer(rtvi: Any, message: Any) -> None:
        if message.type == "echo":
            await rtvi.send_server_response(message, message.data)
        else:
            await rtvi.send_error_response(message, f"unknown message {message.type}")

    async def leave(transport: Any, websocket: Any) -> None:
        await worker.cancel()

    worker.rtvi.add_event_handler("on_client_message", answer)
    transport.add_event_handler("on_client_disconnected", leave)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


async def connect(request: Request) -> dict[str, str]:
    """Answer Pipecat's browser client with the address of the socket."""
    return {"ws_url": f"ws://{request.headers['host']}/ws"}


app = FastAPI()
app.add_api_route("/connect", connect, methods=["POST"])
app.add_api_websocket_route("/ws", talk)
# Our browser client, for a page that calls this server.
app.mount("/static", StaticFiles(directory=REPOSITORY_DIR / "voicews" / "static"))
