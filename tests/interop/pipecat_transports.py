"""Pipecat's two server transports with an echo at 16 kHz each way, nothing added to the audio.

``python -m tests.interop.pipecat_transports PORT FASTAPI_PORT`` under ``.venv-pipecat``: its
WebSocket server transport on the one port, its FastAPI transport on the other, both until the
process is ended. Prints ``ready`` when both are.
"""

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.transports.websocket.server import WebsocketServerParams, WebsocketServerTransport
from pipecat.workers.runner import WorkerRunner

from tests.interop.pipecat_echo import echo_worker

RATE = 16000
PARAMS: dict[str, Any] = {
    "audio_in_enabled": True,
    "audio_out_enabled": True,
    "audio_out_10ms_chunks": 2,
    "audio_out_auto_silence": False,
    "audio_out_end_silence_secs": 0,
}


async def run(transport: Any) -> None:
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(echo_worker(transport, RATE, RATE))
    await runner.run()


async def talk(websocket: WebSocket) -> None:
    """Hold one call through FastAPI."""
    await websocket.accept()
    params = FastAPIWebsocketParams(serializer=ProtobufFrameSerializer(), **PARAMS)
    await run(FastAPIWebsocketTransport(websocket, params))


async def listen(port: int, ready: asyncio.Event) -> None:
    """Hold one call after the other through the server transport."""
    while True:
        params = WebsocketServerParams(serializer=ProtobufFrameSerializer(), **PARAMS)
        transport = WebsocketServerTransport(params, host="127.0.0.1", port=port)

        async def opened(transport: Any) -> None:
            ready.set()

        transport.add_event_handler("on_websocket_ready", opened)
        await run(transport)


async def main(port: int, fastapi_port: int) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws", talk)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    ready = asyncio.Event()
    listening = asyncio.create_task(listen(port, ready))
    await ready.wait()
    with socket.create_server(("127.0.0.1", fastapi_port)) as opened:
        print("ready", flush=True)
        await asyncio.gather(listening, server.serve(sockets=[opened]))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
