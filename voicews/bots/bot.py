"""A bot: the application's side of a call, as handlers.

::

    class Greeter(Bot):
        async def on_start(self):
            await self.play(read_wav("hello.wav"))

        async def on_utterance(self, utterance):
            await self.play(utterance)
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from voicews.audio.pcm import mix_channels
from voicews.audio.turns import TurnAnalyzer
from voicews.audio.utterance import UtteranceBuffer
from voicews.audio.vad import EnergyVAD, VADAnalyzer
from voicews.bots.playback import Audio, Playback
from voicews.bots.speaker import Speaker
from voicews.bots.speech import DEFAULT_AHEAD_SECS, Pieces, Speech
from voicews.exceptions import ImageFormatError, ImageRefused, InvalidState
from voicews.frames import (
    AudioRawFrame,
    BotOutputFrame,
    CancelFrame,
    ClientConnectedFrame,
    ClientMessageFrame,
    ClientReadyFrame,
    Direction,
    EndFrame,
    EndRequestFrame,
    Frame,
    ImageRawFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputImageRawFrame,
    InputTextFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputImageRawFrame,
    OutputTransportMessageUrgentFrame,
    PlayedFrame,
    ServerResponseFrame,
    SpriteFrame,
    StartFrame,
    TranscriptionFrame,
    UserImageRawFrame,
    UserImageRefusedFrame,
    UserImageRequestFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from voicews.pipeline.lanes import Lane
from voicews.pipeline.pipeline import Pipeline
from voicews.pipeline.processor import FrameProcessor
from voicews.pipeline.rtvi import RTVIProcessor
from voicews.serializers.telephony import check_buttons
from voicews.transports.params import ChannelsWebsocketParams
from voicews.video import images

if TYPE_CHECKING:
    from voicews.models import VoiceSession
    from voicews.transports.base import BaseTransport


class PhoneLine(Protocol):
    """What a bot can have its call's telephony company do."""

    async def transfer(self, number: str) -> None: ...

    def set_output_variables(self, variables: Mapping[str, str]) -> None: ...


class _Answer:
    """The answer to one message; an end that its handler asks for comes after it."""

    def __init__(self, bot: Bot, message: ClientMessageFrame) -> None:
        self.bot = bot
        self.is_given = False
        self.end: EndRequestFrame | None = None
        self._message = message

    def give(self, data: Any = None, *, error: str | None = None) -> None:
        self.is_given = True
        response = ServerResponseFrame(self._message, data, error)
        self.bot.push_frame(response, Direction.UPSTREAM)
        if self.end is not None:
            end = partial(self.bot.push_frame, self.end, Direction.UPSTREAM)
            self.bot._speaker.when_written(end)

    def refuse(self, error: BaseException) -> None:
        """Answer for a handler that failed."""
        self.give(error="the bot failed to answer")
        if isinstance(error, Exception):
            self.bot.report_exception(error, "in on_message")


#: What the handler that runs, and whatever it starts, is about to answer.
_answer: ContextVar[_Answer | None] = ContextVar("voicews_answer", default=None)


