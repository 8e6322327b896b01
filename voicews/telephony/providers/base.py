"""What a telephony provider is to the rest of voicews: one interface for all of them.

Pure: nothing here does I/O or knows Django. A request that came in is a `Request`, one that is to
be made is an `ApiRequest`, which `voicews.telephony.providers.http` sends.
"""

from __future__ import annotations

import enum
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qsl, quote, urlsplit

from voicews.exceptions import ConfigurationError, InvalidMessage, VoicewsError
from voicews.serializers.telephony import TelephonySerializer
from voicews.telephony.providers.options import Option, options_of

MAX_FORM_FIELDS = 1000

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=+@~-]{0,255}")
_DTMF_DIGITS = re.compile(r"[0-9*#ABCDwW]{1,64}")


class NotSupported(VoicewsError):
    """The provider has no way to do this."""


# --- requests that come in ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Request:
    """A webhook or the upgrade to a WebSocket, byte for byte as it came.

    `path` and `query` are percent-encoded as on the wire: signatures cover them so. The names of
    `headers` are in lower case.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """The header's value, empty if there is none; `name` in lower case."""
        return self.headers.get(name, "").strip()

    @property
    def content_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    @cached_property
    def form(self) -> Mapping[str, Sequence[str]]:
        """The fields of a urlencoded body. Raises `InvalidMessage` if it can't be read."""
        if self.content_type != "application/x-www-form-urlencoded":
            return {}
        try:
            return _parse_query(self.body.decode())
        except UnicodeDecodeError:
            raise InvalidMessage("expected a form in UTF-8") from None

    @cached_property
    def query_fields(self) -> Mapping[str, Sequence[str]]:
        """The fields of the query. Raises `InvalidMessage` if it can't be read."""
        return _parse_query(self.query)

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The object in a JSON body. Raises `InvalidMessage` if it can't be read."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise InvalidMessage("expected a JSON body") from None
        if not isinstance(value, dict):
            raise InvalidMessage("expected a JSON object as body")
        return value

    @property
    def fields(self) -> dict[str, str]:
        """The last value of each field of query and form; the form's win."""
        merged = {**self.query_fields, **self.form}
        return {name: values[-1] for name, values in merged.items()}

    def url(self, public_url: str) -> str:
        """What the provider asked for, given that it reaches us at `public_url`."""
        return public_url + self.path + (f"?{self.query}" if self.query else "")


def _parse_query(text: str) -> dict[str, list[str]]:
    parsed: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS):
            parsed.setdefault(name, []).append(value)
    except ValueError:
        raise InvalidMessage(f"expected at most {MAX_FORM_FIELDS} fields") from None
    return parsed


# --- what they say --------------------------------------------------------------------------------


class CallStatus(enum.Enum):
    """Where a call is. Webhooks may overtake each other: nothing follows a final status."""

    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self not in (CallStatus.QUEUED, CallStatus.RINGING, CallStatus.IN_PROGRESS)


class EventKind(enum.Enum):
    """What a webhook request is about."""

    #: About the call itself.
    CALL = enum.auto()
    #: About the media stream.
    STREAM = enum.auto()
    OTHER = enum.auto()


CallDirection = Literal["inbound", "outbound"]


