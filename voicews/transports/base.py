"""What all transports are: an input, an output, one client at a time, events."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, ClassVar, TypeVar

from voicews.close_codes import CloseCode
from voicews.exceptions import ConfigurationError, InvalidState, WriteTimeout
from voicews.frames import (
    CallEndedFrame,
    CallStartedFrame,
    CancelFrame,
    ClientDisconnectedFrame,
    ClientMessageFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    Frame,
    ImagePieceReceivedFrame,
    ImageRefusedFrame,
    ImageRequestFrame,
    MarkPlayedFrame,
    PingFrame,
    PongFrame,
    ProtocolRequestFrame,
    StartFrame,
)
from voicews.pipeline.processor import FrameProcessor
from voicews.serializers.base import FrameSerializer
from voicews.serializers.protobuf import ProtobufFrameSerializer
from voicews.signals import EventHandler, EventSource
from voicews.transports.ends import SerializerQueues
from voicews.transports.input import ControlInput, InputTransport
from voicews.transports.output import OutputTransport
from voicews.transports.params import TransportParams
from voicews.transports.writer import Socket, SocketWriter

logger = logging.getLogger(__name__)

#: When a write fails, the reader of the socket has this long (seconds) to report the close code.
LAST_WORDS_SECS = 0.25

Handler = TypeVar("Handler", bound=EventHandler)


class TransportState(enum.IntEnum):
    #: No client; for a transport that clients come back to, this may be between two of them.
    WAITING = 0
    CONNECTED = 1
    #: The pipeline has ended, the client's socket is being closed.
    CLOSING = 2
    CLOSED = 3


class Connection:
    """One client of a transport, from `BaseTransport.connect` until it is released.

    The reader of the socket calls `receive` for each message and `disconnect` at the end. After
    the transport has released the client, both do nothing: its last messages are dropped.
    """

    __slots__ = (
        "_invalid_before",
        "_transport",
        "bytes_in",
        "heard_at",
        "is_open",
        "messages_in",
        "writer",
    )

    def __init__(self, transport: BaseTransport, writer: SocketWriter) -> None:
        self.writer = writer
        self.is_open = True
        #: When (monotonic seconds) the client last said something, and how much it has said.
        self.heard_at = monotonic()
        self.messages_in = 0
        self.bytes_in = 0
        self._transport = transport
        self._invalid_before = transport.invalid_messages

    @property
    def websocket(self) -> object:
        """What event handlers get to see."""
        return self.writer.socket.websocket

    @property
    def invalid_messages(self) -> int:
        """How many of the client's messages were not what the protocol says."""
        return self._transport.invalid_messages - self._invalid_before

    async def receive(self, data: str | bytes) -> None:
        """Take one message, and write what it was answered with."""
        if self._take(data):
            await self.writer.drain()

    def receive_now(self, data: str | bytes) -> None:
        """The same without waiting: what can't be written at once is written by a task."""
        if self._take(data):
            self.writer.write_now()

    def _take(self, data: str | bytes) -> bool:
        """Whether there is something to write now."""
        if not self.is_open:
            return False
        self.heard_at = monotonic()
        self.messages_in += 1
        self.bytes_in += len(data)
        writer = self.writer
        writer.corked = True
        try:
            self._transport._input.receive(data)
        finally:
            writer.corked = False
        return writer.has_work

    def disconnect(self, code: int) -> None:
        """The socket is gone, with this close code."""
        if self.is_open:
            self._transport._release(code)
            self.writer.stop()

    def drop(self, code: int, reason: str = "") -> None:
        """Close the socket; what waits to be written is written first. Does not wait."""
        if self.is_open:
            self._transport.drop_client(code, reason)


