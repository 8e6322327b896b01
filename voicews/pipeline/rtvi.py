"""RTVI: the messages between a voice client and its bot.

Source: the RTVI message standard as Pipecat's `@pipecat-ai/client-js` 1.13 speaks it: version 2.2,
and version 1 with a client that says so. Messages with another label than `rtvi-ai` are the
application's and pass through.
"""

from __future__ import annotations

import base64
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from voicews import __version__
from voicews.audio.pcm import check_sample_rate, check_whole_frames
from voicews.exceptions import AudioFormatError
from voicews.frames import (
    BotInterruptedFrame,
    BotOutputFrame,
    BotOutputProgressFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ClientConnectedFrame,
    ClientMessageFrame,
    ClientReadyFrame,
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
    PlayedFrame,
    ServerResponseFrame,
    StartInputFrame,
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
MAX_CHANNELS = 8
#: What is kept for a client that is there and has yet to say that it is ready.
MAX_WAITING_REPORTS = 256
#: The other version that is spoken, and what a client has that doesn't say.
_OLD_MAJOR = 1
_UNKNOWN_VERSION = (0, 0, 0)


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
        self._client_version = _UNKNOWN_VERSION
        #: What no client was told yet: it may send audio before `client-ready`.
        self._waiting: deque[Frame] = deque(maxlen=MAX_WAITING_REPORTS)
        # Also after a move to another process, the page has seen none of these yet.
        self._segment_ids = itertools.count(time.time_ns() // 1_000_000)
        #: The ids of the texts that are being said, by playback and number.
        self._segments: dict[str, dict[int, int]] = {}

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
        # A client that never said that it is ready may not speak RTVI at all.
        if self._client_is_ready:
            self._report(frame)
        elif type(frame) in _REPORTED:
            self._waiting.append(frame)
        self.push_frame(frame, direction)

    def _report(self, frame: Frame) -> None:
        if isinstance(frame, BotOutputFrame):
            self._report_bot_output(frame)
        elif isinstance(frame, BotOutputProgressFrame):
            self._report_progress(frame)
        elif isinstance(frame, PlayedFrame):
            self._segments.pop(frame.name, None)
        else:
            report = _REPORTS.get(type(frame))
            if report is not None:
                kind, data = report(frame)
                self.send(kind, data)

    def _report_bot_output(self, frame: BotOutputFrame) -> None:
        if self._client_version[0] == _OLD_MAJOR:
            data = {
                "text": frame.text,
                "spoken": frame.spoken,
                "aggregated_by": frame.aggregated_by,
            }
            self.send("bot-output", data)
            return
        segment_id = next(self._segment_ids)
        if frame.playback:
            self._segments.setdefault(frame.playback, {})[frame.segment] = segment_id
        self._send_segment(segment_id, frame.text, 0 if frame.spoken else None, frame.aggregated_by)
        if frame.spoken and not frame.playback:
            # Its playout is not followed.
            self._send_segment(segment_id, frame.text, len(frame.text), frame.aggregated_by)

    def _report_progress(self, frame: BotOutputProgressFrame) -> None:
        segment_id = self._segments.get(frame.playback, {}).get(frame.segment)
        # A client that came in the meantime was not told of the text.
        if segment_id is not None:
            self._send_segment(segment_id, frame.text, frame.heard, frame.aggregated_by)

    def _send_segment(self, segment_id: int, text: str, heard: int | None, kind: str) -> None:
        """Tell how much of a text was heard; `heard` is None for one that is only shown."""
        data: dict[str, Any] = {
            "text": text,
            "output_type": kind,
            # The names that it had before.
            "text_type": kind,
            "aggregated_by": kind,
            "segment_id": segment_id,
            "will_be_spoken": heard is not None,
            "spoken_status": "new" if not heard else "in-progress",
        }
        if heard is not None:
            data["spoken_progress"] = {
                "accumulated_text": text[:heard],
                "remaining_text": text[heard:],
            }
            if heard >= len(text):
                data["spoken_status"] = "completed"
        self.send("bot-output", data)

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
        if handler is None and kind in _NOTICES:
            handler = _notice_handler(kind)
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
        elif not request.one_way:
            self.send("server-response", {"t": request.type, "d": frame.data}, request.id)

    def _client_ready(self, request_id: str, data: dict[str, Any]) -> None:
        version = data.get("version")
        self._client_version, warning = _parse_version(version if isinstance(version, str) else "")
        if warning:
            self._refuse(request_id, f"{warning} Compatibility issues may occur.")
        self._client_is_ready = True
        self._segments.clear()
        self.send(
            "bot-ready",
            {
                # A client of version 1 that is told 2 expects what that version brings.
                "version": version if self._client_version[0] == _OLD_MAJOR else PROTOCOL_VERSION,
                "about": {"library": "voicews", "library_version": __version__},
                "capabilities": self._capabilities,
                **(self._bot_ready_extras() if self._bot_ready_extras else {}),
            },
            request_id,
        )
        self.push_frame(StartInputFrame(), Direction.UPSTREAM)
        self.push_frame(ClientReadyFrame(self._client_version))
        while self._waiting:
            self._report(self._waiting.popleft())

    def _client_message(self, request_id: str, data: dict[str, Any]) -> None:
        kind = data.get("t")
        if not isinstance(kind, str):
            self._refuse(request_id, "expected a string t in client-message")
            return
        self.push_frame(ClientMessageFrame(kind, data.get("d"), request_id))

    def _notice(self, kind: str, request_id: str, data: dict[str, Any]) -> None:
        """Hand the bot a message; the only answer is an error if the bot has no handler for it."""
        for name, types in _NOTICES[kind].items():
            if not isinstance(data.get(name), types):
                self._refuse(request_id, f"expected {name} in {kind}")
                return
        self.push_frame(ClientMessageFrame(kind, data, request_id, one_way=True))

    def _send_file(self, request_id: str, data: dict[str, Any]) -> None:
        file, options = data.get("file"), data.get("options")
        source = file.get("source") if isinstance(file, dict) else None
        if not isinstance(file, dict) or not isinstance(file.get("format"), str):
            self._refuse(request_id, "expected a file with a format in send-file")
        elif not isinstance(source, dict) or source.get("type") not in ("bytes", "url"):
            self._refuse(request_id, "expected a source of type bytes or url in send-file")
        elif not isinstance(source.get(source["type"]), str):
            self._refuse(request_id, f"expected a string {source['type']} in send-file")
        else:
            if not (isinstance(options, dict) and options.get("run_immediately") is False):
                self.push_frame(InterruptionFrame())
            self._notice("send-file", request_id, data)

    def _raw_audio(self, request_id: str, data: dict[str, Any]) -> None:
        pieces = data.get("base64AudioBatch") or [data.get("base64Audio")]
        rate, channels = data.get("sampleRate"), data.get("numChannels")
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            self._refuse(request_id, "expected base64 strings of PCM in raw-audio")
            return
        if type(rate) is not int or type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
            self._refuse(request_id, "expected an integer sampleRate and numChannels in raw-audio")
            return
        try:
            check_sample_rate(rate)
            audio = [base64.b64decode(piece, validate=True) for piece in pieces]
            for pcm in audio:
                check_whole_frames(pcm, channels)
        except (ValueError, AudioFormatError) as error:
            self._refuse(request_id, f"expected PCM in raw-audio: {error}")
            return
        for pcm in audio:
            self.push_frame(InputAudioRawFrame(pcm, rate, channels), Direction.UPSTREAM)

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
            or not buttons
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

#: What the bot gets as it is, with what must stand in it.
_NOTICES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "ui-event": {"event": str},
    "ui-snapshot": {"tree": (dict, list, str)},
    "ui-cancel-job-group": {"job_id": str},
    "llm-function-call-result": {
        "function_name": str,
        "tool_call_id": str,
        "arguments": dict,
        "result": (dict, list, str, int, float, bool, type(None)),
    },
    "send-file": {"content": str},
}

_HANDLERS: dict[str, Callable[[RTVIProcessor, str, dict[str, Any]], None]] = {
    "client-ready": RTVIProcessor._client_ready,
    "client-message": RTVIProcessor._client_message,
    "send-file": RTVIProcessor._send_file,
    "raw-audio": RTVIProcessor._raw_audio,
    "raw-audio-batch": RTVIProcessor._raw_audio,
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


def _notice_handler(kind: str) -> Callable[[RTVIProcessor, str, dict[str, Any]], None]:
    return lambda rtvi, request_id, data: rtvi._notice(kind, request_id, data)


def _parse_version(version: str) -> tuple[tuple[int, int, int], str]:
    """The version, and what is wrong with it if it is not one of ours."""
    if not version:
        return _UNKNOWN_VERSION, "Client version unknown."
    parts = version.split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        return _UNKNOWN_VERSION, f"Invalid client version format ({version[:32]})."
    major, minor, patch = map(int, parts)
    warning = ""
    if major not in (_OLD_MAJOR, int(PROTOCOL_VERSION.split(".", maxsplit=1)[0])):
        warning = (
            f"RTVI version {version} is not compatible with server protocol {PROTOCOL_VERSION}."
        )
    return (major, minor, patch), warning


_REPORTS: dict[type[Frame], Callable[[Any], tuple[str, dict[str, Any] | None]]] = {
    UserStartedSpeakingFrame: lambda frame: ("user-started-speaking", None),
    UserStoppedSpeakingFrame: lambda frame: ("user-stopped-speaking", None),
    BotStartedSpeakingFrame: lambda frame: ("bot-started-speaking", None),
    BotStoppedSpeakingFrame: lambda frame: ("bot-stopped-speaking", None),
    BotInterruptedFrame: lambda frame: ("bot-interrupted", None),
    TranscriptionFrame: _report_transcription,
    ErrorFrame: lambda frame: ("error", {"error": frame.error, "fatal": frame.fatal}),
    MetricsFrame: lambda frame: ("metrics", frame.data),
}
_REPORTED = frozenset([*_REPORTS, BotOutputFrame, BotOutputProgressFrame, PlayedFrame])