@dataclass(frozen=True, kw_only=True)
class CallEvent:
    """What a webhook says about a call.

    `wants_answer` is true where the provider waits to hear what to do with the call. `event_id`,
    where there is one, is the same when an event is delivered twice. `fields` is everything that
    the webhook carried, as text.
    """

    provider: str
    kind: EventKind
    call_id: str
    direction: CallDirection = "inbound"
    from_number: str = ""
    to_number: str = ""
    status: CallStatus | None = None
    wants_answer: bool = False
    stream_id: str = ""
    event_id: str = ""
    #: Why something failed, in the provider's words.
    error: str = ""
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raises `InvalidMessage` for an id that no provider gives: it is looked up and logged.

        In what only describes the call, each character that can't be shown becomes U+FFFD.
        """
        for name in ("call_id", "event_id", "stream_id"):
            if not getattr(self, name).isprintable():
                raise InvalidMessage(f"{name}: expected characters that can be shown")
        for name in ("from_number", "to_number", "error"):
            object.__setattr__(self, name, _printable(getattr(self, name)))
        cleaned = {_printable(name): _printable(value) for name, value in self.fields.items()}
        object.__setattr__(self, "fields", cleaned)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


# --- what we answer -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StreamTarget:
    """Where a call's audio is to go.

    `url` is that of our WebSocket, without a query, which Twilio would drop. `parameters` come
    back in the `CallStartedFrame`; names and values of letters and digits pass everywhere.
    `status_url`, if set, gets the stream's events. Raises `ConfigurationError` for another URL.
    """

    url: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    status_url: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError("stream: expected a wss:// URL without a query")


@dataclass(frozen=True, kw_only=True)
class WebhookResponse:
    """What to answer a webhook with; `request` is what to ask of the provider beside that."""

    body: str = field(default="", repr=False)
    content_type: str = "text/plain"
    request: ApiRequest | None = None


# --- requests that we make ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """A request to a provider's API. It carries secrets, which its repr doesn't show.

    `is_idempotent` if nothing happens twice when it is sent twice. `ended` maps the HTTP statuses
    that can mean that the call has ended already to the error code that makes it certain, or to
    None where the status is enough. `id_path` leads to the new call's id in the answer.
    """

    action: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Sequence[tuple[str, str]] | None = field(default=None, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    is_idempotent: bool = False
    ended: Mapping[int, str | None] = field(default_factory=dict)
    id_path: Sequence[str] = ()


class Outcome(enum.Enum):
    """What came of a request to a provider's API."""

    DONE = "done"
    #: The call was over already.
    ALREADY_ENDED = "already ended"
    #: The provider refused; repeating the request would not help.
    REFUSED = "refused"
    #: No attempt got an answer, or only server errors.
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class ApiResult:
    """How an `ApiRequest` went. `status` is the last HTTP status, `call_id` that of a new call."""

    outcome: Outcome
    status: int | None = None
    attempts: int = 1
    error: str = ""
    call_id: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome in (Outcome.DONE, Outcome.ALREADY_ENDED)


@dataclass(frozen=True, kw_only=True)
class Dial:
    """A call to place. Numbers are E.164, with the plus.

    `answer_url` is requested once the call is answered, where the provider asks; others are
    given the `stream` right away. `status_url` hears how the call does.
    """

    to_number: str
    from_number: str
    answer_url: str = ""
    stream: StreamTarget | None = None
    status_url: str = ""
    ring_timeout_secs: int = 60
    detect_machine: bool = False