class BaseTransport:
    """The two ends of one pipeline: put `input()` first and `output()` last.

    Driven from outside: the code that accepts a socket calls `connect`, and feeds the
    `Connection` that it returns.
    """

    #: The events that `event_handler` takes.
    events: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        params: TransportParams,
        *,
        packet_size: int | None = None,
        pads_last_packet: bool = False,
        close_timeout_secs: float = 0.5,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        self.params = params
        self.state = TransportState.WAITING
        self._close_timeout_secs = close_timeout_secs
        self._events = EventSource(self, self.events)
        self._connection: Connection | None = None
        self._closing: set[asyncio.Task[None]] = set()
        serializer: FrameSerializer = params.serializer or ProtobufFrameSerializer()
        serializer.bitrate = params.audio_out_bitrate
        self._serializer = serializer
        self._serializer_queues = SerializerQueues.of(serializer)
        self._output = self._make_output(packet_size, output_name, pads=pads_last_packet)
        self._input = self._make_input(input_name)

    def _make_output(
        self, packet_size: int | None, name: str | None, *, pads: bool
    ) -> OutputTransport:
        return OutputTransport(
            self.params,
            self._serializer,
            packet_size=packet_size,
            pads_last_packet=pads,
            name=name,
            **self.output_callbacks(self.params),
        )

    def _make_input(self, name: str | None) -> InputTransport:
        callbacks = self.input_callbacks(self.params)
        return InputTransport(self.params, self._serializer, name=name, **callbacks)

    @property
    def serializer(self) -> FrameSerializer:
        """What reads and writes the peer's messages."""
        return self._serializer

    @property
    def has_started(self) -> bool:
        """Whether its pipeline has started."""
        return False

    def take_end(self, end: InputTransport | OutputTransport) -> None:
        """An end was made for this transport: it takes the place of the one before it."""
        if self.has_started:
            raise InvalidState("expected a pipeline that has not started, found one that has")
        if isinstance(end, InputTransport):
            self._input = end
        else:
            before = getattr(self, "_output", end)
            end.press_keys = before.press_keys
            self._output = end

    def output_callbacks(self, params: TransportParams) -> dict[str, Any]:
        """What an output of this transport reports to it."""
        self._check_serializer(params)
        return {"on_ended": self._pipeline_ended, "serializer_queues": self._serializer_queues}

    def _check_serializer(self, params: TransportParams) -> None:
        if params.serializer not in (None, self._serializer):
            raise ConfigurationError("serializer: expected the transport's, found another one")

    def input_callbacks(self, params: TransportParams) -> dict[str, Any]:
        """What an input of this transport reports to it."""
        self._check_serializer(params)
        return {
            "on_started": self._pipeline_started,
            "on_ending": self._pipeline_ending,
            "on_control": self._handle_control,
            "on_invalid": self._too_many_invalid_messages,
            "on_too_fast": self._too_fast,
            "on_ended": self._pipeline_ended,
            "send": self._send,
            "serializer_queues": self._serializer_queues,
        }

    def _send(self, frame: Frame, *, urgent: bool = True) -> None:
        self._output.send(frame, urgent=urgent)

    def input(self) -> FrameProcessor:
        """The processor that brings frames from the socket."""
        return self._input

    def output(self) -> FrameProcessor:
        """The processor that sends frames to the socket."""
        return self._output

    def event_handler(self, name: str) -> Callable[[Handler], Handler]:
        """Decorator: call a function for each event `name` of this transport.

        It is a receiver of the signal of that name in `voicews.signals`. Raises
        `ConfigurationError` for an event that this transport doesn't have.
        """

        def connect(handler: Handler) -> Handler:
            self._events.connect(name, handler)
            return handler

        return connect

    @property
    def invalid_messages(self) -> int:
        """How many messages were not what the protocol says, since the call began."""
        return self._input.invalid_messages

    # --- from the socket ------------------------------------------------------------------------

    def connect(self, socket: Socket) -> Connection:
        """A client is there. Raises `InvalidState` while another one is, or after the end."""
        if self.state is not TransportState.WAITING:
            raise InvalidState(f"expected a transport that is WAITING, found {self.state.name}")
        self.state = TransportState.CONNECTED
        writer = SocketWriter(socket, self.params.audio_out_write_timeout_secs, self._write_failed)
        connection = self._connection = self._new_connection(writer)
        self._input.new_client()
        hello = self._serializer.connected()
        if hello is not None:
            writer.put(hello)
        self._output.connect(writer)
        return connection

    def drop_client(self, code: int, reason: str = "") -> None:
        """Close the client's socket; what waits to be written is written first. Does not wait."""
        connection = self._connection
        if connection is None:
            return
        self._release(code)
        task = asyncio.get_running_loop().create_task(self._close(connection.writer, code, reason))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def begin_call(self, frame: CallStartedFrame) -> None:
        """The connected client's first message was this, read when it was admitted.

        What the protocol answers to it is sent, and the pipeline is notified of the client.
        """
        self._output.send(frame)
        self._input.greet()

    def press_keys_with(self, press: Callable[[str], None]) -> None:
        """Have keys pressed by `press`, which must not block, instead of as tones."""
        self._output.press_keys = press

    async def check_message(self, data: str | bytes) -> None:
        """Raise `InvalidMessage` if a client that sends this can't be one of ours."""
        await self._input.check_message(data)

    def bot_ready_extras(self, extras: Mapping[str, Any]) -> dict[str, Any]:
        """What `bot-ready` says on top of the standard, with what is asked of a camera."""
        params = self.params
        ours = dict(extras.get("voicews") or {})
        if params.video_in_enabled:
            ours["video_in"] = {
                "sources": list(params.video_in_sources),
                "width": params.video_in_width,
                "height": params.video_in_height,
                "framerate": params.video_in_framerate,
                "quality": params.video_in_quality,
                "max_bytes": params.video_in_max_bytes,
            }
        if params.video_out_enabled:
            ours["video_out"] = {"destinations": list(params.video_out_destinations)}
        return {**extras, "voicews": ours}

    async def wait_closed(self) -> None:
        """Wait until the sockets that are being closed are closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    # --- what subclasses add to ------------------------------------------------------------------

    def _pipeline_started(self, frame: StartFrame) -> None:
        """The pipeline has begun to work."""

    def _new_connection(self, writer: SocketWriter) -> Connection:
        """A client's hold on this transport."""
        return Connection(self, writer)

    def _client_left(self, connection: Connection, code: int) -> None:
        """A client that was connected is not any more."""

    def _closed(self) -> None:
        """The pipeline has ended; no client can connect any more."""
        self._events.disconnect_all()

    def request_end(self, reason: str, close_code: int, *, at_once: bool = True) -> None:
        """Ask the pipeline's task to end the call."""
        self._input.push_frame(EndRequestFrame(reason, close_code, at_once), Direction.UPSTREAM)

    def _pipeline_ending(self) -> None:
        """The pipeline is to end when all that was said has been played."""

    # --- life cycle -----------------------------------------------------------------------------

    def _release(self, code: int) -> None:
        """Let go of the client. The one place where a connection ends."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.is_open = False
        if self.state is TransportState.CONNECTED:
            self.state = TransportState.WAITING
        self._output.disconnect()
        if self.state is TransportState.WAITING:
            self._input.push_frame(ClientDisconnectedFrame(code))
        self._client_left(connection, code)

    async def _close(self, writer: SocketWriter, code: int, reason: str) -> None:
        await self._output.wait_sent(self._close_timeout_secs)
        await writer.close(code, reason, self._close_timeout_secs)
        # The peer's answer ends the reading, and normally does so before this.
        asyncio.get_running_loop().call_later(self._close_timeout_secs, writer.socket.abort)

    def _pipeline_ended(self, frame: EndFrame | CancelFrame) -> None:
        if self.state in (TransportState.CLOSING, TransportState.CLOSED):
            return
        self.state = TransportState.CLOSING
        self.drop_client(frame.close_code, frame.reason)
        self.state = TransportState.CLOSED
        self._closed()

    def _write_failed(self, writer: SocketWriter) -> None:
        logger.info("call %s: can't write to the client: %s", self._input.call_id, writer.error)
        if isinstance(writer.error, WriteTimeout):
            self._lost(writer)
            return
        if self._connection is not None and self._connection.writer is writer:
            self._output.disconnect()
        # Some servers fail a write before they hand over the close that was the reason for it.
        asyncio.get_running_loop().call_later(LAST_WORDS_SECS, self._lost, writer)

    def _lost(self, writer: SocketWriter) -> None:
        if self._connection is not None and self._connection.writer is writer:
            self._connection.disconnect(CloseCode.ABNORMAL)
        writer.socket.abort()

    def _too_many_invalid_messages(self) -> None:
        self.drop_client(CloseCode.BAD_DATA, "too many invalid messages")

    def _too_fast(self, max_ahead_secs: float) -> None:
        reason = f"more than {max_ahead_secs:g} s of audio ahead of real time"
        self.drop_client(CloseCode.NOT_ALLOWED, reason)

    def _handle_control(self, frame: ControlInput) -> None:
        if isinstance(frame, PingFrame):
            self._output.send(PongFrame(frame.id))
        elif isinstance(frame, ProtocolRequestFrame):
            self._output.send(frame)
            if frame.data is not None:
                self._input.push_frame(ClientMessageFrame(frame.request, frame.data))
        elif isinstance(frame, CallEndedFrame):
            # Some protocols have an answer to a goodbye, which must leave before the close.
            self._output.send(frame)
            self.request_end(frame.reason or "the caller has left", CloseCode.GOING_AWAY)
        elif isinstance(frame, MarkPlayedFrame):
            self._output.acknowledge_mark(frame.name)
        elif isinstance(frame, ImagePieceReceivedFrame):
            self._output.pictures.acknowledge(frame)
        elif isinstance(frame, ImageRefusedFrame):
            self._input.pictures.refused(frame)
        elif isinstance(frame, ImageRequestFrame):
            self._output.send(ImageRefusedFrame(frame.id, "no camera here"))
        else:
            self._output.report_playback(frame.pts, frame.state)
