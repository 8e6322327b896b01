"""From the socket into the pipeline."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from voicews.audio.pcm import (
    BYTES_PER_SAMPLE,
    check_sample_rate,
    check_whole_frames,
    mix_channels,
)
from voicews.audio.resampling import Resampler
from voicews.audio.turns import TurnTracker
from voicews.audio.vad import VADAnalyzer, VADEvent, VADState
from voicews.audio.wav import is_wav, split_wav
from voicews.exceptions import AudioFormatError, InvalidMessage
from voicews.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CallEndedFrame,
    CancelFrame,
    ClientConnectedFrame,
    Direction,
    EndFrame,
    FilterControlFrame,
    Frame,
    ImagePieceFrame,
    ImagePieceReceivedFrame,
    ImageRefusedFrame,
    ImageRequestFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    MarkPlayedFrame,
    PingFrame,
    PlaybackPositionFrame,
    ProtocolRequestFrame,
    StartFrame,
    StartInputFrame,
    SystemFrame,
    UserImageRequestFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.rate_limit import RateLimit
from voicews.serializers.protobuf import MAX_CHANNELS
from voicews.transports.effects import AudioPart, audio_threads
from voicews.transports.ends import SerializerQueues, TransportEnd, finished
from voicews.transports.params import SAMPLE_RATES, TransportParams
from voicews.transports.pictures import PictureInput, Send

if TYPE_CHECKING:
    from voicews.serializers.base import FrameSerializer

logger = logging.getLogger(__name__)

INVALID_LOG_INTERVAL_SECS = 1.0
#: Unusual sample rates which one call may come with: each costs some milliseconds for the
#: design of its resampler.
MAX_UNUSUAL_RATES = 3
#: What waits for a filter or an analyzer that is so much too slow (seconds) is joined by no more
#: audio; every so often (chunks) that is logged.
MAX_WAIT_SECS = 5.0
DROPPED_LOG_CHUNKS = 250
#: Longer audio is taken in pieces of this size, with turns of the event loop between them: for one
#: it costs some milliseconds.
MAX_PIECE_SECS = 0.5
MAX_PIECE_BYTES = 64 * 1024

#: What concerns the transport alone.
ControlInput = (
    PingFrame
    | PlaybackPositionFrame
    | MarkPlayedFrame
    | ProtocolRequestFrame
    | CallEndedFrame
    | ImagePieceReceivedFrame
    | ImageRefusedFrame
    | ImageRequestFrame
)


class InputTransport(TransportEnd):
    """The first processor: turns messages into frames, audio into the pipeline's format.

    `on_invalid` is called when the peer has sent too many bad messages in a row, `on_too_fast` when
    it is more than `audio_in_max_ahead_secs` ahead of real time (with that), `on_control` with
    frames that concern the transport alone, `on_ended` with the frame that ended the call when the
    pipeline is over.
    """

    def __init__(
        self,
        params: TransportParams,
        serializer: FrameSerializer,
        *,
        on_started: Callable[[StartFrame], None],
        on_ending: Callable[[], None],
        on_control: Callable[[ControlInput], None],
        on_invalid: Callable[[], None],
        on_too_fast: Callable[[float], None],
        send: Send,
        on_ended: Callable[[EndFrame | CancelFrame], None],
        serializer_queues: SerializerQueues | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or "input")
        self._params = params
        self._serializer = serializer
        self._serializer_queues = serializer_queues
        if serializer_queues is not None:
            serializer_queues.report = self.report_exception
        self._clients = 0
        self._on_started = on_started
        self._on_ending = on_ending
        self._on_control = on_control
        self._on_invalid = on_invalid
        self._on_too_fast = on_too_fast
        #: Seconds of audio that the peer may send; None: before the first, or no limit.
        self._audio_limit: RateLimit | None = None
        self.pictures = PictureInput(params, send, self.push_frame)
        self._on_ended = on_ended
        self._end_frame: EndFrame | CancelFrame | None = None
        self._rate = params.audio_in_sample_rate or 16000
        self._channels = params.audio_in_channels
        self._resampler: Resampler | None = None
        self._resampler_format = (0, 0)
        self._unusual_rates: set[int] = set()
        self._streaming = params.audio_in_stream_on_start
        self._filter: AudioPart | None = None
        if params.audio_in_filter is not None:
            self._filter = AudioPart(params.audio_in_filter, "filter", self.report_exception)
        analyzers = (params.vad_analyzer, params.turn_analyzer)
        self._analyzes_in_thread = any(a is not None and a.in_thread for a in analyzers)
        self._turns: TurnTracker | None = None
        self._loop: asyncio.AbstractEventLoop
        #: Audio and what came after it, while filter or analyzer are busy with what came before.
        #: With the time at which each came.
        self._waiting: deque[tuple[float, Frame | Awaitable[object]]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._dropped_audio = 0
        self._greeted = False
        self._had_client = False
        self._invalid_in_a_row = 0
        self._invalid_logged_at = float("-inf")
        self._invalid_unlogged = 0
        #: Messages that were not what the protocol says, since the call began.
        self.invalid_messages = 0

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if self._lane is not None and self._holds(frame, direction):
            return
        if isinstance(frame, StartInputFrame):
            self._streaming = True
            return
        if isinstance(frame, UserImageRequestFrame):
            self.pictures.request(frame)
            return
        if isinstance(frame, StartFrame):
            self._rate = self._params.audio_in_sample_rate or frame.audio_in_sample_rate
            if self._serializer_queues is None:
                self._serializer.setup(frame)
            else:
                self._serializer_queues.setup(frame)
            self._start_parts()
            self.push_frame(frame, direction)
            self._on_started(frame)
            return
        if type(frame) is InputAudioRawFrame:
            # From a processor before this one, or from one that got it in another way.
            checked = self._check_audio(frame)
            if checked is not None:
                self._take_in_turn(checked)
            return
        if isinstance(frame, EndFrame | CancelFrame):
            self._end_frame = frame
        if isinstance(frame, EndFrame):
            self._on_ending()
        if self._turns is not None and isinstance(
            frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame
        ):
            self._turns.bot_speaks = isinstance(frame, BotStartedSpeakingFrame)
        if isinstance(frame, FilterControlFrame) and self._filter is not None:
            self._wait_for(self._filter.control(frame))
            return
        self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        await super().cleanup()
        # A pipeline may have no output to report that all was played.
        self._on_ended(self._end_frame or EndFrame())
        self._waiting.clear()
        if self._serializer_queues is not None:
            await self._serializer_queues.incoming.cancel()
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        if self._filter is not None:
            await self._filter.stop()
        vad = self._params.vad_analyzer
        if vad is not None and vad.in_thread:
            # Shielded: what is shared must be given back, however long this one waits for it.
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(audio_threads, vad.close))
        elif vad is not None:
            vad.close()

    def _start_parts(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._filter is not None:
            self._wait_for(self._filter.start(self._rate, self._channels))
        turn_analyzer = self._params.turn_analyzer
        if turn_analyzer is not None:
            self._turns = TurnTracker(turn_analyzer.params, turn_analyzer.window_secs, self._rate)
        vad = self._params.vad_analyzer
        if vad is not None and vad.in_thread:
            setting = self._loop.run_in_executor(audio_threads, vad.set_sample_rate, self._rate)
            self._wait_for(setting)
        elif vad is not None:
            vad.set_sample_rate(self._rate)

    def new_client(self) -> None:
        """The next valid message is the first of another client."""
        self._clients += 1
        self._greeted = False
        self._invalid_in_a_row = 0
        self._resampler = None
        self.pictures.new_client()

    async def check_message(self, data: str | bytes) -> None:
        """Raise `InvalidMessage` if this is not a message of the protocol."""
        try:
            await finished(self._serializer.deserialize(data))
        except InvalidMessage:
            raise
        except Exception as error:  # noqa: BLE001 - a project's own serializer
            self.report_exception(error, "to deserialize a message")
            raise InvalidMessage("expected a message that the serializer can take") from None

    def receive(self, data: str | bytes) -> None:
        """Take one message from the socket."""
        if self._serializer_queues is not None:
            later = partial(self._receive_later, data, self._clients)
            self._serializer_queues.incoming.put("to take a message", later)
            return
        try:
            frame = self._serializer.deserialize(data)
            if type(frame) is InputAudioRawFrame:
                frame = self._check_audio(frame)
            elif type(frame) is ImagePieceFrame:
                frame = self.pictures.receive(frame)
        except Exception as error:  # noqa: BLE001 - a project's own serializer
            self._refuse(error)
            return
        self._received(frame)

    async def _receive_later(self, data: str | bytes, client: int) -> None:
        try:
            frame = await finished(self._serializer.deserialize(data))
            if client != self._clients:
                return
            if type(frame) is InputAudioRawFrame:
                frame = self._check_audio(frame)
            elif type(frame) is ImagePieceFrame:
                frame = self.pictures.receive(frame)
        except Exception as error:  # noqa: BLE001 - a project's own serializer
            self._refuse(error)
            return
        self._received(frame)

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, InvalidMessage | AudioFormatError):
            self._reject(str(error))
            return
        self.report_exception(error, "to deserialize a message")
        self._reject("the serializer failed")

    def _received(self, frame: Frame | None) -> None:
        self._invalid_in_a_row = 0
        if not self._greeted:
            self.greet()
        if frame is None:
            return
        if isinstance(frame, ControlInput):
            self._on_control(frame)
        elif type(frame) is InputAudioRawFrame and self._is_too_fast(frame):
            self._on_too_fast(self._params.audio_in_max_ahead_secs or 0.0)
        else:
            self._take_in_turn(frame)

    def _is_too_fast(self, frame: InputAudioRawFrame) -> bool:
        max_ahead_secs = self._params.audio_in_max_ahead_secs
        if max_ahead_secs is None:
            return False
        now = asyncio.get_running_loop().time()
        if self._audio_limit is None:
            self._audio_limit = RateLimit(1.0, max_ahead_secs, now)
        return not self._audio_limit.spend(frame.duration_secs, now)

    def _take_in_turn(self, frame: Frame) -> None:
        if type(frame) is InputAudioRawFrame:
            pieces = _pieces(frame)
            if self._working is None and len(pieces) == 1:
                self._take_audio(frame)
                return
            for piece in pieces:
                self._wait(piece)
        elif self._working is not None and not isinstance(frame, SystemFrame):
            self._wait(frame)
        else:
            self.push_frame(frame)

    def greet(self) -> None:
        """The client has said something valid: tell the pipeline that it is there, once."""
        if not self._greeted:
            self._greeted = True
            resumed, self._had_client = self._had_client, True
            self.push_frame(ClientConnectedFrame(resumed))

    def _check_audio(self, frame: InputAudioRawFrame) -> InputAudioRawFrame | None:
        """The frame without a WAV header; None if audio is not wanted. Raises for what can't be
        converted.
        """
        if not self._params.audio_in_enabled or not self._streaming:
            return None
        if is_wav(frame.audio):
            pcm, rate, channels = split_wav(frame.audio)
            if channels > MAX_CHANNELS:
                raise InvalidMessage(f"expected at most {MAX_CHANNELS} channels, found {channels}")
            frame = InputAudioRawFrame(pcm, rate, channels, frame.pts)
        rate, channels = frame.sample_rate, frame.num_channels
        if rate != self._rate and rate not in SAMPLE_RATES:
            self._check_unusual_rate(rate)
        if rate != self._rate or channels != self._channels:
            check_whole_frames(frame.audio, channels)
            mix_channels(b"", channels, self._channels)
        return frame

    def _convert(self, frame: InputAudioRawFrame) -> InputAudioRawFrame:
        """The frame in the pipeline's format."""
        pcm, rate, channels = frame.audio, frame.sample_rate, frame.num_channels
        if rate == self._rate and channels == self._channels:
            return frame
        if channels != self._channels:
            pcm = mix_channels(pcm, channels, self._channels)
        if rate != self._rate:
            if self._resampler is None or self._resampler_format != (rate, self._channels):
                self._resampler = Resampler(rate, self._rate, self._channels)
                self._resampler_format = (rate, self._channels)
            pcm = self._resampler.process(pcm)
        return InputAudioRawFrame(pcm, self._rate, self._channels, frame.pts)

    def _check_unusual_rate(self, rate: int) -> None:
        if rate in self._unusual_rates:
            return
        check_sample_rate(rate)
        if len(self._unusual_rates) >= MAX_UNUSUAL_RATES:
            raise InvalidMessage(f"expected a usual sample rate, found another one: {rate} Hz")
        self._unusual_rates.add(rate)

    # --- filter and analyzer --------------------------------------------------------------------

    def _take_audio(self, frame: InputAudioRawFrame) -> None:
        if self._analyzes_in_thread or (self._filter is not None and self._filter.waits):
            self._wait(frame)
            return
        frame = self._convert(frame)
        if self._filter is not None:
            frame.audio = self._filter.process(frame.audio)
            if not frame.audio:
                return
        vad = self._params.vad_analyzer
        if vad is None:
            if self._params.audio_in_passthrough:
                self.push_frame(frame)
            return
        events: list[VADEvent] = []
        try:
            pcm = self._mono(frame.audio)
            events = vad.process(pcm)
            if self._turns is not None:
                events = self._take_turns(vad, pcm, events)
                if self._turns.asks:
                    events += self._turns.answer(complete=self._is_complete())
        except Exception as error:  # noqa: BLE001 - a project's own analyzer
            self.report_exception(error, "to detect voice activity")
        self._push_audio(frame, events)

    def _take_turns(self, vad: VADAnalyzer, pcm: bytes, events: list[VADEvent]) -> list[VADEvent]:
        assert self._turns is not None
        return self._turns.take(pcm, events, voiced=vad.state is VADState.SPEAKING)

    def _is_complete(self) -> bool:
        analyzer = self._params.turn_analyzer
        assert analyzer is not None
        assert self._turns is not None
        try:
            return analyzer.is_complete(self._turns.turn_audio, self._rate)
        except Exception as error:  # noqa: BLE001 - a project's own analyzer
            self._loop.call_soon_threadsafe(self.report_exception, error, "to find the turn's end")
            return True

    def _mono(self, pcm: bytes) -> bytes:
        return pcm if self._channels == 1 else mix_channels(pcm, self._channels, 1)

    def _push_audio(self, frame: InputAudioRawFrame, events: list[VADEvent]) -> None:
        for event in events:
            if event.speaking:
                self.push_frame(UserStartedSpeakingFrame(event.edge_secs, event.detected_secs))
                if self._params.allow_interruptions:
                    self.push_frame(InterruptionFrame())
        if self._params.audio_in_passthrough:
            self.push_frame(frame)
        for event in events:
            if not event.speaking:
                self.push_frame(UserStoppedSpeakingFrame(event.edge_secs, event.detected_secs))

    def _wait_for(self, awaitable: Awaitable[object] | None) -> None:
        """What comes from now on waits for this."""
        if awaitable is not None:
            self._wait(awaitable)

    def _wait(self, item: Frame | Awaitable[object]) -> None:
        now = asyncio.get_running_loop().time()
        if (
            isinstance(item, InputAudioRawFrame)
            and self._waiting
            and now - self._waiting[0][0] > MAX_WAIT_SECS
        ):
            if self._dropped_audio % DROPPED_LOG_CHUNKS == 0:
                logger.warning("call %s: %s: filter or analyzer too slow", self.call_id, self.name)
            self._dropped_audio += 1
            return
        self._waiting.append((now, item))
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                _came_at, item = self._waiting.popleft()
                if isinstance(item, InputAudioRawFrame):
                    await self._process_later(self._convert(item))
                    await asyncio.sleep(0)
                elif isinstance(item, Frame):
                    self.push_frame(item)
                else:
                    await self._finish(item)
        finally:
            self._working = None

    async def _finish(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - a project's own filter or analyzer
            self.report_exception(error, "to start")

    async def _process_later(self, frame: InputAudioRawFrame) -> None:
        if self._filter is not None:
            frame.audio = await self._filter.process_later(frame.audio)
        vad = self._params.vad_analyzer
        if not frame.audio:
            return
        events: list[VADEvent] = []
        if vad is not None:
            try:
                events = await self._analyze_later(vad, self._mono(frame.audio))
            except Exception as error:  # noqa: BLE001 - a project's own analyzer
                self.report_exception(error, "to detect voice activity")
        self._push_audio(frame, events)

    async def _analyze_later(self, vad: VADAnalyzer, pcm: bytes) -> list[VADEvent]:
        loop = self._loop
        if vad.in_thread:
            events = await loop.run_in_executor(audio_threads, vad.process, pcm)
        else:
            events = vad.process(pcm)
        if self._turns is None:
            return events
        events = self._take_turns(vad, pcm, events)
        if self._turns.asks:
            complete = await loop.run_in_executor(audio_threads, self._is_complete)
            events += self._turns.answer(complete=complete)
        return events

    def _reject(self, error: str) -> None:
        self.invalid_messages += 1
        self._invalid_in_a_row += 1
        now = asyncio.get_running_loop().time()
        if now - self._invalid_logged_at >= INVALID_LOG_INTERVAL_SECS:
            logger.warning(
                "call %s: bad message: %s%s",
                self.call_id,
                error,
                f" ({self._invalid_unlogged} more before it)" if self._invalid_unlogged else "",
            )
            self._invalid_logged_at = now
            self._invalid_unlogged = 0
        else:
            self._invalid_unlogged += 1
        if self._invalid_in_a_row == self._params.max_invalid_messages:
            self._on_invalid()


def _pieces(frame: InputAudioRawFrame) -> list[InputAudioRawFrame]:
    """Audio in pieces that are short enough to be taken at once."""
    frame_bytes = BYTES_PER_SAMPLE * frame.num_channels
    size = min(int(frame.sample_rate * MAX_PIECE_SECS), MAX_PIECE_BYTES // frame_bytes)
    size *= frame_bytes
    if len(frame.audio) <= size:
        return [frame]
    pieces = []
    for start in range(0, len(frame.audio), size):
        pcm = frame.audio[start : start + size]
        pts = frame.pts
        if pts is not None:
            pts += start // frame_bytes * 1_000_000_000 // frame.sample_rate
        pieces.append(InputAudioRawFrame(pcm, frame.sample_rate, frame.num_channels, pts))
    return pieces
