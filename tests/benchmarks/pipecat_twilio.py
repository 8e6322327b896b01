"""Pipecat's FastAPI WebSocket transport with its Twilio serializer and an echo.

Run by uvicorn under ``.venv-pipecat`` as ``tests.benchmarks.pipecat_twilio:app``. Both of the
pipeline's rates are Twilio's, so that nothing is resampled.
"""

import json

from fastapi import FastAPI, WebSocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from tests.interop.pipecat_echo import echo_worker

SAMPLE_RATE = 8000


async def talk(websocket: WebSocket) -> None:
    """Hold one call, from Twilio's event ``start`` on."""
    await websocket.accept()
    message = {"event": "connected"}
    while message["event"] != "start":
        message = json.loads(await websocket.receive_text())
    transport = FastAPIWebsocketTransport(
        websocket,
        FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_10ms_chunks=2,
            add_wav_header=False,
            serializer=TwilioFrameSerializer(
                stream_sid=message["streamSid"],
                params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
            ),
        ),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(echo_worker(transport, SAMPLE_RATE, SAMPLE_RATE))
    await runner.run()


app = FastAPI()
app.add_api_websocket_route("/ws", talk)
