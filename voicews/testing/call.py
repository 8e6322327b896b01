"""A call as its provider makes it: webhook, socket, media in real time, play-out, end."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import struct
from abc import ABC, abstractmethod
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicews.audio.codecs import Codec, get_codec
from voicews.audio.pcm import BYTES_PER_SAMPLE, Pcm, mix_channels
from voicews.audio.resampling import Resampler
from voicews.exceptions import AudioFormatError, VoicewsError
from voicews.telephony import Provider
from voicews.testing.api import ApiCall, ProviderApi
from voicews.testing.heard import Heard
from voicews.testing.http import HttpResponse, http_request

P = TypeVar("P", bound=Provider)

TIMEOUT_SECS: Final = 20.0
#: Quiet for so long (seconds) that what follows is something new to hear.
PAUSE_SECS: Final = 0.3

_URL_FIELDS: Final = {
    "answer": ("Url", "answer_url"),
    "status": ("StatusCallback", "hangup_url", "event_url"),
    "stream": ("StreamUrl",),
}


class CallRefused(VoicewsError):
    """The server doesn't want the call. `status` is the HTTP status of its refusal."""

    def __init__(self, message: str, status: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a call; `at` in seconds on the monotonic clock."""

    at: float
    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that the server sent, or left out, against the provider's documents."""

    rule: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong with the line. Stalls and worse are methods of `SimulatedCall`.

    Each chunk of the caller's audio is up to `jitter_secs` late. `reordered_chunks` chunks at a
    time leave in any order, at providers that don't promise one. Of webhooks, where the provider
    promises as little, `webhook_copies` come, each up to `webhook_delay_secs` late.
    """

    jitter_secs: float = 0.0
    reordered_chunks: int = 1
    webhook_copies: int = 1
    webhook_delay_secs: float = 0.0
    seed: int = 1


@dataclass(slots=True)
class _Mark:
    name: str
    timer: asyncio.TimerHandle


@dataclass(slots=True)
class _Utterance:
    chunks: deque[bytes]
    begun: asyncio.Future[float] = field(repr=False)
    done: asyncio.Future[None] = field(repr=False)


class SimulatedCall(ABC, Generic[P]):
    """One call from a simulated provider; use as an async context manager.

    `provider` has the account's secrets and the public URL that signatures cover; `server_url`
    (`http://127.0.0.1:8000`) is where the server really is. `bot` asks for a bot by name. With
    `placed`, a request to dial that came to a `ProviderApi`, it is that call, answered. Entering
    rings, opens the socket and begins to send audio, silence at first; leaving hangs up if nobody
    has. Raises `CallRefused` if the server doesn't take the call.

    What came of it: `heard` is the audio with its times, `timeline` everything that happened,
    `violations` what the server did against the provider's documents, which a test wants empty.
    """

    #: How the caller's audio is cut (seconds).
    chunk_secs: ClassVar[float] = 0.02
    #: What the buffer for the bot's audio holds (seconds).
    max_buffered_secs: ClassVar[float] = 600.0

    def __init__(
        self,
        provider: P,
        server_url: str,
        *,
        bot: str = "",
        from_number: str = "+15550100001",
        to_number: str = "+15550100002",
        api: ProviderApi | None = None,
        placed: ApiCall | None = None,
        trouble: Trouble | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.provider = provider
        self.server_url = server_url.rstrip("/")
        self.bot = bot
        self.from_number = from_number
        self.to_number = to_number
        self.placed = placed
        self.call_id = self.new_call_id() if placed is None else placed.call_id
        self.stream_id = self.new_stream_id()
        self.heard = Heard(8000)
        self.timeline: list[Event] = []
        self.violations: list[Violation] = []
        #: What the stream was asked to carry to us, by the answer.
        self.parameters: dict[str, str] = {}
        self.stream_url = ""
        self.websocket: ClientConnection | None = None
        #: Names of the marks that were played, and of those that a clear took away.
        self.played_marks: list[str] = []
        self.cleared_marks: list[str] = []
        #: Keys that the bot has pressed.
        self.pressed_by_bot = ""
        self.cleared_at: list[float] = []
        #: PCM that was said, chunk by chunk, and when each one left.
        self.said: list[tuple[float, bytes]] = []
        self._trouble = trouble or Trouble()
        self._random = random.Random(self._trouble.seed)  # noqa: S311 - nothing secret
        self._api = api
        self._on_event = on_event
        self._receive_codec = get_codec("PCMU", 8000)
        self._send_codec = get_codec("PCMU", 8000)
        self._marks: list[_Mark] = []
        self._utterances: deque[_Utterance] = deque()
        self._outbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._flows = asyncio.Event()
        self._flows.set()
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sequence = itertools.count(1)
        self._chunks = itertools.count(1)
        self._media_ms = 0.0
        self._stream_open = False
        self._last_sound_ended_at = float("-inf")
        self.began_at = 0.0

    # --- what differs between providers ---------------------------------------------------------

    def new_call_id(self) -> str:
        """An id such as the provider gives its calls."""
        return str(uuid4())

    def new_stream_id(self) -> str:
        """An id such as the provider gives its streams."""
        return str(uuid4())

    @abstractmethod
    async def _ring(self) -> None:
        """Ask the server what to do; sets `stream_url`, `parameters` and the codecs."""

    @abstractmethod
    def _upgrade_headers(self, url: str) -> dict[str, str]:
        """The headers that authenticate the socket's handshake at this public URL."""

    @abstractmethod
    def _begin_stream(self) -> None:
        """Post the first messages."""

    @abstractmethod
    def _media_message(self, chunk: bytes) -> str | bytes:
        """The caller's audio, encoded already."""

    @abstractmethod
    def _receive(self, data: str | bytes) -> None:
        """Do what a message from the server asks for."""

    @abstractmethod
    def _key_message(self, button: str) -> str:
        """The caller presses a key."""

    @abstractmethod
    def _mark_message(self, name: str) -> str:
        """Everything before the mark was played."""

    def _last_messages(self) -> list[str]:
        """What is said before the provider closes the socket."""
        return []

    async def send_status(self, status: str) -> HttpResponse:
        """Tell the status webhook what has become of the call, in the provider's word for it."""
        raise NotImplementedError(f"{self.provider.name} has no status webhooks")

    # --- life cycle -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.ring()
        await self.open_stream()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.hang_up()

    async def ring(self) -> None:
        """Ask the server what to do with the call."""
        self.began_at = self._now()
        self.note("ringing", f"{self.from_number} calls {self.to_number}")
        if self._api is not None:
            self._api.attach(self.call_id, self._requested)
        await self._ring()

    async def open_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """Open the socket that the server named, and begin.

        `headers` take the place of the provider's own, for tests of what must be refused.
        """
        url = urlsplit(self.reachable(self.stream_url))
        own = self._upgrade_headers(self.stream_url) if headers is None else headers
        try:
            self.websocket = await connect(
                url.geturl(),
                additional_headers=own,
                compression=None,
                max_size=None,
                max_queue=None,
                open_timeout=TIMEOUT_SECS,
                ping_interval=None,
                close_timeout=TIMEOUT_SECS,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            raise CallRefused(f"the socket was refused with HTTP {status}", status) from None
        except (OSError, InvalidHandshake) as error:
            raise CallRefused(f"the socket could not be opened: {error}") from None
        self.note("connected")
        self._stream_open = True
        self._begin_stream()
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._write()),
            asyncio.create_task(self._speak()),
        ]

    async def hang_up(self) -> None:
        """The caller hangs up: the stream ends as the provider ends it."""
        if self.websocket is None:
            return
        if not self._over.is_set() and self._stream_open:
            self.note("caller hangs up")
            await self._end_stream()
        await self.wait_over()
        self._stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end_stream(self) -> None:
        assert self.websocket is not None
        self._stream_open = False
        for message in self._last_messages():
            self._post(message)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._outbox.join(), 1.0)
        await self.websocket.close()

    def _requested(self, request: ApiCall) -> None:
        """The server has asked something of the provider's API, while the call went on."""
        if request.action != "hang up":
            return
        self.note("hung up by request")
        if self.websocket is not None and self._stream_open:
            self._tasks.append(asyncio.get_running_loop().create_task(self._end_stream()))

    def _stream_ended(self) -> None:
        """The socket is closed; the call has ended with it."""
        if self._api is not None:
            self._api.detach(self.call_id)

    def _stop(self) -> None:
        self._stream_open = False
        for mark in self._marks:
            mark.timer.cancel()
        self._marks.clear()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        for utterance in self._utterances:
            for future in (utterance.begun, utterance.done):
                if not future.done():
                    future.set_exception(ConnectionError("the call ended while speaking"))
                    future.exception()
        self._utterances.clear()

    # --- the caller -----------------------------------------------------------------------------

    async def say(self, audio: Pcm | bytes, sample_rate: int = 8000) -> float:
        """Speak, in real time, after what is being said; returns when the first of it left.

        Bare PCM is mono PCM16LE at `sample_rate` (Hz). Raises `ConnectionError` if the call ends.
        """
        utterance = self._say(audio, sample_rate)
        await utterance.done
        return await utterance.begun

    async def start_saying(self, audio: Pcm | bytes, sample_rate: int = 8000) -> float:
        """As `say`, but returns as soon as the first of it has left."""
        return await self._say(audio, sample_rate).begun

    def _say(self, audio: Pcm | bytes, sample_rate: int) -> _Utterance:
        pcm = self._to_wire_rate(audio if isinstance(audio, Pcm) else Pcm(audio, sample_rate))
        size = self._chunk_bytes
        chunks = deque(pcm[i : i + size].ljust(size, b"\0") for i in range(0, len(pcm), size))
        loop = asyncio.get_running_loop()
        utterance = _Utterance(chunks, loop.create_future(), loop.create_future())
        if self._over.is_set() or not chunks:
            raise ConnectionError("the call is over" if chunks else "nothing to say")
        self._utterances.append(utterance)
        return utterance

    def _to_wire_rate(self, audio: Pcm) -> bytes:
        mono = mix_channels(audio.audio, audio.num_channels, 1)
        if audio.sample_rate == self._send_codec.sample_rate:
            return mono
        resampler = Resampler(audio.sample_rate, self._send_codec.sample_rate)
        return resampler.process(mono) + resampler.flush()

    async def press(self, buttons: str, *, pause_secs: float = 0.1) -> None:
        """Press keys, one after the other."""
        for number, button in enumerate(buttons):
            if number:
                await asyncio.sleep(pause_secs)
            self.note("caller presses", button)
            self._post(self._key_message(button))

    async def stall(self, secs: float) -> None:
        """Nothing passes the network for so long; then everything does at once."""
        self.note("line stalls", f"{secs} s")
        self._flows.clear()
        if self.websocket is not None:
            self.websocket.transport.pause_reading()
        await asyncio.sleep(secs)
        self._flows.set()
        if self.websocket is not None:
            self.websocket.transport.resume_reading()

    def vanish(self) -> None:
        """Half-open: read and send nothing more, and leave the socket as it is.

        `abort` ends what is left.
        """
        self.note("caller vanishes")
        self._stream_open = False
        self._flows.clear()
        if self.websocket is not None:
            self.websocket.transport.pause_reading()

    def abort(self) -> None:
        """Break the connection off with a TCP reset."""
        self.note("connection breaks")
        self._stream_open = False
        self._flows.set()
        if self.websocket is None or self._over.is_set():
            return
        own = self.websocket.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.websocket.transport.abort()

    async def send_raw(self, data: str | bytes) -> None:
        """Send a message that no provider sends, to test error handling."""
        assert self.websocket is not None
        await self.websocket.send(data)

    # --- looking at it --------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the socket is closed."""
        return self._over.is_set()

    @property
    def close_code(self) -> int | None:
        return self.websocket.close_code if self.websocket is not None else None

    async def wait_until(
        self, condition: Callable[[], object], timeout_secs: float = TIMEOUT_SECS
    ) -> None:
        """Wait until what came fulfils the condition.

        Raises `TimeoutError` if it never does, `ConnectionError` if the call ends before.
        """
        async with asyncio.timeout(timeout_secs):
            while not condition():
                if self._over.is_set():
                    raise ConnectionError(f"the call ended with {self.close_code} while waiting")
                self._news.clear()
                await self._news.wait()

    async def wait_heard(self, secs: float, timeout_secs: float = TIMEOUT_SECS) -> None:
        """Wait until so much audio (seconds) has come."""
        size = round(secs * self.heard.sample_rate) * BYTES_PER_SAMPLE
        await self.wait_until(lambda: len(self.heard.pcm) >= size, timeout_secs)

    async def wait_over(self, timeout_secs: float = TIMEOUT_SECS) -> int | None:
        """Wait until the socket is closed; the close code."""
        async with asyncio.timeout(timeout_secs):
            await self._over.wait()
        return self.close_code

    async def wait_quiet(self, secs: float = 0.5, timeout_secs: float = TIMEOUT_SECS) -> None:
        """Wait until the bot has said nothing for so long."""
        async with asyncio.timeout(timeout_secs):
            while not self._over.is_set():
                left = max(self.heard.sound_until(self.began_at), self.began_at) + secs
                if left <= self._now():
                    return
                await asyncio.sleep(left - self._now())

    def barge_in_latency_secs(self, spoke_at: float) -> float:
        """How long after `spoke_at` the bot could still be heard."""
        return self.heard.sound_until(spoke_at) - spoke_at

    def note(self, kind: str, detail: str = "") -> None:
        """Put something into the timeline."""
        event = Event(self._now(), kind, detail)
        self.timeline.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def violate(self, rule: str, message: str | bytes = "") -> None:
        """Note that the server broke a rule."""
        shown = message[:200] if isinstance(message, str) else f"{len(message)} bytes"
        self.violations.append(Violation(rule, shown))
        self.note("violation", rule)

    # --- for providers: playing -----------------------------------------------------------------

    def _play(self, encoded: bytes) -> None:
        now = self._now()
        try:
            pcm = self._receive_codec.decode(encoded)
        except AudioFormatError as error:
            self.violate(str(error))
            return
        if self.heard.buffered_secs(now) > self.max_buffered_secs:
            self.violate(f"more than {self.max_buffered_secs} s of audio wait to be played")
            return
        if not pcm:
            self.violate("media without audio")
            return
        sounds = self.heard.add(pcm, now).sounds()
        if sounds is not None:
            if sounds[0] > self._last_sound_ended_at + PAUSE_SECS:
                self.note("bot speaks")
            self._last_sound_ended_at = sounds[1]

    def _mark(self, name: str) -> None:
        """Tell the server when what has come so far has been played."""
        loop = asyncio.get_running_loop()
        when = max(self.heard.playhead, loop.time())
        mark = _Mark(name, loop.call_at(when, self._mark_played))
        self._marks.append(mark)

    def _mark_played(self) -> None:
        mark = self._marks.pop(0)
        self.played_marks.append(mark.name)
        self.note("mark", mark.name)
        self._post(self._mark_message(mark.name))
        self._news.set()

    def _clear(self, *, returns_marks: bool) -> None:
        """Throw away what has not been played; at some providers its marks come at once."""
        now = self._now()
        self.heard.clear(now)
        self._last_sound_ended_at = min(self._last_sound_ended_at, now)
        self.cleared_at.append(now)
        self.note("clear")
        marks, self._marks = self._marks, []
        for mark in marks:
            mark.timer.cancel()
            self.cleared_marks.append(mark.name)
            if returns_marks:
                self._post(self._mark_message(mark.name))

    def _decode_payload(self, value: object) -> bytes | None:
        """The audio in base64, which must be text; None, and a violation, otherwise."""
        try:
            return b64decode(value, validate=True) if isinstance(value, str) else None
        except ValueError:
            return None

    def _read_object(self, data: str | bytes) -> dict[str, Any] | None:
        """A JSON object in a text message; None, and a violation, for anything else."""
        if isinstance(data, bytes):
            self.violate("expected a text message, found a binary one", data)
            return None
        try:
            message = json.loads(data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.violate("expected a JSON object", data)
            return None
        return message

    def _set_codecs(self, receive: Codec, send: Codec) -> None:
        """How the bot's audio comes, and how the caller's leaves."""
        self._receive_codec = receive
        self._send_codec = send
        self.heard = Heard(receive.sample_rate)

    # --- for providers: HTTP --------------------------------------------------------------------

    def webhook_path(self, what: str) -> tuple[str, str]:
        """Path and query of one of the server's webhooks."""
        if self.placed is not None:
            given = urlsplit(self._given_url(what))
            return given.path, given.query
        query = f"bot={quote(self.bot, safe='')}" if self.bot and what == "answer" else ""
        return f"/voice/{self.provider.name}/{what}/", query

    def _given_url(self, what: str) -> str:
        """The URL that a request to dial gave for this webhook, by the provider's name for it."""
        assert self.placed is not None
        names = _URL_FIELDS[what]
        value = next((self.placed.fields[n] for n in names if n in self.placed.fields), None)
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, str):
            raise CallRefused(f"expected one of {', '.join(names)} in the request to dial")
        return value

    def reachable(self, url: str) -> str:
        """A public URL of the server, where it really is."""
        parts, server = urlsplit(url), urlsplit(self.server_url)
        scheme = server.scheme.replace("http", "ws") if parts.scheme in ("ws", "wss") else "http"
        return parts._replace(scheme=scheme, netloc=server.netloc).geturl()

    async def _request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b""
    ) -> HttpResponse:
        target = f"{path}?{query}" if query else path
        return await http_request(method, self.server_url + target, headers, body)

    def _expect_answer(self, response: HttpResponse) -> str:
        if response.status != 200:
            raise CallRefused(
                f"the webhook was answered with HTTP {response.status}",
                response.status,
                response.text,
            )
        return response.text

    def _expect_stream_url(self, url: str) -> None:
        """Check where the answer sends the audio, and remember it."""
        self.stream_url = url
        parts, public = urlsplit(url), urlsplit(self.provider.public_url)
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme != public.scheme.replace("http", "ws") or host != public.netloc:
            self.violate("expected a stream URL at the public URL", url)

    # --- the socket -----------------------------------------------------------------------------

    def _post(self, message: str | bytes) -> None:
        self._outbox.put_nowait(message)

    async def _write(self) -> None:
        assert self.websocket is not None
        while True:
            message = await self._outbox.get()
            await self._flows.wait()
            try:
                await self.websocket.send(message)
            except ConnectionClosed:
                return
            finally:
                self._outbox.task_done()

    async def _read(self) -> None:
        assert self.websocket is not None
        try:
            async for data in self.websocket:
                if self._stream_open or not isinstance(data, bytes):
                    self._receive(data)
                self._news.set()
        except ConnectionClosed:
            pass
        self.note("closed", f"{self.websocket.close_code} {self.websocket.close_reason}".strip())
        self._over.set()
        self._stop()
        self._stream_ended()
        self._news.set()

    async def _speak(self) -> None:
        """Send the caller's audio in real time, silence while nothing is said."""
        begun = self._now()
        for number in itertools.count():
            late = self._random.uniform(0.0, self._trouble.jitter_secs)
            await asyncio.sleep(max(0.0, begun + number * self.chunk_secs + late - self._now()))
            await self._flows.wait()
            if not self._stream_open:
                return
            pcm = self._next_chunk()
            if self._sends_media():
                self._post_media(self._media_message(self._send_codec.encode(pcm)))
            self._media_ms += self.chunk_secs * 1000

    def _next_chunk(self) -> bytes:
        while self._utterances:
            utterance = self._utterances[0]
            if utterance.chunks:
                if not utterance.begun.done():
                    self.note("caller speaks")
                    utterance.begun.set_result(self._now())
                chunk = utterance.chunks.popleft()
                self.said.append((self._now(), chunk))
                return chunk
            self._utterances.popleft()
            if not utterance.done.done():
                utterance.done.set_result(None)
        return bytes(self._chunk_bytes)

    def _sends_media(self) -> bool:
        return True

    def _post_media(self, message: str | bytes) -> None:
        self._post(message)

    @property
    def _chunk_bytes(self) -> int:
        return round(self._send_codec.sample_rate * self.chunk_secs) * BYTES_PER_SAMPLE

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def expect_fields(message: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether an object has exactly these fields."""
    return set(message) == set(names)
