"""Exotel: the Voicebot applet's URL, the Connect API.

Source: developer.exotel.com (AgentStream, Make a Call, status callbacks).
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.exotel import ExotelSerializer
from voicews.telephony.providers.base import (
    ApiRequest,
    CallEvent,
    Dial,
    EventKind,
    Provider,
    Request,
    StreamTarget,
    WebhookResponse,
    path_id,
)
from voicews.telephony.providers.options import option
from voicews.telephony.providers.signatures import same
from voicews.telephony.providers.twilio import STATUSES, basic_auth

MAX_PARAMETERS: Final = 3
MAX_QUERY_LENGTH: Final = 256
MAX_STREAM_URL_LENGTH: Final = 599


@dataclass(frozen=True, kw_only=True)
class Exotel(Provider):
    """An account at Exotel, which signs nothing.

    What proves that a request is theirs is `username` and `password`, of our own choice, in the
    URLs that they are given: `https://username:password@voice.example.com/...`.
    """

    name = "exotel"
    signs_webhooks = False
    signs_upgrades = False

    username: str = option("of our own choice", required=True)
    password: str = option("of our own choice", required=True, secret=True)
    account_sid: str = option("the account's id", needed_to="call", in_path=True)
    api_key: str = option("the user's name at the API", needed_to="call")
    api_token: str = option("the user's password at the API", secret=True, needed_to="call")
    sample_rate: Literal[8000, 16000, 24000] = option("of the audio both ways, in Hz", 8000)
    chunk_bytes: int = option("the audio in a message, a multiple of 320", 3200)
    api_url: str = option("https://api.in.exotel.com in Mumbai", "https://api.exotel.com")

    def new_serializer(self) -> ExotelSerializer:
        return ExotelSerializer(chunk_bytes=self.chunk_bytes)

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        self._verify_basic_auth(request)

    def verify_upgrade(self, request: Request) -> None:
        self._verify_basic_auth(request)

    def _verify_basic_auth(self, request: Request) -> None:
        scheme, _, credentials = request.header("authorization").partition(" ")
        if scheme.lower() != "basic":
            raise NotAllowed("Basic credentials are missing")
        try:
            found = b64decode(credentials.strip(), validate=True).decode()
        except ValueError:
            raise NotAllowed("Basic credentials can't be read") from None
        if not same(found, f"{self.username}:{self.password}"):
            raise NotAllowed("Basic credentials are wrong")

    # --- webhooks -------------------------------------------------------------------------------

    def callback_url(self, url: str) -> str:
        parts = urlsplit(url)
        return parts._replace(netloc=f"{self._user}@{parts.netloc}").geturl()

    @property
    def _user(self) -> str:
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"

    def parse_webhook(self, request: Request) -> CallEvent:
        values = request.fields
        call_id = values.get("CallSid", "")
        if not call_id:
            raise InvalidMessage("expected a field CallSid")
        status = STATUSES.get((values.get("Status") or values.get("CallStatus") or "").lower())
        # Only status callbacks, which carry the time of the change, are about what was.
        is_report = "EventType" in values or "DateUpdated" in values
        return CallEvent(
            provider=self.name,
            kind=EventKind.CALL if status or not is_report else EventKind.OTHER,
            call_id=call_id,
            direction=(
                "outbound" if values.get("Direction", "").startswith("outbound") else "inbound"
            ),
            from_number=values.get("CallFrom") or values.get("From", ""),
            to_number=values.get("CallTo") or values.get("To", ""),
            status=status,
            wants_answer=not is_report,
            fields=values,
        )

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        body = json.dumps({"url": self._stream_url(stream)})
        return WebhookResponse(body=body, content_type="application/json")

    def _stream_url(self, stream: StreamTarget) -> str:
        query = urlencode(stream.parameters)
        if len(stream.parameters) > MAX_PARAMETERS or len(query) > MAX_QUERY_LENGTH:
            raise ConfigurationError(
                f"parameters: expected up to {MAX_PARAMETERS}, of {MAX_QUERY_LENGTH} characters, "
                f"found {len(stream.parameters)} of {len(query)}"
            )
        if self.sample_rate != 8000:
            query += f"{'&' if query else ''}sample-rate={self.sample_rate}"
        parts = urlsplit(stream.url)
        return parts._replace(netloc=f"{self._user}@{parts.netloc}", query=query).geturl()

    # --- requests -------------------------------------------------------------------------------

    def dial(self, call: Dial) -> ApiRequest:
        if call.stream is None:
            raise ValueError("stream: Exotel takes no stream URL later")
        self._require_for_requests()
        stream_url = self._stream_url(call.stream)
        if len(stream_url) > MAX_STREAM_URL_LENGTH:
            raise ConfigurationError("stream: expected a URL of less than 600 characters")
        form = [
            ("From", call.to_number),
            ("CallerId", call.from_number),
            ("StreamUrl", stream_url),
            ("StreamType", "bidirectional"),
        ]
        if call.status_url:
            form += [("StatusCallback", call.status_url)]
            form += [("StatusCallbackEvents[]", event) for event in ("answered", "terminal")]
        return ApiRequest(
            action="dial",
            method="POST",
            url=f"{self.api_url.rstrip('/')}/v1/Accounts/{path_id(self.account_sid)}/Calls/connect.json",
            headers=basic_auth(self.api_key, self.api_token),
            form=form,
            id_path=["Call", "Sid"],
        )