# --- providers ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Provider(ABC):
    """A telephony company: its stream, its signatures, its answers, its requests.

    `public_url` is where the provider reaches us, such as `https://voice.example.com`: signatures
    cover it, and what a proxy says about itself is no substitute. What else a provider takes are
    its `options`. Methods that build a request raise `NotSupported` where the provider has no such
    thing, `ConfigurationError` where an option is missing that it needs, and `ValueError` for an
    argument that isn't one.
    """

    name: ClassVar[str]
    #: Whether webhooks, and upgrades to a WebSocket, carry something that only the provider knows.
    signs_webhooks: ClassVar[bool] = True
    signs_upgrades: ClassVar[bool] = True
    #: False: it opens its streams without asking, so that no token of ours can be in their URL.
    sends_webhooks: ClassVar[bool] = True

    public_url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_url", _check_url(self.public_url, "public_url"))
        self._require(entry for entry in self.options() if entry.is_required)

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """The provider's options, as in `VOICEWS["PROVIDERS"]`."""
        return options_of(cls)

    @classmethod
    def from_options(cls, public_url: str, options: Mapping[str, Any]) -> Self:
        """Made of settings, whose names may be in upper case, and numbers text.

        Raises `ConfigurationError` that names what is missing, unknown or can't be honoured.
        """
        given = {str(name).lower(): value for name, value in options.items()}
        known = {entry.name: entry for entry in cls.options()}
        if unknown := sorted(given.keys() - known.keys()):
            raise ConfigurationError(f"{cls.name}: unknown options {', '.join(unknown)}")
        try:
            values = {name: known[name].read(value) for name, value in given.items()}
            provider = cls(public_url=public_url, **values)
            provider.check()
        except VoicewsError as error:
            raise ConfigurationError(f"{cls.name}: {error}") from None
        return provider

    def check(self) -> None:
        """Raise `ConfigurationError` for options that would fail when a call comes or is placed."""
        self.new_serializer()
        for entry in self.options():
            value = getattr(self, entry.name)
            if entry.name == "api_url":
                _check_url(value, entry.name)
            elif entry.is_in_path and value:
                try:
                    path_id(value)
                except ValueError:
                    raise ConfigurationError(
                        f"{entry.name}: expected letters, digits and a few signs"
                    ) from None

    def _require_for_requests(self) -> None:
        self._require(entry for entry in self.options() if entry.needed_to)

    def _require(self, options: Iterable[Option]) -> None:
        missing = [f"{one.name} ({one.meaning})" for one in options if not getattr(self, one.name)]
        if missing:
            raise ConfigurationError(f"missing options {', '.join(missing)}")

    # --- the stream -----------------------------------------------------------------------------

    @abstractmethod
    def new_serializer(self) -> TelephonySerializer:
        """A serializer for one call's stream."""

    # --- signatures -----------------------------------------------------------------------------

    @abstractmethod
    def verify_webhook(self, request: Request) -> None:
        """Raise `NotAllowed` with the reason unless the provider itself sent this webhook.

        Raises `InvalidMessage` for one whose form can't even be read.
        """

    @abstractmethod
    def verify_upgrade(self, request: Request) -> None:
        """Raise `NotAllowed` with the reason unless the provider itself opens this socket.

        Where the provider doesn't sign its upgrades, the token has to do.
        """

    def upgrade_nonce(self, request: Request) -> str:
        """What no two upgrades may have in common, of one that `verify_upgrade` has let pass.

        Empty where a token of ours is in the URL, which is good for one call.
        """
        return ""

    # --- webhooks -------------------------------------------------------------------------------

    def callback_url(self, url: str) -> str:
        """A URL of ours, with what the provider needs in it to be known when it asks there."""
        return url

    @abstractmethod
    def parse_webhook(self, request: Request) -> CallEvent:
        """What a verified webhook says. Raises `InvalidMessage` if it says nothing of a call."""

    @abstractmethod
    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        """Connects the call of `event` to `stream`."""

    def reject(self, event: CallEvent) -> WebhookResponse:
        """Turns the call of `event` away, as busy where that can be said."""
        raise NotSupported(f"{self.name} calls can't be turned away")

    # --- requests -------------------------------------------------------------------------------

    def hang_up(self, call_id: str) -> ApiRequest:
        """Ends a call; it is no error if it has ended already."""
        raise NotSupported(f"{self.name} calls end with their stream")

    def dial(self, call: Dial) -> ApiRequest:
        """Places a call."""
        raise NotSupported(f"{self.name} places no calls for us")

    def transfer(self, call_id: str, to_number: str, *, document_url: str = "") -> ApiRequest:
        """Hands the caller over to `to_number`, which ends the stream.

        `document_url` is for providers that fetch the order: it must answer what
        `transfer_document` gives.
        """
        raise NotSupported(f"{self.name} calls are transferred by the flow that they are in")

    def transfer_document(self, to_number: str) -> WebhookResponse:
        """What a webhook answers to hand the caller over to `to_number`."""
        raise NotSupported(f"{self.name} calls are transferred otherwise")

    def send_dtmf(self, call_id: str, digits: str) -> ApiRequest:
        """Presses keys (0-9, *, #, A-D, w for a pause). Where there is no such request, and the
        socket can't either, they are sent as tones."""
        raise NotSupported(f"{self.name} takes keys as tones only")


def _check_url(url: str, name: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        valid = False
    if (
        not valid
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or not url.isprintable()
        or " " in url
    ):
        raise ConfigurationError(f"{name}: expected a URL such as https://example.com")
    return url.rstrip("/")


# --- what providers share -------------------------------------------------------------------------


def path_id(value: str) -> str:
    """An id, fit for a URL's path. Raises `ValueError` for what no provider would give."""
    if not _SAFE_ID.fullmatch(value) or ".." in value:
        raise ValueError("id: expected letters, digits and a few signs")
    return quote(value, safe="")


def dtmf_digits(value: str) -> str:
    """Keys to press. Raises `ValueError` for others than a telephone has."""
    if not _DTMF_DIGITS.fullmatch(value):
        raise ValueError("digits: expected up to 64 of 0-9, *, #, A-D, w")
    return value


def bare_number(number: str) -> str:
    """E.164 without the plus, as some providers want it."""
    return number.removeprefix("+")


def plus_number(number: str) -> str:
    """E.164 with the plus, from a provider that leaves it out; no number stays as it is."""
    return f"+{number}" if number.isascii() and number.isdigit() and len(number) > 7 else number
