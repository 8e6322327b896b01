"""Plivo: its XML, X-Plivo-Signature-V3, the Call resource.

Source: plivo.com/docs/voice (XML, API, audio streaming) and the signature code of Plivo's SDKs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.plivo import PlivoSerializer
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
    bare_number,
    dtmf_digits,
    path_id,
    plus_number,
)
from voicews.telephony.providers.markup import document, element
from voicews.telephony.providers.options import option
from voicews.telephony.providers.signatures import (
    NonceMemory,
    any_same,
    sign,
    with_and_without_port,
    with_and_without_slash,
)
from voicews.telephony.providers.twilio import STATUSES, basic_auth

MAX_EXTRA_HEADERS: Final = 512
MAX_SIGNATURES: Final = 10

_LETTERS_AND_DIGITS = re.compile("[A-Za-z0-9]+")

_STATUSES: Final = {
    **STATUSES,
    "no_answer": CallStatus.NO_ANSWER,
    "timeout": CallStatus.NO_ANSWER,
    "cancel": CallStatus.CANCELED,
    "rejected": CallStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Plivo(Provider):
    """An account, or a sub-account, at Plivo."""

    name = "plivo"

    auth_id: str = option("the account's id", required=True, in_path=True)
    auth_token: str = option("the account's", required=True, secret=True)
    main_auth_token: str = option(
        "the main account's, where it signs the webhooks of a sub-account", secret=True
    )
    content_type: Literal[
        "audio/x-mulaw;rate=8000", "audio/x-l16;rate=8000", "audio/x-l16;rate=16000"
    ] = option("what the stream carries both ways", "audio/x-mulaw;rate=8000")
    api_url: str = option("of the API", "https://api.plivo.com")
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    _nonces: NonceMemory = field(default_factory=NonceMemory, init=False, repr=False, compare=False)

    def new_serializer(self) -> PlivoSerializer:
        return PlivoSerializer(content_type=self.content_type)

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        method = request.method.upper()
        if method not in ("GET", "POST"):
            raise NotAllowed("expected GET or POST")
        form = request.form if method == "POST" else {}
        if request.body and method == "POST" and not form:
            raise NotAllowed("the body is no form: its signature doesn't cover it")
        urls = with_and_without_port(self.public_url + request.path)
        self._verify(request, urls, form)

    def verify_upgrade(self, request: Request) -> None:
        # Plivo's own SDKs don't agree on the scheme of the URL that is signed. Host and path are
        # fixed, so taking any of them lets nothing else in.
        host_and_path = self.public_url.partition("://")[2] + request.path
        urls = [
            variant
            for scheme in ("https", "wss", "http", "ws")
            for url in with_and_without_slash(f"{scheme}://{host_and_path}")
            for variant in with_and_without_port(url)
        ]
        self._verify(request, urls, {})
        self._nonces.use(request.header("x-plivo-signature-v3-nonce"), self.clock())

    def _verify(
        self, request: Request, urls: Sequence[str], form: Mapping[str, Sequence[str]]
    ) -> None:
        nonce = request.header("x-plivo-signature-v3-nonce")
        found = _signatures(request, "x-plivo-signature-v3")
        found_main = _signatures(request, "x-plivo-signature-ma-v3")
        if not nonce or not (found or found_main):
            raise NotAllowed("X-Plivo-Signature-V3 or its nonce is missing")
        content = _signed_content(request.query_fields, form)
        expected = [sign(self.auth_token, f"{url}{content}.{nonce}") for url in urls]
        matches = [any_same(signature, expected) for signature in found]
        if self.main_auth_token:
            expected = [sign(self.main_auth_token, f"{url}{content}.{nonce}") for url in urls]
            matches += [any_same(signature, expected) for signature in found_main]
        if not any(matches):
            raise NotAllowed("X-Plivo-Signature-V3 is wrong")

    # --- webhooks -------------------------------------------------------------------------------

    def parse_webhook(self, request: Request) -> CallEvent:
        values = request.fields
        call_id = values.get("CallUUID", "")
        if not call_id:
            raise InvalidMessage("expected a field CallUUID")
        is_stream = "StreamID" in values or "Stream" in values.get("Event", "")
        status = _STATUSES.get(values.get("CallStatus", "").lower())
        if status is None and values.get("Event") == "Hangup":
            status = CallStatus.COMPLETED
        return CallEvent(
            provider=self.name,
            kind=EventKind.STREAM if is_stream else EventKind.CALL if status else EventKind.OTHER,
            call_id=call_id,
            direction="outbound" if values.get("Direction") == "outbound" else "inbound",
            from_number=plus_number(values.get("From", "")),
            to_number=plus_number(values.get("To", "")),
            status=None if is_stream else status,
            wants_answer=values.get("Event") in ("StartApp", "Redirect"),
            stream_id=values.get("StreamID", ""),
            error=values.get("StatusReason", "") if is_stream else values.get("HangupCause", ""),
            fields=values,
        )

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        attributes = {
            "bidirectional": "true",
            # Without it the call ends at once, as nothing follows the stream.
            "keepCallAlive": "true",
            "contentType": self.content_type,
            "extraHeaders": _extra_headers(stream.parameters),
            "statusCallbackUrl": stream.status_url,
            "statusCallbackMethod": "POST" if stream.status_url else "",
        }
        return document(element("Stream", attributes, text=stream.url))

    def reject(self, event: CallEvent) -> WebhookResponse:
        return document(element("Hangup", {"reason": "busy"}))

    # --- requests -------------------------------------------------------------------------------

    def hang_up(self, call_id: str) -> ApiRequest:
        return self._request(
            "hang up", "DELETE", f"Call/{path_id(call_id)}/", is_idempotent=True, ended={404: None}
        )

    def dial(self, call: Dial) -> ApiRequest:
        """The id in the answer is the request's, which need not become the call's."""
        if not call.answer_url:
            raise ValueError("answer_url: Plivo asks it what to do")
        body: dict[str, Any] = {
            "from": bare_number(call.from_number),
            "to": bare_number(call.to_number),
            "answer_url": call.answer_url,
            "answer_method": "POST",
            "ring_timeout": call.ring_timeout_secs,
        }
        if call.status_url:
            body |= {"hangup_url": call.status_url, "hangup_method": "POST"}
            body |= {"ring_url": call.status_url, "ring_method": "POST"}
        if call.detect_machine:
            body["machine_detection"] = "true"
        return self._request("dial", "POST", "Call/", body, id_path=["request_uuid"])

    def transfer(self, call_id: str, to_number: str, *, document_url: str = "") -> ApiRequest:
        if not document_url:
            raise ValueError("document_url: Plivo fetches the order from there")
        body = {"legs": "aleg", "aleg_url": document_url, "aleg_method": "POST"}
        return self._request("transfer", "POST", f"Call/{path_id(call_id)}/", body)

    def transfer_document(self, to_number: str) -> WebhookResponse:
        return document(element("Dial", None, element("Number", text=bare_number(to_number))))

    def send_dtmf(self, call_id: str, digits: str) -> ApiRequest:
        body = {"digits": dtmf_digits(digits)}
        return self._request("send DTMF", "POST", f"Call/{path_id(call_id)}/DTMF/", body)

    def _request(
        self,
        action: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        is_idempotent: bool = False,
        ended: Mapping[int, str | None] | None = None,
        id_path: Sequence[str] = (),
    ) -> ApiRequest:
        return ApiRequest(
            action=action,
            method=method,
            url=f"{self.api_url.rstrip('/')}/v1/Account/{path_id(self.auth_id)}/{path}",
            headers=basic_auth(self.auth_id, self.auth_token),
            json=body,
            is_idempotent=is_idempotent,
            ended=ended or {},
            id_path=id_path,
        )


def _extra_headers(parameters: Mapping[str, str]) -> str:
    for name, value in parameters.items():
        if not _LETTERS_AND_DIGITS.fullmatch(name) or not _LETTERS_AND_DIGITS.fullmatch(value):
            raise ConfigurationError(
                f"parameter {name!r}: Plivo takes letters and digits only, in name and value"
            )
    headers = ",".join(f"{name}={value}" for name, value in parameters.items())
    if len(headers) > MAX_EXTRA_HEADERS:
        raise ConfigurationError(
            f"parameters: expected up to {MAX_EXTRA_HEADERS} bytes, found {len(headers)}"
        )
    return headers


def _signatures(request: Request, header: str) -> list[str]:
    """More than one while an auth token is being replaced."""
    parts = request.header(header).split(",", MAX_SIGNATURES)[:MAX_SIGNATURES]
    return [part.strip() for part in parts if part.strip()]


def _signed_content(query: Mapping[str, Sequence[str]], form: Mapping[str, Sequence[str]]) -> str:
    """What is signed after the URL: query and form, sorted, decoded, without separators."""
    sorted_query = "&".join(f"{name}={v}" for name in sorted(query) for v in sorted(query[name]))
    sorted_form = "".join(f"{name}{v}" for name in sorted(form) for v in sorted(form[name]))
    if not form:
        return f"?{sorted_query}" if sorted_query else ""
    return f"?{sorted_query}{'.' if sorted_query else ''}{sorted_form}"
