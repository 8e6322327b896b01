"""A Pipecat transport whose client is the client of one of our calls."""

# Pipecat need not be installed where this is type-checked, so its classes may have no types.
# mypy: allow-subclassing-any

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    CancelWorkerFrame,
    ClientConnectedFrame,
    EndFrame,
    EndWorkerFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from voicews import frames as ours
from voicews.audio.resampling import Resampler
from voicews.contrib.pipecat.conversion import input_to_pipecat
from voicews.pipeline.handlers import taking_first_arguments
from voicews.transports.pacing import Pacer

logger = logging.getLogger(__name__)

#: Frames that wait for a pipeline that is still starting: one minute of 20 ms audio.
MAX_WAITING_FRAMES = 3000


class VoicewsInputTransport(BaseInputTransport):
    """Pushes what the client does into the Pipecat pipeline, in order."""

    def __init__(self, transport: VoicewsTransport, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._transport = transport
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._receive_task: asyncio.Task[None] | None = None
        self._resampler: Resampler | None = None

    @property
    def is_receiving(self) -> bool:
        """Whether the pipeline has started and not ended."""
        return self._receive_task is not None

    def receive(self, item: Any) -> None:
        """Take one of Pipecat's frames, or the name of an event."""
        if self._receive_task is None and self._inbox.qsize() >= MAX_WAITING_FRAMES:
            return
        self._inbox.put_nowait(item)

    async def start(self, frame: Any) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        if self._receive_task is None:
            self._receive_task = self.create_task(self._receive())

    async def stop(self, frame: Any) -> None:
        await super().stop(frame)
        await self._stop_receiving()

    async def cancel(self, frame: Any) -> None:
        await super().cancel(frame)
        await self._stop_receiving()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._stop_receiving()
        await self._transport.cleanup()

    async def push_audio_frame(self, frame: Any) -> None:
        if self._params.audio_in_filter is not None:
            await super().push_audio_frame(frame)
        elif (
            self._params.audio_in_enabled and self._params.audio_in_passthrough and not self._paused
        ):
            # Without a filter there is nothing to wait for in another queue and task.
            await self.push_frame(frame)

    async def _stop_receiving(self) -> None:
        task, self._receive_task = self._receive_task, None
        if task is not None:
            await self.cancel_task(task)

    async def _receive(self) -> None:
        await self._transport.connected.wait()
        await self._transport.tell("on_client_connected")
        await self.push_frame(ClientConnectedFrame())
        while True:
            item = await self._inbox.get()
            if isinstance(item, InputAudioRawFrame):
                if item.sample_rate != self.sample_rate:
                    item = self._resample(item)
                await self.push_audio_frame(item)
            elif isinstance(item, str):
                await self._transport.tell(item)
            elif isinstance(item, InputTransportMessageFrame):
                # RTVI stands before this transport, other takers of messages behind it.
                await self.broadcast_frame(InputTransportMessageFrame, message=item.message)
            elif isinstance(item, InterruptionFrame):
                await self.broadcast_interruption()
            else:
                await self.push_frame(item)

    def _resample(self, frame: Any) -> Any:
        if self._resampler is None:
            self._resampler = Resampler(frame.sample_rate, self.sample_rate, frame.num_channels)
        return InputAudioRawFrame(
            audio=self._resampler.process(frame.audio),
            sample_rate=self.sample_rate,
            num_channels=frame.num_channels,
        )


class VoicewsOutputTransport(BaseOutputTransport):
    """Hands what the Pipecat pipeline says to our play queue.

    Pipecat takes the return of `write_audio_frame` for the moment at which the audio is being
    played, and has nothing else to tell how far the bot has come. So a write lasts until what was
    written is no more than the lead ahead of the playhead, and our own pacing, which has the same
    lead, never holds anything back.
    """

    def __init__(
        self, transport: VoicewsTransport, params: TransportParams, lead_secs: float, **kwargs: Any
    ) -> None:
        super().__init__(params, **kwargs)
        self._transport = transport
        self._pacer = Pacer(lead_secs)
        self._loop = asyncio.get_running_loop()
        self._flushed = asyncio.Event()
        self._is_playing = asyncio.Event()
        self._is_playing.set()
        self._has_ended = False
        self._is_interrupting = False

    def hold(self) -> None:
        """The client is away: play nothing until it is back."""
        self._is_playing.clear()

    def go_on(self) -> None:
        """The client is back."""
        self._is_playing.set()

    async def start(self, frame: Any) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def process_frame(self, frame: Any, direction: Any) -> None:
        if isinstance(frame, InterruptionFrame):
            await self._interrupt(frame, direction)
            return
        if isinstance(frame, EndFrame) and not self._is_playing.is_set():
            # Without a client the rest need not be played.
            self._has_ended = True
            self._is_playing.set()
        await super().process_frame(frame, direction)

    async def _interrupt(self, frame: Any, direction: Any) -> None:
        self._transport.send(ours.InterruptionFrame())
        self._pacer.flush(self._loop.time())
        # Until Pipecat has emptied its queue, which takes it a few steps, the queue goes on giving.
        self._is_interrupting = True
        try:
            await super().process_frame(frame, direction)
        finally:
            self._is_interrupting = False
            self._flushed.set()
            self._flushed = asyncio.Event()

    async def push_frame(self, frame: Any, direction: Any = FrameDirection.DOWNSTREAM) -> None:
        if isinstance(frame, BotStoppedSpeakingFrame):
            # The last write returned before its audio was heard.
            await self._wait_until(self._pacer.playhead)
        await super().push_frame(frame, direction)

    async def send_message(self, frame: Any) -> None:
        is_urgent = isinstance(frame, OutputTransportMessageUrgentFrame)
        kind = (
            ours.OutputTransportMessageUrgentFrame
            if is_urgent
            else ours.OutputTransportMessageFrame
        )
        self._transport.send(kind(frame.message))

    async def write_audio_frame(self, frame: Any) -> bool:
        await self._is_playing.wait()
        if self._has_ended or (self._is_interrupting and frame.interruptible):
            return False
        audio = ours.OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        self._transport.send(audio)
        self._pacer.sent(audio.duration_secs, self._loop.time())
        await self._wait_until(self._pacer.due_at())
        return True

    async def write_dtmf(self, frame: Any) -> None:
        # How keys are pressed, as a message, a request or a tone, depends on who is called.
        self._transport.send(ours.OutputDTMFFrame(frame.to_string()))

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._transport.cleanup()

    async def _wait_until(self, when: float) -> None:
        """Wait for a moment on the loop's clock, or for an interruption."""
        delay = when - self._loop.time()
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._flushed.wait()


class VoicewsTransport(BaseTransport):
    """What a Pipecat pipeline talks to, where it would have a `FastAPIWebsocketTransport`.

    Events, each with (transport, websocket), the latter being the consumer:

    * `on_client_connected`: once a call, when the client and the pipeline are both there.
    * `on_client_disconnected`: once a call, when the client has left and won't come back: one that
      lost its socket and resumes the session in time is not reported, nor is one that is replaced.
    * `on_client_reconnected`: the client, or the one that replaces it, is back.
    * `on_session_timeout`: the call has lasted as long as it may, and is being ended.

    `send` takes our frames for the client; `lead_secs` is how far audio may be sent ahead.
    """

    def __init__(
        self,
        send: Callable[[ours.Frame], None],
        params: TransportParams,
        *,
        lead_secs: float,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(input_name=input_name, output_name=output_name)
        # Our own writer gives up on a client that doesn't read. Pipecat's limit would give up on
        # one that is about to come back.
        params = params.model_copy(update={"audio_out_write_timeout_secs": None})
        self.send = send
        #: Set when the call's first client is there.
        self.connected = asyncio.Event()
        self._websocket: object = None
        self._client_is_away = False
        self._input = VoicewsInputTransport(self, params, name=input_name)
        self._output = VoicewsOutputTransport(self, params, lead_secs, name=output_name)
        for event in (
            "on_client_connected",
            "on_client_disconnected",
            "on_client_reconnected",
            "on_session_timeout",
        ):
            self._register_event_handler(event)

    def add_event_handler(self, event_name: str, handler: Any) -> None:
        """Call `handler` at an event, with the first of its arguments that it takes."""
        super().add_event_handler(event_name, taking_first_arguments(handler))

    def input(self) -> VoicewsInputTransport:
        """The processor that brings what the client does."""
        return self._input

    def output(self) -> VoicewsOutputTransport:
        """The processor that takes what is for the client."""
        return self._output

    async def tell(self, event: str) -> None:
        """Call the handlers of an event."""
        await self._call_event_handler(event, self._websocket)

    # --- from our pipeline ----------------------------------------------------------------------

    def receive(self, frame: ours.Frame) -> bool:
        """Take a frame if Pipecat has a word for it."""
        converted = input_to_pipecat(frame)
        if converted is None:
            return False
        self._input.receive(converted)
        return True

    def client_connected(self, websocket: object) -> None:
        """A client is there, the first of the call or another one."""
        self._websocket = websocket
        if self.connected.is_set():
            self._input.receive("on_client_reconnected")
        self.connected.set()

    def client_left(self) -> None:
        """The client is away, until it is back or the call is over."""
        self._client_is_away = True
        self._output.hold()

    def client_returned(self) -> None:
        """The client that was away is back."""
        self._client_is_away = False
        self._output.go_on()

    def session_timed_out(self) -> None:
        """The call has lasted as long as it may."""
        self._input.receive("on_session_timeout")

    async def end(self, reason: str, *, at_once: bool, mark_migrating: bool) -> bool:
        """Ask the Pipecat pipeline to end; False if none is running.

        `mark_migrating` says that the call goes on in another process.
        """
        if at_once and self._client_is_away and not mark_migrating:
            await self.tell("on_client_disconnected")
        if not self._input.is_receiving:
            return False
        kind = CancelWorkerFrame if at_once else EndWorkerFrame
        await self._input.push_frame(kind(reason=reason), FrameDirection.UPSTREAM)
        return True
