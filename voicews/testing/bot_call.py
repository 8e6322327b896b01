"""A bot in a whole call, without a server, a socket or a database."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from itertools import count
from math import fsum
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from voicews.audio.pcm import Pcm
from voicews.audio.wav import is_wav, read_wav
from voicews.bots import Bot
from voicews.close_codes import CloseCode
from voicews.frames import (
    AudioRawFrame,
    BotOutputFrame,
    Direction,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from voicews.pipeline import FrameProcessor, Pipeline, PipelineTask, TaskState
from voicews.pipeline.rtvi import PROTOCOL_VERSION
from voicews.serializers import FrameSerializer
from voicews.testing.virtual_clock import settle
from voicews.transports import WebsocketServerTransport
from voicews.transports.base import Connection

if TYPE_CHECKING:
    from voicews.models import VoiceSession

B = TypeVar("B", bound=Bot)

LABEL = "rtvi-ai"
PACKET_SECS = 0.02
#: How often a wait looks whether its condition holds.
POLL_SECS = 0.01
#: How long `BotCall` waits for something, by the clock of its event loop.
TIMEOUT_SECS = 60.0


class RequestFailed(Exception):
    """The bot answered a request with an error."""


class FrameListSerializer(FrameSerializer):
    """The message is the frame's place in a list: tests see the frames themselves."""

    carries_destinations = True
    carries_pictures = True
    sends_dtmf = True

    def __init__(self, *, sample_rate: int | None = None, acknowledges_marks: bool = False) -> None:
        self.sample_rate = sample_rate
        self.acknowledges_marks = acknowledges_marks
        self.frames: list[Frame] = []

    def serialize(self, frame: Frame) -> str | bytes | None:
        self.frames.append(frame)
        return str(len(self.frames) - 1)

    def deserialize(self, data: str | bytes) -> Frame | None:
        return self.frames[int(data)]

    def received(self, socket: FakeSocket) -> list[Frame]:
        """What reached the peer, in order."""
        return [self.frames[int(data)] for data in socket.sent]

    def audio(self, socket: FakeSocket) -> list[OutputAudioRawFrame]:
        """The audio that reached the peer."""
        return [f for f in self.received(socket) if isinstance(f, OutputAudioRawFrame)]