class Bot(FrameProcessor):
    """Override the handlers that you need.

    A handler that is a plain function runs at once, on the event loop: it must not block. One
    that is `async` may take its time, and is called in order:

    * `on_start`, `on_utterance` and `on_text` take turns; the one that runs is cancelled when the
      user talks over the bot (`asyncio.CancelledError`),
    * `on_message`, `on_dtmf` and `on_interrupted` have a queue of their own: a key never waits for
      an answer to end,
    * `on_audio` has another, and `on_image` a third, where a picture that waits is replaced by a
      newer one.

    A handler that fails is logged, and reported to the client without details; the call goes on.
    """

    #: Sample rates (Hz) and channels that the bot works with; the transport converts.
    audio_in_sample_rate: ClassVar[int] = 16000
    audio_out_sample_rate: ClassVar[int] = 24000
    #: Pictures from the user reach the bot (with an `on_image` anyway), and its own the user.
    video_in_enabled: ClassVar[bool] = False
    video_out_enabled: ClassVar[bool] = False
    #: What is kept of the audio before an utterance, and the longest utterance.
    pre_roll_secs: ClassVar[float] = 0.3
    max_utterance_secs: ClassVar[float] = 60.0
    #: How often (seconds) what `save_state` returns is stored while a call runs, if it has changed;
    #: None: only when the client is gone and before a move, so a process that is killed loses it.
    save_state_interval_secs: ClassVar[float | None] = 10.0

    #: The session's row; None where there is none.
    session: VoiceSession | None = None
    #: The telephone that the call comes from; None where it comes from elsewhere.
    phone_line: PhoneLine | None = None

    def __init__(self) -> None:
        super().__init__()
        self._turns = Lane(self)
        self._events = Lane(self)
        self._audio = Lane(self)
        self._images = Lane(self)
        self._image_requests: dict[int, asyncio.Future[UserImageRawFrame]] = {}
        self._speaker = Speaker(self, self.audio_out_sample_rate, self._was_interrupted)
        self._started = False
        self._over = False
        self._is_migrating = False
        self._end_reason = ""
        self._hears_audio = _overrides(self, "on_audio")
        self._hears_at_once = not inspect.iscoroutinefunction(self.on_audio)
        self._utterance: UtteranceBuffer | None = None
        if _overrides(self, "on_utterance"):
            self._utterance = UtteranceBuffer(
                self.audio_in_sample_rate, self.pre_roll_secs, self.max_utterance_secs
            )

    # --- what it is made of ---------------------------------------------------------------------

    def vad_analyzer(self) -> VADAnalyzer | None:
        """The voice activity detection of one call: energy based if there is an `on_utterance`."""
        return EnergyVAD() if self._utterance is not None else None

    def turn_analyzer(self) -> TurnAnalyzer | None:
        """What tells the end of the user's turn from a pause in it, and an answer from a nod.

        None: every pause of the voice activity detection ends a turn, all voice is an answer.
        """
        return None

    def transport_params(self) -> ChannelsWebsocketParams:
        """The transport's parameters for one call."""
        turn_analyzer = self.turn_analyzer()
        if self._utterance is not None and turn_analyzer is not None:
            self._utterance.lookback_secs = turn_analyzer.params.min_interruption_secs
        return ChannelsWebsocketParams(
            audio_in_enabled=True,
            audio_in_sample_rate=self.audio_in_sample_rate,
            audio_out_enabled=True,
            audio_out_sample_rate=self.audio_out_sample_rate,
            # The browser's player needs no silence, and what was said is followed to its end.
            audio_out_auto_silence=False,
            audio_out_end_silence_secs=0.0,
            video_in_enabled=self.video_in_enabled or _overrides(self, "on_image"),
            video_out_enabled=self.video_out_enabled,
            vad_analyzer=self.vad_analyzer(),
            turn_analyzer=turn_analyzer,
        )

    def build_pipeline(
        self, transport: BaseTransport, bot_ready_extras: Callable[[], Mapping[str, Any]] = dict
    ) -> Pipeline:
        """The processors of one call, this bot among them.

        `bot_ready_extras()` is what the answer to a client's handshake says on top of the standard.
        """
        rtvi = RTVIProcessor(
            bot_ready_extras=lambda: transport.bot_ready_extras(bot_ready_extras())
        )
        return Pipeline([transport.input(), rtvi, self, transport.output()])

    # --- handlers -------------------------------------------------------------------------------

    def on_start(self) -> Awaitable[None] | None:
        """A client is there and ready to listen. Once a call."""

    def on_audio(self, audio: InputAudioRawFrame) -> Awaitable[None] | None:
        """A piece of what the user says or doesn't say, as it comes in, some 20 ms each."""

    def on_image(self, image: InputImageRawFrame) -> Awaitable[None] | None:
        """A picture from the user's camera or screen: a JPEG, PNG or WEBP file, `image.source`."""

    def on_utterance(self, utterance: AudioRawFrame) -> Awaitable[None] | None:
        """The user has said something and stopped: all of it."""

    def on_text(self, text: str) -> Awaitable[None] | None:
        """The user has typed something."""

    def on_message(self, message: ClientMessageFrame) -> Any:
        """The client's application has sent a message; what is returned answers a request."""

    def on_dtmf(self, button: str) -> Awaitable[None] | None:
        """The user has pressed one of `0123456789*#ABCD`."""

    def on_interrupted(self, playback: Playback) -> Awaitable[None] | None:
        """Something that the bot said was cut off, by the user, `interrupt` or a lost socket.

        Called for each thing that was said or waited to be said, in order, when it is known how
        much of it was heard: `playback.heard_ms` and `playback.heard_text` are final. The turn
        that said it has been cancelled.
        """

    def on_end(self, reason: str) -> Awaitable[None] | None:
        """The call is over; nothing that is played now would be heard. Once a call.

        Not called in a process that the call leaves for another one.
        """

    # --- going on in another process ------------------------------------------------------------

    def save_state(self) -> Any:
        """What another instance needs to go on with this call: a dict of JSON data.

        Called when the client is gone, before the call moves to another process, and every
        `save_state_interval_secs`; may be async. A bot that saves nothing begins anew there.
        """
        return {}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Go on from what `save_state` of another instance returned; `on_start` is not called."""

    # --- what it can do -------------------------------------------------------------------------

    def play(
        self,
        audio: Audio | Pieces,
        *,
        text: str = "",
        sample_rate: int | None = None,
        num_channels: int = 1,
    ) -> Playback:
        """Say something, after what is being said: a WAV file's bytes, PCM, a frame, or a stream.

        `text` are its words: the client is shown them, and the session's transcript says how much
        of them was heard.

        Bare PCM is 16-bit little-endian at `sample_rate` (Hz, default: the bot's output rate). A
        stream is an iterator, async or not, of such pieces of any size, or of pairs of a piece and
        its text; it is closed when the user talks over it. A sync iterator runs in a thread.

        Does not wait; await what it returns for that. Raises `AudioFormatError` for what is
        neither; of a stream, when it is awaited.
        """
        if isinstance(audio, Audio | str) or not isinstance(audio, AsyncIterable | Iterable):
            return self._speaker.play(audio, text, sample_rate, num_channels)
        speech = self._speaker.speak(text, sample_rate, num_channels, DEFAULT_AHEAD_SECS)
        self._speaker.play_pieces(audio, speech)
        return speech

    def speak(
        self,
        *,
        text: str = "",
        sample_rate: int | None = None,
        num_channels: int = 1,
        ahead_secs: float = DEFAULT_AHEAD_SECS,
    ) -> Speech:
        """Say something that still comes, such as from a text-to-speech service.

        ::

            async with self.speak(sample_rate=24000) as speech:
                async for piece in tts:
                    await speech.write(piece, text=piece_text)

        See `Speech`. `write` waits while more than `ahead_secs` are written and not yet heard.
        """
        return self._speaker.speak(text, sample_rate, num_channels, ahead_secs)

    def user_said(self, text: str, *, final: bool = True, user_id: str = "") -> None:
        """Show the client what the user said, and if it is `final` write it into the transcript.

        For a bot that has speech recognized; the signal `session_transcribed` tells of it too.
        """
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        frame = TranscriptionFrame(text, user_id, timestamp, final)
        self.push_frame(frame, Direction.UPSTREAM)

    def send_audio(self, audio: AudioRawFrame, *, live: bool = False) -> None:
        """Pass one piece of a stream on to the user; whether it is heard is not followed.

        `live` is for what is said at this moment by somebody else. While it is late, pauses are
        left out and speech is shortened by up to a fifth; what would come two seconds late or more
        is dropped, and all of it while no client is there.
        """
        # What the user says is PCM, however it looks, and whole.
        is_input = isinstance(audio, InputAudioRawFrame)
        pcm = audio.audio if is_input else self._speaker.joined(audio)
        self.push_frame(OutputAudioRawFrame(pcm, audio.sample_rate, audio.num_channels, None, live))

    def show(
        self,
        image: ImageRawFrame | bytes | Sequence[ImageRawFrame | bytes],
        *,
        size: tuple[int, int] | None = None,
        format: str | None = None,  # noqa: A002 - the frames' own word
        destination: str | None = None,
        sync_with_audio: bool = False,
    ) -> None:
        """Show the user a picture, until the next one; several are shown in turns, as a sprite.

        Bytes are a JPEG, PNG or WEBP file, or raw pixels of `size` (width, height) in `format`
        (RGB, BGR, RGBA, BGRA, L; None: the transport's `video_out_color_format`). With
        `sync_with_audio` it appears when what was said before it has been sent. Nothing is shown
        where `video_out_enabled` is off, and in phone calls. Does not wait.
        Raises `ImageFormatError` for what is no picture.
        """
        if isinstance(image, bytes | ImageRawFrame):
            frame = self._image_frame(image, size, format)
            frame.sync_with_audio = sync_with_audio
            frame.transport_destination = destination
            self.push_frame(frame)
        else:
            frames = [self._image_frame(one, size, format) for one in image]
            self.push_frame(SpriteFrame(frames, transport_destination=destination))

    async def request_image(
        self, source: str = "camera", *, timeout_secs: float = 10.0
    ) -> UserImageRawFrame:
        """Ask the user's client for one picture from "camera" or "screen".

        Raises `ImageRefused` if the client has none, `TimeoutError` if it does not answer.
        """
        request = UserImageRequestFrame(video_source=source)
        answer: asyncio.Future[UserImageRawFrame] = asyncio.get_running_loop().create_future()
        self._image_requests[id(request)] = answer
        self.push_frame(request, Direction.UPSTREAM)
        try:
            async with asyncio.timeout(timeout_secs):
                return await answer
        finally:
            del self._image_requests[id(request)]

    def interrupt(self) -> None:
        """Fall silent now: what is being said and what waits to be said is dropped."""
        self._interrupted()
        self.push_frame(InterruptionFrame())

    def say_text(self, text: str, *, spoken: bool = True) -> None:
        """Show the client the text of what the bot says."""
        self.broadcast_frame(BotOutputFrame(text, spoken))

    def send_message(self, data: Any) -> None:
        """Send the client's application a message of any JSON data."""
        self.push_frame(
            OutputTransportMessageUrgentFrame(
                {"label": "rtvi-ai", "type": "server-message", "data": data}
            )
        )

    def hang_up(self, reason: str = "bot ended the call") -> None:
        """End the call when everything that was said has been played.

        Where `on_message` asks for it, its answer leaves first.
        """
        request = EndRequestFrame(reason)
        answer = _answer.get()
        if answer is not None and answer.bot is self and not answer.is_given:
            answer.end = answer.end or request
        else:
            self._speaker.when_written(partial(self.push_frame, request, Direction.UPSTREAM))

    def send_dtmf(self, digits: str) -> None:
        """Press keys of the telephone, after what is being said: any of `0123456789*#ABCD`.

        Raises `ValueError` for others.
        """
        self.push_frame(OutputDTMFFrame(check_buttons(digits)))

    async def transfer(self, number: str) -> None:
        """Hand the caller over to another number (E.164, with the plus), which ends the bot's part.

        Raises `InvalidState` if this is no phone call, `CallFailed` if the provider can't do it.
        """
        if self.phone_line is None:
            raise InvalidState("expected a phone call to transfer, found none")
        await self.phone_line.transfer(number)

    def set_output_variables(self, variables: Mapping[str, str]) -> None:
        """What the flow that a Genesys call goes on in is told when the bot's part ends.

        Those of earlier calls are kept. Raises `InvalidState` if this is no phone call,
        `CallFailed` if the provider has no such flow, `ValueError` for more than it takes.
        """
        if self.phone_line is None:
            raise InvalidState("expected a phone call with a flow, found none")
        self.phone_line.set_output_variables(variables)

    # --- the machinery --------------------------------------------------------------------------

    def process_frame(self, frame: Frame, direction: Direction) -> None:
        if isinstance(frame, InputAudioRawFrame):
            if self._utterance is not None:
                self._collect(self._utterance, frame)
            if self._hears_audio:
                if self._hears_at_once:
                    self._call_plain(self._audio, "on_audio", frame)
                else:
                    self._call(self._audio, "on_audio", frame)
            return
        handler = _HANDLERS.get(type(frame))
        if handler is None or handler(self, frame):
            self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        self._over = True
        await asyncio.gather(
            *(lane.stop() for lane in (self._turns, self._events, self._audio, self._images))
        )
        await self._speaker.close()
        if self._is_migrating:
            return
        ended = self.on_end(self._end_reason)
        if inspect.isawaitable(ended):
            await ended

    async def saved_state(self) -> dict[str, Any]:
        """What `save_state` returns, whichever kind of function it is."""
        state = self.save_state()
        if inspect.isawaitable(state):
            state = await state
        if not isinstance(state, dict):
            raise TypeError(f"expected save_state to return a dict, found {type(state).__name__}")
        return state

    @property
    def saves_state_every_secs(self) -> float | None:
        """How often its state is worth storing while the call runs; None: never."""
        return self.save_state_interval_secs if _overrides(self, "save_state") else None

    def resume_from(self, state: dict[str, Any]) -> None:
        """Be the instance that a call moved to."""
        self._started = True
        self.restore_state(state)

    def mark_migrating(self) -> None:
        """The call goes on in another process: its end here is not the call's."""
        self._is_migrating = True

    def _call(self, lane: Lane, name: str, *args: Any) -> None:
        handler = getattr(self, name)
        if inspect.iscoroutinefunction(handler):
            lane.put(name, lambda: handler(*args))
        else:
            self._call_plain(lane, name, *args)

    def _call_plain(self, lane: Lane, name: str, *args: Any) -> None:
        """Call a handler now. What it raises is its own: those behind it go on, as with lanes."""
        try:
            result = getattr(self, name)(*args)
        except Exception as error:  # noqa: BLE001 - the application's handler
            self.report_exception(error, f"in {name}")
            return
        # It may be the wrapper that a decorator put around an async one.
        if result is not None and inspect.isawaitable(result):
            lane.put(name, lambda: result)

    def _image_frame(
        self, image: ImageRawFrame | bytes, size: tuple[int, int] | None, image_format: str | None
    ) -> OutputImageRawFrame:
        if isinstance(image, ImageRawFrame):
            return OutputImageRawFrame(image.image, image.size, image.format, pts=image.pts)
        if image_format is None:
            image_format = images.identify(image)
        if size is None:
            if image_format not in images.CODECS:
                raise ImageFormatError("expected the size of a picture of raw pixels, found none")
            size = images.read_size(image)
        return OutputImageRawFrame(image, size, image_format)

    def _collect(self, utterance: UtteranceBuffer, frame: InputAudioRawFrame) -> None:
        pcm = frame.audio
        utterance.append(
            pcm if frame.num_channels == 1 else mix_channels(pcm, frame.num_channels, 1)
        )

    def _interrupted(self) -> None:
        self._turns.cancel_current()
        self._speaker.interrupt()

    def _was_interrupted(self, playback: Playback) -> None:
        if _overrides(self, "on_interrupted"):
            self._call(self._events, "on_interrupted", playback)

    def _on_start_frame(self, frame: StartFrame) -> bool:
        if self._over:
            raise InvalidState("expected a new bot for each call, found one that has ended")
        return True

    def _on_client(self, frame: ClientConnectedFrame) -> bool:
        if not self._started:
            self._started = True
            # Later, also if it is a plain function: what the client has just said is handled first,
            # which for an RTVI client is that it is ready.
            self._turns.put("on_start", self._begin)
        return True

    async def _begin(self) -> None:
        started = self.on_start()
        if started is not None and inspect.isawaitable(started):
            await started

    def _on_user_started(self, frame: UserStartedSpeakingFrame) -> bool:
        if self._utterance is not None:
            self._utterance.start(frame.detected_secs - frame.edge_secs)
        return True

    def _on_user_stopped(self, frame: UserStoppedSpeakingFrame) -> bool:
        if self._utterance is not None:
            pcm = self._utterance.stop(frame.detected_secs - frame.edge_secs)
            utterance = AudioRawFrame(pcm, self.audio_in_sample_rate)
            self._call(self._turns, "on_utterance", utterance)
        return True

    def _on_interruption(self, frame: InterruptionFrame) -> bool:
        self._interrupted()
        return True

    def _on_played(self, frame: PlayedFrame) -> bool:
        return self._speaker.played(frame)

    def _on_client_ready(self, frame: ClientReadyFrame) -> bool:
        # RTVI 1 has no message for it.
        self._speaker.shows_progress = frame.version[0] != 1
        return True

    def _on_image(self, frame: InputImageRawFrame) -> bool:
        if inspect.iscoroutinefunction(self.on_image):
            self._images.put("on_image", partial(self.on_image, frame), newest_only=True)
        else:
            self._call_plain(self._images, "on_image", frame)
        return False

    def _on_requested_image(self, frame: UserImageRawFrame) -> bool:
        answer = self._image_requests.get(id(frame.request))
        if answer is not None and not answer.done():
            answer.set_result(frame)
        return answer is None

    def _on_refused_image(self, frame: UserImageRefusedFrame) -> bool:
        answer = self._image_requests.get(id(frame.request))
        if answer is not None and not answer.done():
            answer.set_exception(ImageRefused(frame.reason))
        return answer is None

    def _on_text(self, frame: InputTextFrame) -> bool:
        self._call(self._turns, "on_text", frame.text)
        return False

    def _on_dtmf(self, frame: InputDTMFFrame) -> bool:
        self._call(self._events, "on_dtmf", frame.button)
        return False

    def _on_message(self, frame: ClientMessageFrame) -> bool:
        answer = _Answer(self, frame)
        if not _overrides(self, "on_message"):
            answer.give(error="this bot takes no messages")
        elif inspect.iscoroutinefunction(self.on_message):
            self._events.put("on_message", lambda: _give_later(answer, self.on_message(frame)))
        else:
            token = _answer.set(answer)
            try:
                data = self.on_message(frame)
            except Exception as error:  # noqa: BLE001 - the client waits for an answer
                answer.refuse(error)
            else:
                if inspect.isawaitable(data):
                    self._events.put("on_message", lambda: _give_later(answer, data))
                else:
                    answer.give(data)
            finally:
                _answer.reset(token)
        return False

    def _on_app_message(self, frame: InputTransportMessageFrame) -> bool:
        message = ClientMessageFrame(str(frame.message.get("type", "")), frame.message)
        if _overrides(self, "on_message"):
            self._call(self._events, "on_message", message)
        return False

    def _on_end(self, frame: EndFrame | CancelFrame) -> bool:
        self._end_reason = frame.reason
        self._over = True
        if isinstance(frame, CancelFrame):
            for lane in (self._turns, self._events, self._audio, self._images):
                lane.close()
        return True


async def _give_later(answer: _Answer, data: Awaitable[Any]) -> None:
    _answer.set(answer)  # this is a task, with a context of its own
    try:
        answer.give(await data)
    except asyncio.CancelledError as error:
        answer.refuse(error)
        raise
    except Exception as error:  # noqa: BLE001 - the client waits for an answer
        answer.refuse(error)


def _overrides(bot: Bot, handler: str) -> bool:
    return getattr(type(bot), handler) is not getattr(Bot, handler)


_HANDLERS: dict[type[Frame], Callable[[Bot, Any], bool]] = {
    StartFrame: Bot._on_start_frame,
    ClientConnectedFrame: Bot._on_client,
    ClientReadyFrame: Bot._on_client_ready,
    UserStartedSpeakingFrame: Bot._on_user_started,
    UserStoppedSpeakingFrame: Bot._on_user_stopped,
    InterruptionFrame: Bot._on_interruption,
    PlayedFrame: Bot._on_played,
    InputImageRawFrame: Bot._on_image,
    UserImageRawFrame: Bot._on_requested_image,
    UserImageRefusedFrame: Bot._on_refused_image,
    InputTextFrame: Bot._on_text,
    InputDTMFFrame: Bot._on_dtmf,
    ClientMessageFrame: Bot._on_message,
    InputTransportMessageFrame: Bot._on_app_message,
    EndFrame: Bot._on_end,
    CancelFrame: Bot._on_end,
}
