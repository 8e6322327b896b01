"""A bot that is a Pipecat pipeline.

class Assistant(PipecatBot):
    async def run(self, transport):
        pipeline = Pipeline([transport.input(), stt, user, llm, tts, transport.output(), assistant])
        await self.run_workers(PipelineWorker(pipeline))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from voicews.bots import Bot
from voicews.close_codes import CloseCode
from voicews.contrib.pipecat.transport import VoicewsTransport
from voicews.frames import (
    CancelFrame,
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    Frame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
)
from voicews.pipeline import Pipeline
from voicews.pipeline.relay import HandshakeRelay, error_message

if TYPE_CHECKING:
    from voicews.transports.base import BaseTransport

logger = logging.getLogger(__name__)

#: Ends of a call that are the client's.
CLIENT_HAS_LEFT = frozenset([CloseCode.GOING_AWAY, CloseCode.NO_STATUS, CloseCode.ABNORMAL])
#: How long `run` may take to end after the call has been cut off, and again after it was cancelled.
STOP_TIMEOUT_SECS = 5.0


class PipecatBot(Bot):
    """Override `run`; the handlers of `Bot` are not called.

    Everything that the client sends goes into the Pipecat pipeline, RTVI messages as they are:
    its RTVI processor answers them. Only a client that comes back to a session is greeted by us,
    with what the pipeline's `bot-ready` said, so that a conversation is not begun a second time.
    Voice activity is Pipecat's affair, unless `vad_analyzer` returns one of ours.

    When the call is over, the pipeline is ended or cancelled, as the call is; when `run` returns,
    the call ends as soon as everything has been played.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transport: VoicewsTransport | None = None
        self._run_task: asyncio.Task[None] | None = None
        self._stop_task: asyncio.Task[None] | None = None
        self._has_run = False
        #: The orderly end of the call, which waits for the pipeline's.
        self._end_frame: EndFrame | None = None
        self._handshake = HandshakeRelay(dict)

    # --- what subclasses override ---------------------------------------------------------------

    async def run(self, transport: VoicewsTransport) -> None:
        """Build the Pipecat pipeline around `transport`, and run it to its end. Once a call."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def pipecat_params(self) -> TransportParams:
        """The parameters of the Pipecat transport. Rates that it leaves open are the pipeline's.

        Audio is converted to them, which costs nothing where they are the bot's own.
        """
        return TransportParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            # The call waits for its last audio anyway.
            audio_out_end_silence_secs=0,
        )

    # --- what it can do -------------------------------------------------------------------------

    async def run_workers(self, *workers: Any) -> None:
        """Run Pipecat workers until they end, signal handlers being the server's business."""
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(*workers)
        await runner.run()

    # --- the machinery --------------------------------------------------------------------------

    def build_pipeline(
        self, transport: BaseTransport, bot_ready_extras: Callable[[], Mapping[str, Any]] = dict
    ) -> Pipeline:
        self._handshake = HandshakeRelay(bot_ready_extras)
        transport.event_handler("on_client_connected")(self._client_connected)
        transport.event_handler("on_session_timeout")(self._session_timed_out)
        self._lead_secs = transport.params.audio_out_lead_secs
        return Pipeline([transport.input(), self, transport.output()])

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        transport = self._transport
        if direction is Direction.UPSTREAM or isinstance(frame, StartFrame):
            super().process_frame(frame, direction)
            if isinstance(frame, StartFrame):
                self._start()
        elif transport is None:
            self.push_frame(frame)
        elif isinstance(frame, EndFrame):
            self._end(frame, transport)
        elif isinstance(frame, CancelFrame):
            self._cancel(frame, transport)
        elif isinstance(frame, InputTransportMessageFrame):
            answer = self._handshake.answer(frame.message)
            if answer is None:
                transport.receive(frame)
            else:
                self.push_frame(OutputTransportMessageUrgentFrame(answer))
        else:
            if isinstance(frame, ClientConnectedFrame):
                self._handshake.client_connected(resumed=frame.resumed)
                transport.client_returned()
            elif isinstance(frame, ClientDisconnectedFrame):
                transport.client_left()
            if not transport.receive(frame) or isinstance(frame, InterruptionFrame):
                self.push_frame(frame)

    async def cleanup(self) -> None:
        if self._stop_task is not None:
            await self._stop_task
        await super().cleanup()

    def _start(self) -> None:
        self._transport = VoicewsTransport(
            self._send, self.pipecat_params(), lead_secs=self._lead_secs
        )
        self._run_task = asyncio.get_running_loop().create_task(self._run(self._transport))

    async def _run(self, transport: VoicewsTransport) -> None:
        request = EndRequestFrame("bot ended the call")
        try:
            await self.run(transport)
        except asyncio.CancelledError:
            if self._stop_task is None:
                request = EndRequestFrame("bot was cancelled", CloseCode.SERVER_ERROR, at_once=True)
        except Exception as error:  # noqa: BLE001 - the boundary to the application
            self.report_exception(error, "in run")
            self.push_frame(OutputTransportMessageUrgentFrame(error_message("the bot failed")))
            request = EndRequestFrame("the bot failed", CloseCode.SERVER_ERROR, at_once=True)
        self._has_run = True
        if self._end_frame is None:
            self.push_frame(request, Direction.UPSTREAM)
        else:
            self.push_frame(self._end_frame)

    def _end(self, frame: EndFrame, transport: VoicewsTransport) -> None:
        self._end_reason = frame.reason
        if self._has_run:
            self._over = True
            self.push_frame(frame)
        else:
            self._end_frame = frame
            self._stop(frame, transport)

    def _cancel(self, frame: CancelFrame, transport: VoicewsTransport) -> None:
        self._end_reason = frame.reason
        self._over = True
        self.push_frame(frame)
        if not self._has_run:
            self._stop(frame, transport)

    def _stop(self, frame: EndFrame | CancelFrame, transport: VoicewsTransport) -> None:
        previous, self._stop_task = self._stop_task, None
        if previous is not None:
            previous.cancel()
        self._stop_task = asyncio.get_running_loop().create_task(self._stop_run(frame, transport))

    async def _stop_run(self, frame: EndFrame | CancelFrame, transport: VoicewsTransport) -> None:
        run = self._run_task
        assert run is not None
        if frame.close_code in CLIENT_HAS_LEFT:
            # A provider reports it before its socket closes.
            transport.client_left()
        at_once = isinstance(frame, CancelFrame)
        is_ending = await transport.end(
            frame.reason, at_once=at_once, mark_migrating=self._is_migrating
        )
        if is_ending and not at_once:
            return  # our task has a time limit of its own for that, and cancels
        if is_ending:
            await asyncio.wait([run], timeout=STOP_TIMEOUT_SECS)
        if not run.done():
            run.cancel()
            await asyncio.wait([run], timeout=STOP_TIMEOUT_SECS)
        if not run.done():
            logger.error("call %s: %s.run goes on after the call", self.call_id, self.name)

    # --- to the client --------------------------------------------------------------------------

    def _send(self, frame: Frame) -> None:
        if isinstance(frame, OutputTransportMessageUrgentFrame):
            frame = OutputTransportMessageUrgentFrame(self._handshake.to_client(frame.message))
        self.push_frame(frame)

    # --- events ---------------------------------------------------------------------------------

    def _client_connected(self, transport: object, websocket: object) -> None:
        if self._transport is not None:
            self._transport.client_connected(websocket)

    def _session_timed_out(self, transport: object, websocket: object) -> None:
        if self._transport is not None:
            self._transport.session_timed_out()