class FakeSocket:
    """Records what was sent and when; can stall, fail, and leave a close unanswered."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.times: list[float] = []
        self.closed: list[tuple[int, str]] = []
        self.aborted = 0
        self.error: Exception | None = None
        #: Cleared: the peer reads no more.
        self.flows = asyncio.Event()
        self.flows.set()
        self.close_answered = asyncio.Event()
        self.close_answered.set()

    @property
    def websocket(self) -> object:
        return self

    async def send(self, data: str | bytes) -> None:
        await self.flows.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(data)
        self.times.append(asyncio.get_running_loop().time())

    def send_now(self, data: str | bytes) -> bool:
        return False

    async def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))
        await self.close_answered.wait()

    def abort(self) -> None:
        self.aborted += 1


class RecordingLine:
    """The telephone line of a `BotCall` with `phone=True`: records what the bot asks of it."""

    def __init__(self) -> None:
        self.transfers: list[str] = []
        self.output_variables: dict[str, str] = {}

    async def transfer(self, number: str) -> None:
        self.transfers.append(number)

    def set_output_variables(self, variables: Mapping[str, str]) -> None:
        self.output_variables.update(variables)


class _Watch(FrameProcessor):
    """Behind the transport's input: notes the errors and the bot's texts that pass."""

    def __init__(self) -> None:
        super().__init__(name="watch")
        self.errors: list[str] = []
        self.texts: list[str] = []

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if direction is Direction.UPSTREAM:
            if isinstance(frame, ErrorFrame):
                self.errors.append(frame.error)
            elif isinstance(frame, BotOutputFrame):
                self.texts.append(frame.text)
        self.push_frame(frame, direction)


class BotCall(Generic[B]):
    """One call with a bot: the bot's whole pipeline, and a client that a test plays.

    Enter it with `async with`, in a test on a virtual clock (`virtual_time`), where a minute takes
    milliseconds, or on any event loop, where it takes a minute. Entering connects a client, which
    says that it is ready. Leaving hangs up and waits for the bot's end; it raises `AssertionError`
    if a handler failed, unless the test has cleared `errors`.

    `session` is what the bot finds in `self.session`; an unsaved `VoiceSession` will do. With
    `phone`, the bot can transfer the call; what it asks is in `line`. `state` is what
    `restore_state` gets: the call goes on from another process. Other `options` replace parameters
    of the transport.
    """

    #: The version of RTVI that the client speaks; "1.4.0" is the one before.
    rtvi_version = PROTOCOL_VERSION

    def __init__(
        self,
        bot: B,
        *,
        session: VoiceSession | None = None,
        phone: bool = False,
        state: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.bot = bot
        if session is not None:
            bot.session = session
        self.line = RecordingLine()
        if phone:
            bot.phone_line = self.line
        if state is not None:
            bot.resume_from(state)
        self.serializer = FrameListSerializer()
        options.setdefault("serializer", self.serializer)
        self.transport = WebsocketServerTransport(
            dataclasses.replace(bot.transport_params(), **options)
        )
        self._watch = _Watch()
        source, *others = bot.build_pipeline(self.transport, dict).processors
        self.task = PipelineTask(
            Pipeline([source, self._watch, *others]),
            call_id="test",
            audio_in_sample_rate=bot.audio_in_sample_rate,
            audio_out_sample_rate=bot.audio_out_sample_rate,
        )
        self.socket: FakeSocket
        self.connection: Connection
        self._sockets: list[FakeSocket] = []
        self._request_ids = count(1)

    async def __aenter__(self) -> Self:
        self.task.start()
        self.connect()
        await self.say_ready()
        return self

    async def __aexit__(self, error_type: object, error: object, traceback: object) -> None:
        await self.hang_up()
        if error is None:
            assert not self.errors, f"the bot reported errors: {self.errors}"

    # --- what the client does --------------------------------------------------------------------

    def connect(self) -> None:
        """Open a socket; on the wire, a client is there from its first message on."""
        self.socket = FakeSocket()
        self._sockets.append(self.socket)
        self.connection = self.transport.connect(self.socket)

    async def say_ready(self) -> None:
        """Send the handshake of a client, to which `on_start` is the answer."""
        await self.send_rtvi("client-ready", {"version": self.rtvi_version})
        await settle()

    async def reconnect(self) -> None:
        """Lose the socket (1006), if there is one, and come back with another."""
        self.disconnect()
        self.connect()
        await self.say_ready()

    def disconnect(self, close_code: int = CloseCode.ABNORMAL) -> None:
        """Lose the socket."""
        self.connection.disconnect(close_code)

    async def hang_up(self) -> None:
        """End the call from the client's side, and wait until the bot is done."""
        self.task.cancel("client left")
        await self.wait_over()

    async def speak(self, audio: bytes | Pcm | AudioRawFrame, sample_rate: int = 16000) -> None:
        """Say something, in real time by the loop's clock: a WAV file's bytes, 16-bit PCM, a frame.

        Bare PCM is mono at `sample_rate` (Hz).
        """
        if isinstance(audio, bytes):
            audio = read_wav(audio) if is_wav(audio) else AudioRawFrame(audio, sample_rate)
        frame_bytes = 2 * audio.num_channels
        packet_bytes = round(audio.sample_rate * PACKET_SECS) * frame_bytes
        for start in range(0, len(audio.audio), packet_bytes):
            packet = audio.audio[start : start + packet_bytes]
            await self.receive(InputAudioRawFrame(packet, audio.sample_rate, audio.num_channels))
            await asyncio.sleep(len(packet) / frame_bytes / audio.sample_rate)

    async def stay_silent(self, secs: float) -> None:
        """Send silence, in real time by the loop's clock: what ends an utterance."""
        await self.speak(bytes(2 * round(16000 * secs)))

    async def press(self, buttons: str) -> None:
        """Press keys: any of `0123456789*#ABCD`."""
        await self.receive(*map(InputDTMFFrame, buttons))
        await settle()

    async def type_text(self, text: str) -> None:
        """Send a typed text."""
        await self.send_rtvi("send-text", {"content": text})
        await settle()

    async def send_message(self, kind: str, data: Any = None) -> None:
        """Send a message of the page that asks for no answer."""
        await self.send_rtvi("client-message", {"t": kind, "d": data}, "")
        await settle()

    async def request(self, kind: str, data: Any = None) -> Any:
        """Send a message of the page and return the bot's answer.

        Raises `RequestFailed` with the text of an error, `TimeoutError` if there is no answer.
        """
        request_id = f"request-{next(self._request_ids)}"
        await self.send_rtvi("client-message", {"t": kind, "d": data}, request_id)

        def answer() -> dict[str, Any] | None:
            return next((m for m in self.rtvi_messages if m.get("id") == request_id), None)

        await self.wait_until(lambda: answer() is not None)
        message = answer()
        assert message is not None
        if message["type"] == "error-response":
            raise RequestFailed(message["data"]["error"])
        return message["data"]["d"]

    async def send_rtvi(self, kind: str, data: Any, message_id: str = "id1") -> None:
        """Send an RTVI message."""
        message = {"label": LABEL, "type": kind, "id": message_id, "data": data}
        await self.receive(InputTransportMessageFrame(message))

    async def receive(self, *frames: Frame) -> None:
        """Have the client send these frames."""
        for frame in frames:
            self.serializer.frames.append(frame)
            await self.connection.receive(str(len(self.serializer.frames) - 1))

    # --- waiting ---------------------------------------------------------------------------------

    async def wait_until(
        self, condition: Callable[[], bool], timeout_secs: float = TIMEOUT_SECS
    ) -> None:
        """Wait until a function returns true. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_secs):
            while not condition():  # noqa: ASYNC110 - a condition sets no event
                await asyncio.sleep(POLL_SECS)

    async def wait_speaking(self, timeout_secs: float = TIMEOUT_SECS) -> None:
        """Wait until the bot speaks."""
        await self.wait_until(lambda: self.is_bot_speaking, timeout_secs)

    async def wait_quiet(self, timeout_secs: float = TIMEOUT_SECS) -> None:
        """Wait until the bot does not speak; `wait_speaking` first if it has yet to begin."""
        await settle()
        await self.wait_until(lambda: not self.is_bot_speaking, timeout_secs)

    async def wait_over(self) -> None:
        """Wait until the call has ended, after `hang_up()` for instance, and `on_end` is done."""
        async with asyncio.timeout(TIMEOUT_SECS):
            await self.task.wait()
            await self.transport.wait_closed()
        # An abort is still due for a peer that would not answer the close.
        await asyncio.sleep(1)

    # --- what came of it -------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.task.state is TaskState.ENDED

    @property
    def close_code(self) -> int | None:
        """What the current socket was closed with by the server; None while it is open."""
        return self.socket.closed[-1][0] if self.socket.closed else None

    @property
    def is_bot_speaking(self) -> bool:
        """Whether the bot speaks, by the last message to the client."""
        for message in reversed(self.rtvi_messages):
            if message["type"] in ("bot-started-speaking", "bot-stopped-speaking"):
                return bool(message["type"] == "bot-started-speaking")
        return False

    @property
    def errors(self) -> list[str]:
        """The errors that the bot has reported; the log has their tracebacks."""
        return self._watch.errors

    @property
    def frames(self) -> list[Frame]:
        """What was sent to the client, in order, on all its sockets."""
        return [frame for socket in self._sockets for frame in self.serializer.received(socket)]

    @property
    def audio(self) -> bytes:
        """The bot's audio that was sent, 16-bit PCM at the bot's output rate."""
        return b"".join(f.audio for f in self.frames if isinstance(f, OutputAudioRawFrame))

    @property
    def heard_secs(self) -> float:
        """How much of the bot's audio was sent, in seconds of media."""
        return fsum(f.duration_secs for f in self.frames if isinstance(f, OutputAudioRawFrame))

    @property
    def keys(self) -> str:
        """The telephone keys that the bot has pressed."""
        return "".join(f.buttons for f in self.frames if isinstance(f, OutputDTMFFrame))

    @property
    def rtvi_messages(self) -> list[dict[str, Any]]:
        """Every RTVI message that was sent to the client."""
        kinds = OutputTransportMessageFrame | OutputTransportMessageUrgentFrame
        return [frame.message for frame in self.frames if isinstance(frame, kinds)]

    def rtvi_data(self, kind: str) -> list[Any]:
        """The data of the RTVI messages of one type, such as `bot-output`."""
        return [m.get("data") for m in self.rtvi_messages if m.get("type") == kind]

    @property
    def server_messages(self) -> list[Any]:
        """What the bot has sent with `send_message`."""
        return self.rtvi_data("server-message")

    @property
    def texts(self) -> list[str]:
        """The texts of `say_text` and of `play(..., text=...)`, in order."""
        return self._watch.texts
