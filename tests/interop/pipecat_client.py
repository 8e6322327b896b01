"""Pipecat's own Python WebSocket client: play a tone to a voice server, say what came back.

Run under ``.venv-pipecat``. Prints one JSON object; see :class:`Report`.
"""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any

import argparse
import asyncio
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport
from pipecat.workers.runner import WorkerRunner

from tests.interop.signals import dominant_frequency, tone

CHUNK_MS = 20
#: What a server may need to begin, and keep for itself at the end.
PATIENCE_SECS = 20.0
SHORTFALL_SECS = 0.1


@dataclass
class Report:
    """What the client saw. Times in seconds, rates and frequencies in Hz."""

    connected: bool = False
    disconnected: bool = False
    sent_bytes: int = 0
    received_frames: int = 0
    received_bytes: int = 0
    sample_rates: list[int] = field(default_factory=list)
    dominant_frequency: float = 0.0
    longest_gap: float = 0.0
    messages: list[Any] = field(default_factory=list)


class Recorder(FrameProcessor):
    """Keep the server's audio and messages, let the tone pass."""

    def __init__(self, report: Report, seconds: float) -> None:
        super().__init__()
        self.report = report
        #: As much audio as was expected has come.
        self.has_all = asyncio.Event()
        self._expected_seconds = seconds - SHORTFALL_SECS
        self.pcm = bytearray()
        self._last_arrival: float | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._record(frame)
            return
        if isinstance(frame, InputTransportMessageFrame) and direction is FrameDirection.DOWNSTREAM:
            self.report.messages.append(frame.message)
        await self.push_frame(frame, direction)

    def _record(self, frame: InputAudioRawFrame) -> None:
        now = time.monotonic()
        if self._last_arrival is not None:
            self.report.longest_gap = max(self.report.longest_gap, now - self._last_arrival)
        self._last_arrival = now
        self.report.received_frames += 1
        self.report.received_bytes += len(frame.audio)
        if frame.sample_rate not in self.report.sample_rates:
            self.report.sample_rates.append(frame.sample_rate)
        self.pcm += frame.audio
        if len(self.pcm) / 2 / frame.sample_rate >= self._expected_seconds:
            self.has_all.set()


async def call(options: argparse.Namespace) -> Report:
    """Play the tone, wait until all of it has come back, hang up."""
    report = Report()
    recorder = Recorder(report, options.seconds)
    transport = WebsocketClientTransport(
        options.url,
        WebsocketClientParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_10ms_chunks=CHUNK_MS // 10,
            audio_out_end_silence_secs=0,
            audio_out_auto_silence=False,
            add_wav_header=options.wav_header,
        ),
    )
    worker = PipelineWorker(
        Pipeline([transport.input(), recorder, transport.output()]),
        enable_rtvi=options.rtvi,
        params=PipelineParams(
            audio_in_sample_rate=options.in_rate, audio_out_sample_rate=options.out_rate
        ),
    )

    async def connected(transport: Any, websocket: Any) -> None:
        report.connected = True

    async def disconnected(transport: Any, websocket: Any) -> None:
        report.disconnected = True
        await worker.cancel()

    async def play(worker: Any, frame: Any) -> None:
        pcm = tone(options.frequency, options.seconds, options.out_rate)
        chunk_bytes = options.out_rate * CHUNK_MS // 1000 * 2
        for start in range(0, len(pcm), chunk_bytes):
            chunk = pcm[start : start + chunk_bytes]
            await worker.queue_frame(
                OutputAudioRawFrame(audio=chunk, sample_rate=options.out_rate, num_channels=1)
            )
            report.sent_bytes += len(chunk)
        # On a busy machine Pipecat's pacing falls behind, and does not catch up.
        with suppress(TimeoutError):
            await asyncio.wait_for(recorder.has_all.wait(), 2 * options.seconds + PATIENCE_SECS)
        await asyncio.sleep(options.linger)
        await worker.queue_frame(EndFrame())

    transport.add_event_handler("on_connected", connected)
    transport.add_event_handler("on_disconnected", disconnected)
    worker.add_event_handler("on_pipeline_started", play)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    if recorder.pcm:
        rate = report.sample_rates[0]
        report.dominant_frequency = dominant_frequency(bytes(recorder.pcm), rate)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="ws://host:port/path of the voice server")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the tone")
    parser.add_argument("--linger", type=float, default=0.5, help="seconds to wait for the rest")
    parser.add_argument("--frequency", type=float, default=440.0, help="of the tone, in Hz")
    parser.add_argument("--in-rate", type=int, default=24000, help="of the server's audio, in Hz")
    parser.add_argument("--out-rate", type=int, default=16000, help="of the tone, in Hz")
    parser.add_argument(
        "--wav-header",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="begin each chunk with a WAV header, as this client does by itself",
    )
    parser.add_argument(
        "--rtvi",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run Pipecat's RTVI processor in the client, as its pipelines do by themselves",
    )
    print(json.dumps(asdict(asyncio.run(call(parser.parse_args())))))


if __name__ == "__main__":
    main()
