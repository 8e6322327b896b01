"""Twilio: TwiML, X-Twilio-Signature, the Calls resource.

Source: twilio.com/docs/voice/twiml/stream, /docs/usage/webhooks/webhooks-security and
/docs/voice/api/call-resource.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.twilio import TwilioSerializer
from voicews.telephony.providers.base import (
    ApiRequest,
    CallEvent,
    CallStatus,
    Dial,
    EventKind,
    Provider,
    Request,
    StreamTarget,
    WebhookResponse,
    path_id,
)
from voicews.telephony.providers.markup import document, element, parameter
from voicews.telephony.providers.options import option
from voicews.telephony.providers.signatures import (
    any_same,
    same,
    sign,
    with_and_without_port,
    with_and_without_slash,
)

MAX_PARAMETER_LENGTH: Final = 499

STATUSES: Final = {
    "queued": CallStatus.QUEUED,
    "initiated": CallStatus.QUEUED,
    "ringing": CallStatus.RINGING,
    "in-progress": CallStatus.IN_PROGRESS,
    "answered": CallStatus.IN_PROGRESS,
    "completed": CallStatus.COMPLETED,
    "busy": CallStatus.BUSY,
    "failed": CallStatus.FAILED,
    "no-answer": CallStatus.NO_ANSWER,
    "canceled": CallStatus.CANCELED,
}


@dataclass(frozen=True, kw_only=True)
class Twilio(Provider):
    """An account at Twilio."""

    name = "twilio"

    account_sid: str = option("the account's id, AC...", required=True, in_path=True)
    auth_token: str = option("the primary one of the account's region", required=True, secret=True)
    api_key: str = option("the id of a key that makes requests in place of auth_token")
    api_secret: str = option("the secret of api_key", secret=True)
    shared_key: str = option("the secret of webhooks that have a key of their own", secret=True)
    api_url: str = option(
        "the region's, such as https://api.dublin.ie1.twilio.com", "https://api.twilio.com"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.api_key) != bool(self.api_secret):
            raise ConfigurationError("api_key and api_secret: expected both or none")

    def new_serializer(self) -> TwilioSerializer:
        return TwilioSerializer()

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        signature = _signature(request)
        content = _signed_content(request)
        urls = with_and_without_port(request.url(self.public_url))
        if not any_same(signature, (self._sign(request, url + content) for url in urls)):
            raise NotAllowed("X-Twilio-Signature is wrong")

    def verify_upgrade(self, request: Request) -> None:
        signature = _signature(request)
        if request.query:
            raise NotAllowed("the upgrade has a query, which its signature doesn't cover")
        # Which form of the URL is signed depends on what wrote it, so each one may be.
        url = "ws" + request.url(self.public_url).removeprefix("http")
        urls = [v for slash in with_and_without_slash(url) for v in with_and_without_port(slash)]
        if not any_same(signature, (self._sign(request, url) for url in urls)):
            raise NotAllowed("X-Twilio-Signature is wrong")

    def _sign(self, request: Request, content: str) -> str:
        """The header for `content`; the request may ask for SHA-256, but the key is ours."""
        settings = request.header("x-twilio-webhooks-signature-settings")
        if self.shared_key and "algorithm=HMAC_SHA256" in settings.replace(" ", "").split(","):
            return sign(self.shared_key, content)
        return sign(self.auth_token, content, algorithm="sha1")

    # --- webhooks -------------------------------------------------------------------------------

    def parse_webhook(self, request: Request) -> CallEvent:
        return parse_twilio_form(self.name, request.fields)

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        parameters = []
        for name, value in stream.parameters.items():
            if len(name) + len(value) > MAX_PARAMETER_LENGTH:
                raise ConfigurationError(
                    f"parameter {name}: expected name and value below 500 characters"
                )
            parameters.append(parameter(name, value))
        attributes = {
            "url": stream.url,
            "statusCallback": stream.status_url,
            "statusCallbackMethod": "POST" if stream.status_url else "",
        }
        return document(element("Connect", None, element("Stream", attributes, *parameters)))

    def reject(self, event: CallEvent) -> WebhookResponse:
        return document(element("Reject", {"reason": "busy"}))

    # --- requests -------------------------------------------------------------------------------

    def hang_up(self, call_id: str) -> ApiRequest:
        return self._update(
            "hang up",
            call_id,
            [("Status", "completed")],
            is_idempotent=True,
            ended={404: "20404", 400: "21220"},
        )

    def dial(self, call: Dial) -> ApiRequest:
        if not call.answer_url:
            raise ValueError("answer_url: Twilio asks it what to do")
        form = [
            ("To", call.to_number),
            ("From", call.from_number),
            ("Url", call.answer_url),
            ("Method", "POST"),
            ("Timeout", str(call.ring_timeout_secs)),
        ]
        if call.status_url:
            form += [("StatusCallback", call.status_url), ("StatusCallbackMethod", "POST")]
            events = ("initiated", "ringing", "answered", "completed")
            form += [("StatusCallbackEvent", event) for event in events]
        if call.detect_machine:
            form.append(("MachineDetection", "Enable"))
        return ApiRequest(
            action="dial",
            method="POST",
            url=f"{self._account_url}/Calls.json",
            headers=self._headers,
            form=form,
            id_path=["sid"],
        )

    def transfer(self, call_id: str, to_number: str, *, document_url: str = "") -> ApiRequest:
        twiml = self.transfer_document(to_number).body
        return self._update("transfer", call_id, [("Twiml", twiml)])

    def transfer_document(self, to_number: str) -> WebhookResponse:
        return document(element("Dial", text=to_number))

    def _update(
        self,
        action: str,
        call_id: str,
        form: Sequence[tuple[str, str]],
        *,
        is_idempotent: bool = False,
        ended: Mapping[int, str | None] | None = None,
    ) -> ApiRequest:
        return ApiRequest(
            action=action,
            method="POST",
            url=f"{self._account_url}/Calls/{path_id(call_id)}.json",
            headers=self._headers,
            form=form,
            is_idempotent=is_idempotent,
            ended=ended or {},
        )

    @property
    def _account_url(self) -> str:
        account = path_id(self.account_sid)
        return f"{self.api_url.rstrip('/')}/2010-04-01/Accounts/{account}"

    @property
    def _headers(self) -> dict[str, str]:
        if self.api_key:
            return basic_auth(self.api_key, self.api_secret)
        return basic_auth(self.account_sid, self.auth_token)


def basic_auth(user: str, password: str) -> dict[str, str]:
    """The header that gives user and password."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def parse_twilio_form(provider: str, values: Mapping[str, str]) -> CallEvent:
    """What a webhook in Twilio's form says: theirs, and that of those who do as Twilio does."""
    call_id = values.get("CallSid", "")
    if not call_id:
        raise InvalidMessage("expected a field CallSid")
    is_stream = "StreamEvent" in values
    status = STATUSES.get(values.get("CallStatus", "").lower())
    return CallEvent(
        provider=provider,
        kind=EventKind.STREAM if is_stream else EventKind.CALL if status else EventKind.OTHER,
        call_id=call_id,
        direction="outbound" if values.get("Direction", "").startswith("outbound") else "inbound",
        from_number=values.get("From", ""),
        to_number=values.get("To", ""),
        status=None if is_stream else status,
        wants_answer=not is_stream and status is not None and not status.is_final,
        stream_id=values.get("StreamSid", ""),
        error=values.get("StreamError", ""),
        fields=values,
    )


def _signature(request: Request) -> str:
    signature = request.header("x-twilio-signature")
    if not signature:
        raise NotAllowed("X-Twilio-Signature is missing")
    return signature


def _signed_content(request: Request) -> str:
    """What is signed after the URL."""
    expected = request.query_fields.get("bodySHA256")
    if expected:
        if not same(expected[-1].lower(), hashlib.sha256(request.body).hexdigest()):
            raise NotAllowed("bodySHA256 isn't that of the body")
        return ""
    if request.body and not request.form:
        raise NotAllowed("the body is no form, and bodySHA256 is missing")
    return "".join(
        name + value for name in sorted(request.form) for value in sorted(set(request.form[name]))
    )
