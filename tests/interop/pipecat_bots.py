"""Bots that are Pipecat pipelines, for a Django project that runs where Pipecat is installed."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any

import asyncio
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.transports.base_transport import TransportParams

from tests.interop.pipecat_echo import echo_worker
from tests.interop.signals import tone
from voicews.contrib.pipecat import PipecatBot, VoicewsTransport

SPEECH_HZ = 330.0
SPEECH_RATE = 24000


class Echo(PipecatBot):
    """The pipeline of tests.interop.pipecat_server."""

    def pipecat_params(self) -> TransportParams:
        params = super().pipecat_params()
        params.audio_out_10ms_chunks = 2
        return params

    async def run(self, transport: VoicewsTransport) -> None:
        await self.run_workers(echo_worker(transport, 16000, 24000))


class Speaker(PipecatBot):
    """Does as it is told by client messages, and tells which events there were."""

    async def run(self, transport: VoicewsTransport) -> None:
        worker = PipelineWorker(Pipeline([transport.input(), transport.output()]))
        events: list[str] = []

        def note(event: str) -> None:
            async def handler(*arguments: Any) -> None:
                events.append(event)

            transport.add_event_handler(event, handler)

        for event in ("on_client_connected", "on_client_reconnected", "on_client_disconnected"):
            note(event)

        async def client_ready(rtvi: Any) -> None:
            events.append("on_client_ready")

        async def do(rtvi: Any, message: Any) -> None:
            match message.type:
                case "say":
                    await self._say(worker, float(message.data))
                case "interrupt":
                    await rtvi.interrupt_bot()
                case "end":
                    await worker.queue_frame(EndFrame(reason="told to"))
                case "fail":
                    self.failure.set()
            await rtvi.send_server_response(message, events)

        worker.rtvi.add_event_handler("on_client_ready", client_ready)
        worker.rtvi.add_event_handler("on_client_message", do)
        self.failure = asyncio.Event()
        failing = asyncio.create_task(self.failure.wait())
        running = asyncio.create_task(self.run_workers(worker))
        try:
            await asyncio.wait([running, failing], return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                raise RuntimeError("this bot was told to fail")
        finally:
            failing.cancel()
            running.cancel()
            await asyncio.wait([running])
            print(f"events of {self.call_id}:", *events, flush=True)

    async def _say(self, worker: Any, secs: float) -> None:
        """All at once, as a fast speech synthesis delivers it."""
        pcm = tone(SPEECH_HZ, secs, SPEECH_RATE)
        await worker.queue_frame(TTSStartedFrame())
        for start in range(0, len(pcm), SPEECH_RATE):
            await worker.queue_frame(
                TTSAudioRawFrame(
                    audio=pcm[start : start + SPEECH_RATE], sample_rate=SPEECH_RATE, num_channels=1
                )
            )
        await worker.queue_frame(TTSStoppedFrame())
