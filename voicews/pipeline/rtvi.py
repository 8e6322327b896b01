"""RTVI: the messages between a voice client and its bot.

Source: the RTVI message standard as Pipecat's `@pipecat-ai/client-js` 1.13 speaks it. Messages
with another label than `rtvi-ai` are the application's and pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from voicews import __version__
from voicews.frames import (
    BotInterruptedFrame,
    BotOutputFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    ClientMessageFrame,
    Direction,
    EndRequestFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    MetricsFrame,
    OutputTransportMessageUrgentFrame,
    ServerResponseFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.pipeline.processor import FrameProcessor

LABEL = "rtvi-ai"
PROTOCOL_VERSION = "2.2.0"
DTMF_BUTTONS = frozenset("0123456789*#ABCD")
#: Keys in one `dtmf` message; more are not keys that a user presses.
MAX_DTMF_BUTTONS = 64


class RTVIProcessor(FrameProcessor):
    """Answers the client's handshake, turns its messages into frames, and reports the call to it.

    Stands right behind the transport's input. `capabilities` and `bot_ready_extras()` are added
    to the data of `bot-ready`; the latter is asked anew for each handshake.
    """

    def __init__(
        self,
        *,
        capabilities: Mapping[str, bool] | None = None,
        bot_ready_extras: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(name="rtvi")
        self._capabilities = {
            "audio_in": True,
            "audio_out": True,
            "video_in": False,
            "screen_in": False,
            "video_out": False,
            "metrics": False,
            **(capabilities or {}),
        }
        self._bot_ready_extras = bot_ready_extras
        self._client_is_ready = False

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if type(frame) is InputAudioRawFrame:
            self.push_frame(frame, direction)
            return
        if isinstance(frame, InputTransportMessageFrame) and frame.message.get("label") == LABEL:
            self._handle(frame.message)
            return
        if isinstance(frame, ServerResponseFrame):
            self._respond(frame)
            return
        if isinstance(frame, ClientConnectedFrame):
            self._client_is_ready = False
        report = _REPORTS.get(type(frame))
        # A client that never said that it is ready may not speak RTVI at all.
        if report is not None and self._client_is_ready:
            kind, data = report(frame)
            self.send(kind, data)
        self.push_frame(frame, direction)

    def send(self, kind: str, data: Any = None, message_id: str = "") -> None:
        """Send the client one RTVI message, ahead of queued audio."""
        message: dict[str, Any] = {"label": LABEL, "type": kind}
        if message_id:
            message["id"] = message_id
        if data is not None:
            message["data"] = data
        self.push_frame(OutputTransportMessageUrgentFrame(message))

    def _handle(self, message: dict[str, Any]) -> None:
        kind = str(message.get("type"))
        message_id = message.get("id")
        request_id = message_id[:128] if isinstance(message_id, str) else ""
        data = message.get("data")
        if kind in _NEVER_ANSWERED:
            return
        handler = _HANDLERS.get(kind)
        if handler is None:
            self._refuse(request_id, f"Unsupported type {kind[:64]}")
            return
        if data is None:
            data = {}
        if not isinstance(data, dict):
            self._refuse(request_id, f"expected data to be an object in {kind}")
            return
        handler(self, request_id, data)

    def _refuse(self, request_id: str, error: str) -> None:
        self.send("error-response", {"error": error}, request_id)

    def _respond(self, frame: ServerResponseFrame) -> None:
        request = frame.request
        if not request.id:
            return
        if frame.error is not None:
            self._refuse(request.id, frame.error)
        else:
            self.send("server-response", {"t": request.type, "d": frame.data}, request.id)

    def _client_ready(self, request_id: str, data: dict[str, Any]) -> None:
        self._client_is_ready = True
        self.send(
            "bot-ready",
            {
                "version": PROTOCOL_VERSION,
                "about": {"library": "voicews", "library_version": __version__},
                "capabilities": self._capabilities,
                **(self._bot_ready_extras() if self._bot_ready_extras else {}),
            },
            request_id,
        )

    def _client_message(self, request_id: str, data: dict[str, Any]) -> None:
        kind = data.get("t")
        if not isinstance(kind, str):
            self._refuse(request_id, "expected a string t in client-message")
            return
        self.push_frame(ClientMessageFrame(kind, data.get("d"), request_id))

    def _ui_event(self, request_id: str, data: dict[str, Any]) -> None:
        self.push_frame(ClientMessageFrame("ui-event", data))

    def _send_text(self, request_id: str, data: dict[str, Any]) -> None:
        content = data.get("content")
        options = data.get("options")
        if not isinstance(content, str):
            self._refuse(request_id, "expected a string content in send-text")
            return
        self.send(
            "user-input",
            {
                "text": content,
                "input_type": "chat",
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "final": True,
                "msg_id": request_id,
            },
        )
        if not (isinstance(options, dict) and options.get("run_immediately") is False):
            self.push_frame(InterruptionFrame())
        self.push_frame(InputTextFrame(content, request_id))

    def _dtmf(self, request_id: str, data: dict[str, Any]) -> None:
        buttons = data.get("buttons")
        if (
            not isinstance(buttons, list)
            or len(buttons) > MAX_DTMF_BUTTONS
            or not all(isinstance(button, str) and button in DTMF_BUTTONS for button in buttons)
        ):
            self._refuse(request_id, "expected buttons to be a list of 0-9, *, #, A-D in dtmf")
            return
        for button in buttons:
            self.push_frame(InputDTMFFrame(button))

    def _disconnect_bot(self, request_id: str, data: dict[str, Any]) -> None:
        self.push_frame(EndRequestFrame("client asked to end"), Direction.UPSTREAM)


#: Pipecat's Python client runs a bot's RTVI: it answers what it doesn't know with an error, and
#: errors are what it doesn't know. Answering those would never end.
_NEVER_ANSWERED = frozenset(["error", "error-response", "server-response", "bot-ready"])

_HANDLERS: dict[str, Callable[[RTVIProcessor, str, dict[str, Any]], None]] = {
    "client-ready": RTVIProcessor._client_ready,
    "client-message": RTVIProcessor._client_message,
    "ui-event": RTVIProcessor._ui_event,
    "send-text": RTVIProcessor._send_text,
    "dtmf": RTVIProcessor._dtmf,
    "disconnect-bot": RTVIProcessor._disconnect_bot,
}


def _report_transcription(frame: TranscriptionFrame) -> tuple[str, dict[str, Any]]:
    return "user-transcription", {
        "text": frame.text,
        "user_id": frame.user_id,
        "timestamp": frame.timestamp,
        "final": frame.final,
    }


def _report_bot_output(frame: BotOutputFrame) -> tuple[str, dict[str, Any]]:
    return "bot-output", {
        "text": frame.text,
        "spoken": frame.spoken,
        "aggregated_by": frame.aggregated_by,
    }


_REPORTS: dict[type[Frame], Callable[[Any], tuple[str, dict[str, Any] | None]]] = {
    UserStartedSpeakingFrame: lambda frame: ("user-started-speaking", None),
    UserStoppedSpeakingFrame: lambda frame: ("user-stopped-speaking", None),
    BotStartedSpeakingFrame: lambda frame: ("bot-started-speaking", None),
    BotStoppedSpeakingFrame: lambda frame: ("bot-stopped-speaking", None),
    BotInterruptedFrame: lambda frame: ("bot-interrupted", None),
    TranscriptionFrame: _report_transcription,
    BotOutputFrame: _report_bot_output,
    ErrorFrame: lambda frame: ("error", {"error": frame.error, "fatal": frame.fatal}),
    MetricsFrame: lambda frame: ("metrics", frame.data),
}
