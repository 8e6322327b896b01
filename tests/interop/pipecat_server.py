"""Pipecat's own FastAPI WebSocket transport with an echo bot, for the tests and the benchmarks.

Run by uvicorn under ``.venv-pipecat`` as ``tests.interop.pipecat_server:app``. The environment sets
the rates in Hz: ``PIPECAT_IN_RATE`` (16000) and ``PIPECAT_OUT_RATE`` (24000).
"""

import os

from fastapi import FastAPI, Request, WebSocket
from fastapi.staticfiles import StaticFiles
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from tests.interop.environment import REPOSITORY_DIR
from tests.interop.pipecat_echo import echo_worker

IN_RATE = int(os.environ.get("PIPECAT_IN_RATE", "16000"))
OUT_RATE = int(os.environ.get("PIPECAT_OUT_RATE", "24000"))


async def talk(websocket: WebSocket) -> None:
    """Hold one call."""
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
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(echo_worker(transport, IN_RATE, OUT_RATE))
    await runner.run()


async def connect(request: Request) -> dict[str, str]:
    """Answer Pipecat's browser client with the address of the socket."""
    return {"ws_url": f"ws://{request.headers['host']}/ws"}


app = FastAPI()
app.add_api_route("/connect", connect, methods=["POST"])
app.add_api_websocket_route("/ws", talk)
# Our browser client, for a page that calls this server.
app.mount("/static", StaticFiles(directory=REPOSITORY_DIR / "voicews" / "static"))
