"""A bot that is somewhere else: joins the call to another voice server.

class Support(Bridge):
    uri = "wss://bots.example.com/ws"
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from voicews import __version__
from voicews.bots import Bot
from voicews.close_codes import CLIENT_IS_DONE, CloseCode
from voicews.exceptions import ConfigurationError, ConnectFailed
from voicews.frames import (
    CallStartedFrame,
    CancelFrame,
    ClientConnectedFrame,
    ClientDisconnectedFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTranscriptionFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    TextFrame,
    TranscriptionFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask
from voicews.pipeline.relay import HandshakeRelay, error_message
from voicews.pipeline.rtvi import LABEL, PROTOCOL_VERSION
from voicews.transports.client import WebsocketClientTransport
from voicews.transports.output import OutputTransport
from voicews.transports.params import WebsocketClientParams

if TYPE_CHECKING:
    from voicews.transports.base import BaseTransport

__all__ = [
    "Bridge",
]

logger = logging.getLogger(__name__)

#: The remote end needs no pacing, being a machine: what comes late from the caller must not stay
#: late for the rest of the call.
REMOTE_LEAD_SECS = 3600.0
#: What the caller does until the remote server lets us in: one minute of 20 ms audio.
MAX_WAITING_FRAMES = 3000
#: Closes that mean the remote bot was done.
DONE = CLIENT_IS_DONE | {CloseCode.NO_STATUS}


class Bridge(Bot):
    """Sends what the caller does to the voice server at `uri`, and what comes back to the caller.

    Audio, interruptions, text and the application's messages go both ways, RTVI messages untouched:
    the remote bot answers them. For a phone call, which knows no RTVI, the bridge shakes hands
    itself, and turns keys into RTVI's `dtmf`. When one side ends the call, the other one's is
    ended too; a remote that can't be reached or is lost ends it with an RTVI error and code 1011.
    """

    #: The remote server's socket: `ws://` or `wss://`.
    uri: ClassVar[str] = ""
    #: Whether the remote sends its audio in real time, as Pipecat and voicews do: what is late
    #: of it then catches up. False: it sends what it has, and all of it is played to the end.
    remote_is_live: ClassVar[bool] = True
    #: A remote that leaves the client's handshake unanswered for so long (seconds) knows no RTVI:
    #: the bridge answers in its place.
    handshake_timeout_secs: ClassVar[float] = 2.0

    def __init__(self) -> None:
        super().__init__()
        self._remote = _RemoteEnd(self)
        self._remote_task: PipelineTask | None = None
        self._remote_output: OutputTransport | None = None
        self._running: asyncio.Task[None] | None = None
        self._waiting: deque[Frame] = deque(maxlen=MAX_WAITING_FRAMES)
        self._handshake = HandshakeRelay(dict)
        self._client_is_away = False
        self._unanswered: asyncio.TimerHandle | None = None
        self._shake_hands_with: dict[str, Any] = {}

    # --- what subclasses override ---------------------------------------------------------------

    async def address(self) -> str:
        """Where to connect for this call; a server that hands out addresses is asked here.

        Raises `ConnectFailed` where there is none.
        """
        if not self.uri:
            raise ConfigurationError(f"expected {type(self).__name__} to have a uri, found none")
        return self.uri

    def client_params(self) -> WebsocketClientParams:
        """The parameters of the remote leg: the caller's audio out, the remote bot's audio in."""
        return WebsocketClientParams(
            add_wav_header=False,
            audio_in_enabled=True,
            audio_in_sample_rate=self.audio_out_sample_rate,
            audio_out_enabled=True,
            audio_out_sample_rate=self.audio_in_sample_rate,
            audio_out_auto_silence=False,
            audio_out_end_silence_secs=0.0,
            audio_out_lead_secs=REMOTE_LEAD_SECS,
        )

    # --- the machinery --------------------------------------------------------------------------

    def build_pipeline(
        self, transport: BaseTransport, bot_ready_extras: Callable[[], Mapping[str, Any]] = dict
    ) -> Pipeline:
        self._handshake = HandshakeRelay(bot_ready_extras)
        return Pipeline([transport.input(), self, transport.output()])

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if direction is Direction.UPSTREAM:
            super().process_frame(frame, direction)
            return
        convert = _TO_REMOTE.get(type(frame))
        if convert is not None:
            self._to_remote(convert(frame))
        elif isinstance(frame, InputTransportMessageFrame):
            self._relay(frame.message)
        else:
            self._watch(frame)
            self.push_frame(frame)

    async def cleanup(self) -> None:
        if self._running is not None:
            if self._remote_task is None:
                self._running.cancel()
            await asyncio.wait([self._running])
        await super().cleanup()

    def from_remote(self, frame: Frame) -> None:
        """Take what the remote server sent."""
        if isinstance(frame, InputAudioRawFrame):
            # It is live: for a client that comes back it would be late, and stay so.
            if not self._client_is_away:
                self.push_frame(_audio_out(frame, live=self.remote_is_live))
        elif isinstance(frame, InputTransportMessageFrame):
            if frame.message.get("type") == "bot-ready":
                self._stop_waiting()
            message = self._handshake.to_client(frame.message)
            self.push_frame(OutputTransportMessageUrgentFrame(message))
        elif isinstance(frame, InputTextFrame):
            self.push_frame(TextFrame(frame.text))
        elif isinstance(frame, InterruptionFrame | TranscriptionFrame):
            self.push_frame(frame)
            if isinstance(frame, TranscriptionFrame):
                # What was said is input, which ends at the output; this is for the client.
                self.push_frame(_transcription_out(frame))

    def _relay(self, message: dict[str, Any]) -> None:
        answer = self._handshake.answer(message)
        if answer is None:
            self._to_remote(OutputTransportMessageFrame(message))
            if message.get("type") == "client-ready" and message.get("label") == LABEL:
                self._stop_waiting()
                self._shake_hands_with = message
                self._await_answer()
        else:
            self.push_frame(OutputTransportMessageUrgentFrame(answer))

    def _await_answer(self) -> None:
        self._unanswered = asyncio.get_running_loop().call_later(
            self.handshake_timeout_secs, self._answer_in_its_place
        )

    def _answer_in_its_place(self) -> None:
        if self._over:
            return
        if self._remote_task is None:
            self._await_answer()  # it has yet to be reached
            return
        self._unanswered = None
        logger.info("call %s: %s answers no client-ready", self.call_id, self.name)
        message = self._shake_hands_with
        ready = {"label": LABEL, "type": "bot-ready", "data": {"version": PROTOCOL_VERSION}}
        if isinstance(message.get("id"), str):
            ready["id"] = message["id"]
        self.push_frame(OutputTransportMessageUrgentFrame(self._handshake.to_client(ready)))

    def _stop_waiting(self) -> None:
        if self._unanswered is not None:
            self._unanswered.cancel()
            self._unanswered = None

    def _to_remote(self, frame: Frame) -> None:
        if self._remote_task is None:
            self._waiting.append(frame)
        else:
            self._remote.push_frame(frame)

    def _watch(self, frame: Frame) -> None:
        """See to what happens to the call."""
        if isinstance(frame, StartFrame):
            self._on_start_frame(frame)
            self._running = asyncio.get_running_loop().create_task(self._run())
        elif isinstance(frame, ClientConnectedFrame):
            self._client_is_away = False
            self._handshake.client_connected(resumed=frame.resumed)
        elif isinstance(frame, ClientDisconnectedFrame):
            self._client_is_away = True
        elif isinstance(frame, InterruptionFrame):
            # Past the queue, which holds what the caller says: that is not to be interrupted.
            if self._remote_output is not None:
                self._remote_output.send(frame)
        elif isinstance(frame, CallStartedFrame) and not frame.is_probe:
            about = {"library": "voicews", "library_version": __version__}
            data = {"version": PROTOCOL_VERSION, "about": about}
            self._to_remote(_rtvi("client-ready", data))
        elif isinstance(frame, EndFrame | CancelFrame):
            self._end_reason = frame.reason
            self._over = True
            self._stop_waiting()
            if self._remote_task is not None:
                self._remote_task.cancel(frame.reason)

    # --- the remote leg -------------------------------------------------------------------------

    async def _run(self) -> None:
        """Hold the remote leg, from connecting to its end."""
        try:
            transport = WebsocketClientTransport(await self.address(), self.client_params())
            await transport.open()
        except ConnectFailed as error:
            logger.warning("call %s: %s: %s", self.call_id, self.name, error)
            self._fail("the remote bot can't be reached")
            return
        except Exception as error:  # noqa: BLE001 - the application's address()
            self.report_exception(error, "to find the remote bot")
            self._fail("the remote bot can't be reached")
            return
        if self._over:
            await transport.session.disconnect()
            return
        code = await self._hold(transport)
        if code in DONE:
            request = EndRequestFrame("remote bot ended the call")
            self.push_frame(request, Direction.UPSTREAM)
        elif code is not None:
            logger.warning("call %s: %s was lost: %d", self.call_id, self.name, code)
            self._fail("the connection to the remote bot was lost")

    async def _hold(self, transport: WebsocketClientTransport) -> int | None:
        """Wait for the leg's end; the close code of the remote server, None if we closed."""
        output = transport.output()
        assert isinstance(output, OutputTransport)
        task = PipelineTask(
            Pipeline([transport.input(), self._remote, output]), call_id=self.call_id
        )
        task.start()
        self._remote_task, self._remote_output = task, output
        while self._waiting:
            self._to_remote(self._waiting.popleft())
        await task.wait()
        return None if self._over else task.close_code

    def _fail(self, error: str) -> None:
        self.push_frame(OutputTransportMessageUrgentFrame(error_message(error)))
        self.push_frame(EndRequestFrame(error, CloseCode.SERVER_ERROR), Direction.UPSTREAM)


class _RemoteEnd(FrameProcessor):
    """Stands in the remote leg's pipeline for the bridge."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(name="bridge")
        self._bridge = bridge

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if direction is Direction.UPSTREAM or isinstance(
            frame, StartFrame | EndFrame | CancelFrame
        ):
            self.push_frame(frame, direction)
        else:
            self._bridge.from_remote(frame)


def _rtvi(kind: str, data: Mapping[str, Any]) -> Frame:
    return OutputTransportMessageFrame({"label": LABEL, "type": kind, "id": "bridge", "data": data})


def _transcription_out(frame: TranscriptionFrame) -> Frame:
    return OutputTranscriptionFrame(frame.text, frame.user_id, frame.timestamp)


def _audio_out(frame: InputAudioRawFrame, *, live: bool) -> OutputAudioRawFrame:
    return OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels, None, live)


_TO_REMOTE: dict[type[Frame], Callable[[Any], Frame]] = {
    InputAudioRawFrame: lambda frame: _audio_out(frame, live=False),
    InputTextFrame: lambda frame: TextFrame(frame.text),
    InputDTMFFrame: lambda frame: _rtvi("dtmf", {"buttons": [frame.button]}),
    TranscriptionFrame: _transcription_out,
}
