"""Telnyx's Call Control, simulated: events that need no answer, commands that come as requests.

After developers.telnyx.com/docs/voice/programmable-voice (receiving webhooks, sending commands,
media streaming) and the reference of the commands.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

from voicews.exceptions import AudioFormatError, ConfigurationError
from voicews.testing.api import ApiCall
from voicews.testing.call import TIMEOUT_SECS, CallRefused
from voicews.testing.http import HttpResponse
from voicews.testing.telnyx import TelnyxCall

#: How long (seconds) a call may outlive its stream before that is an error of the server.
HANG_UP_TIMEOUT_SECS: Final = 5.0
MAX_TOKEN_CHARACTERS: Final = 4000

_CODECS: Final = ("PCMU", "PCMA", "G722", "OPUS", "AMR-WB", "L16")
_STREAM_VALUES: Final[Mapping[str, Sequence[str | int]]] = {
    "stream_track": ("inbound_track", "outbound_track", "both_tracks"),
    "stream_codec": (*_CODECS, "default"),
    "stream_bidirectional_mode": ("rtp", "mp3"),
    "stream_bidirectional_codec": _CODECS,
    "stream_bidirectional_sampling_rate": (8000, 16000, 22050, 24000, 48000),
    "stream_bidirectional_target_legs": ("both", "self", "opposite"),
}
#: What each command takes. Custom parameters are for the command that starts a stream by itself;
#: sampling rate and token are documented there and for dialing, but are sent with answers too.
COMMAND_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "answer": frozenset(
        [
            "client_state",
            "command_id",
            "assistant",
            "billing_group_id",
            "conversation_relay_config",
            "custom_headers",
            "deepfake_detection",
            "preferred_codecs",
            "record",
            "record_channels",
            "record_custom_file_name",
            "record_format",
            "record_max_length",
            "record_timeout_secs",
            "record_track",
            "record_trim",
            "send_silence_when_idle",
            "sip_headers",
            "sound_modifications",
            "stream_auth_token",
            "stream_url",
            "transcription",
            "transcription_config",
            "webhook_retries_policies",
            "webhook_url",
            "webhook_url_method",
            "webhook_urls",
            "webhook_urls_method",
            *_STREAM_VALUES,
        ]
    ),
    "reject": frozenset(["client_state", "command_id", "cause"]),
    "hang up": frozenset(["client_state", "command_id", "custom_headers", "reason"]),
}
#: Causes of a rejection: what the end of the call says of it, and SIP's status.
_REJECTIONS: Final = {
    "CALL_REJECTED": ("call_rejected", "603"),
    "NOT_FOUND": ("not_found", "404"),
    "TEMPORARILY_UNAVAILABLE": ("unspecified", "480"),
    "USER_BUSY": ("user_busy", "486"),
}


class CallState(enum.IntEnum):
    """Where a call is; it never goes back."""

    PARKED = 0
    ANSWERED = 1
    ENDED = 2


class CallControlCall(TelnyxCall):
    """A call to a number at Telnyx, or placed through its API, that commands control.

    What to do with it is no answer to a webhook but a request to the API: `api` must be given. The
    end of its stream doesn't end such a call; the caller does, or a command, for which the call
    waits when the server has closed the stream: it is a violation if none comes. A call that the
    server rejects raises `CallRefused`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._api is None:
            raise ConfigurationError("Call Control: expected an api, to which commands can come")
        self.state = CallState.PARKED
        self.leg_id = str(uuid4())
        #: The `client_state` of the last command that had one, in base64; sent with every event.
        self.client_state: str | None = None
        self._answer: Mapping[str, Any] = {} if self.placed is None else self.placed.fields
        self._decisions: asyncio.Queue[ApiCall] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._is_transferred = False
        self._jobs: list[asyncio.Task[None]] = []
        late = self._trouble.webhook_delay_secs > 0
        self._turn: AbstractAsyncContextManager[None] = nullcontext() if late else asyncio.Lock()

    # --- events ---------------------------------------------------------------------------------

    def webhook_path(self, what: str) -> tuple[str, str]:
        """Path and query of the webhook: one takes all events, of which one is a question."""
        own = self._answer.get("webhook_url")
        if isinstance(own, str):
            parts = urlsplit(own)
            return parts.path, parts.query
        return super().webhook_path("answer")

    async def send_status(self, status: str) -> HttpResponse:
        """Tell of an event, such as `call.answered`, without that it has happened."""
        return await self.send_event(self.event(status))

    async def send_event(
        self, event: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A signed webhook; `headers` take the place of the signature."""
        return await self._send("answer", "application/json", json.dumps(event).encode(), headers)

    def event(self, event_type: str, **payload: Any) -> dict[str, Any]:
        """An event as it is sent; the `payload` takes the place of the usual one's fields."""
        data = {
            "record_type": "event",
            "event_type": event_type,
            "id": str(uuid4()),
            "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "payload": {**self._payload(event_type), **payload},
        }
        path, query = self.webhook_path("answer")
        url = f"{self.provider.public_url}{path}{'?' if query else ''}{query}"
        return {"data": data, "meta": {"attempt": 1, "delivered_to": url}}

    def _payload(self, event_type: str) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "call_control_id": self.call_id,
            "call_leg_id": self.leg_id,
            "call_session_id": self.session_id,
            "client_state": self.client_state,
            "connection_id": self.provider.connection_id,
        }
        if event_type == "streaming.failed":
            payload["failure_reason"] = "connection_failed"
            payload["stream_id"] = self.stream_id
            payload["stream_params"] = {"stream_url": self.stream_url}
            payload["stream_type"] = "websocket"
            return payload
        if event_type.startswith("streaming."):
            return {**payload, "stream_url": self.stream_url}
        payload |= {"from": self.from_number, "to": self.to_number}
        if event_type == "call.initiated":
            payload["direction"] = "incoming" if self.placed is None else "outgoing"
            payload["state"] = "parked" if self.placed is None else "bridging"
        elif event_type == "call.answered":
            payload["state"] = "answered"
        elif event_type == "call.hangup":
            payload["state"] = "hangup"
            payload["hangup_cause"] = "normal_clearing"
            payload["hangup_source"] = self._person
            payload["sip_hangup_cause"] = "200"
        return payload

    @property
    def _person(self) -> str:
        """Which end of the call is the human one."""
        return "caller" if self.placed is None else "callee"

    def _announce(self, event: Mapping[str, Any], *, copies: int | None = None) -> None:
        """Tell of what has happened now; without trouble, events come one after the other."""
        count = self._trouble.webhook_copies if copies is None else copies
        self._jobs.append(asyncio.create_task(self._deliver(event, count)))

    async def _deliver(self, event: Mapping[str, Any], copies: int) -> None:
        async with self._turn:
            await asyncio.gather(*(self._deliver_once(event) for _ in range(copies)))

    async def _deliver_once(self, event: Mapping[str, Any]) -> None:
        await asyncio.sleep(self._random.uniform(0.0, self._trouble.webhook_delay_secs))
        event_type = event["data"]["event_type"]
        self.note("webhook", event_type)
        try:
            status = (await self.send_event(event)).status
        except OSError as error:
            self.violate(f"expected an answer to {event_type}, found {error}")
            return
        if status != 200:
            self.violate(f"expected {event_type} to be answered with 200, found {status}")

    # --- commands -------------------------------------------------------------------------------

    async def _ring(self) -> None:
        if self.placed is not None:
            self._check_command(self.placed)
            self._announce(self.event("call.initiated"))
            self._answered(self.placed)
            return
        event = self.event("call.initiated")
        self._announce(event, copies=self._trouble.webhook_copies - 1)
        self.note("webhook", "call.initiated")
        self._expect_answer(await self.send_event(event))
        try:
            decision = await asyncio.wait_for(self._decisions.get(), TIMEOUT_SECS)
        except TimeoutError:
            assert self._api is not None
            raise CallRefused(f"expected a command about the call at {self._api.url}") from None
        if decision.action == "answer":
            self._answered(decision)
            return
        await self._finish_jobs()
        if decision.action == "reject":
            raise CallRefused(f"the call was rejected: {decision.fields.get('cause')}")
        raise CallRefused("the call was hung up before it was answered")

    def _answered(self, command: ApiCall) -> None:
        self.state = CallState.ANSWERED
        self._answer = command.fields
        self._announce(self.event("call.answered"))
        self._take_stream(command.fields)

    def _take_stream(self, fields: Mapping[str, Any]) -> None:
        """Where the audio goes, and how."""
        for name, values in _STREAM_VALUES.items():
            if name in fields and fields[name] not in values:
                self.violate(f"{name}: expected one of {_list(values)}, found {fields[name]!r}")
        token = fields.get("stream_auth_token", "")
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
            self.violate(f"stream_auth_token: expected up to {MAX_TOKEN_CHARACTERS} characters")
        if fields.get("stream_bidirectional_mode") != "rtp":
            self.violate("expected stream_bidirectional_mode rtp: raw audio is dropped otherwise")
        url = fields.get("stream_url")
        if not isinstance(url, str) or not url:
            self.violate("stream_url: expected where the audio goes, found nothing")
            raise CallRefused("the call was answered, but has no stream")
        self._expect_stream_url(url)
        codec = fields.get("stream_codec", "default")
        try:
            self._take_codecs(
                str(fields.get("stream_bidirectional_codec", "PCMU")),
                "PCMU" if codec == "default" else str(codec),
                int(fields.get("stream_bidirectional_sampling_rate", 8000)),
            )
        except (AudioFormatError, ValueError, TypeError) as error:
            raise CallRefused(f"the stream can't be simulated: {error}") from None

    def _requested(self, request: ApiCall) -> None:
        self._check_command(request)
        if request.action == "answer":
            if self.state is not CallState.PARKED or not self._decisions.empty():
                self.violate("expected one command to answer, found another one")
                return
            self.note("answered by request")
            self._decisions.put_nowait(request)
        elif request.action == "reject":
            self._rejected(request)
        elif request.action == "hang up":
            self.note("hung up by request")
            self._jobs.append(asyncio.create_task(self._hung_up(request)))
        elif request.action == "transfer":
            self._is_transferred = True

    def _check_command(self, request: ApiCall) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if headers.get("authorization") != f"Bearer {self.provider.api_key}":
            self.violate(f"10009: {request.action} without the account's key")
        known = COMMAND_FIELDS.get(request.action)
        if known is not None and (unknown := sorted(request.fields.keys() - known)):
            self.violate(f"{request.action}: unknown fields {', '.join(unknown)}")
        if "client_state" in request.fields:
            state = request.fields["client_state"]
            if self._decode_payload(state) is None:
                self.violate("client_state: expected base64")
            else:
                self.client_state = state

    def _rejected(self, request: ApiCall) -> None:
        cause = request.fields.get("cause")
        if cause not in _REJECTIONS:
            self.violate(f"cause: expected one of {_list(_REJECTIONS)}, found {cause!r}")
        if self.state is not CallState.PARKED:
            self.violate("reject: expected a call that has not been answered")
        self.note("rejected by request", str(cause))
        why, status = _REJECTIONS.get(str(cause), ("unspecified", "603"))
        self.end(hangup_cause=why, hangup_source="callee", sip_hangup_cause=status)
        self._decisions.put_nowait(request)

    async def _hung_up(self, request: ApiCall) -> None:
        if self.state is CallState.PARKED:
            self._decisions.put_nowait(request)
        await self._close_stream()
        self.end(hangup_source="callee" if self.placed is None else "caller")

    # --- life cycle -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except CallRefused:
            await self.hang_up()
            raise

    async def open_stream(self, headers: Mapping[str, str] | None = None) -> None:
        try:
            await super().open_stream(headers)
        except CallRefused:
            self._announce(self.event("streaming.failed"))
            raise
        self._announce(self.event("streaming.started"))

    async def _close_stream(self) -> None:
        if self.websocket is not None and self._stream_open:
            await self._end_stream()
        if self.websocket is not None:
            await self.wait_over()

    def _stream_ended(self) -> None:
        self._announce(self.event("streaming.stopped"))

    async def wait_ended(self, timeout_secs: float = TIMEOUT_SECS) -> None:
        """Wait until the call has ended, not just its stream. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_secs):
            await self._ended.wait()

    def end(self, **payload: Any) -> None:
        """The call is over, whatever becomes of its stream; `payload` is what the event says."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        assert self._api is not None
        self._api.detach(self.call_id)
        self._ended.set()
        self._announce(self.event("call.hangup", **payload))

    async def hang_up(self) -> None:
        """The caller hangs up, unless the server closed the stream and does it by a command."""
        if self.state is CallState.PARKED:
            self.end(hangup_cause="originator_cancel")
        elif self.state is CallState.ANSWERED and not self._stream_open:
            await self._expect_hang_up()
        await super().hang_up()
        self.end()
        await self._finish_jobs()

    async def _expect_hang_up(self) -> None:
        try:
            await self.wait_ended(HANG_UP_TIMEOUT_SECS)
        except TimeoutError:
            if not self._is_transferred:
                self.violate("expected a command to hang up: the end of the stream is not enough")
            self.note("caller hangs up")

    async def _finish_jobs(self) -> None:
        while self._jobs:
            await self._jobs.pop(0)

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        token = self._answer.get("stream_auth_token")
        return {"x-telnyx-streaming-auth-token": token} if isinstance(token, str) and token else {}

    def _carried(self) -> dict[str, Any]:
        return {} if self.client_state is None else {"client_state": self.client_state}


def _list(values: Iterable[str | int]) -> str:
    return ", ".join(str(value) for value in values)
