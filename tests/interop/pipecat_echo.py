"""An echo as a Pipecat pipeline, for whichever transport: Pipecat's own, or ours in Django."""

# Pipecat lives in an environment of its own, so its classes have no types here.
# mypy: allow-subclassing-any

from typing import Any

from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


class Echo(FrameProcessor):
    """Return the caller's audio."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(
                audio=frame.audio, sample_rate=frame.sample_rate, num_channels=frame.num_channels
            )
        await self.push_frame(frame, direction)


def echo_worker(transport: Any, in_rate: int, out_rate: int) -> Any:
    """One call: an echo that also answers the client message ``echo``. Rates are in Hz."""
    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=in_rate, audio_out_sample_rate=out_rate),
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
    return worker
