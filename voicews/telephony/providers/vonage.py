"""Vonage: NCCOs, signed webhooks (JWT), the Voice API.

Source: developer.vonage.com (Voice API: NCCO reference, webhook reference, websockets; signed
webhooks; JWT authentication).
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.vonage import VonageSerializer
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
from voicews.telephony.providers.jwt import make_rs256, read_hs256, read_rsa_key
from voicews.telephony.providers.options import option
from voicews.telephony.providers.signatures import NonceMemory, same

#: The age (seconds) up to which a signed request is taken.
MAX_AGE_SECS: Final = 300
#: How long (seconds) a token of ours is good for.
TOKEN_LIFETIME_SECS: Final = 300
MAX_HEADERS: Final = 512

_STATUSES: Final = {
    "started": CallStatus.QUEUED,
    "ringing": CallStatus.RINGING,
    "answered": CallStatus.IN_PROGRESS,
    "human": CallStatus.IN_PROGRESS,
    "machine": CallStatus.IN_PROGRESS,
    "completed": CallStatus.COMPLETED,
    "busy": CallStatus.BUSY,
    "unanswered": CallStatus.NO_ANSWER,
    "timeout": CallStatus.NO_ANSWER,
    "cancelled": CallStatus.CANCELED,
    "rejected": CallStatus.FAILED,
    "failed": CallStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Vonage(Provider):
    """An application at Vonage, with signed webhooks switched on."""

    name = "vonage"

    signature_secret: str = option("the account's, for HS256", required=True, secret=True)
    application_id: str = option("the application's id", needed_to="call and hang up")
    private_key: str = option(
        "the application's, RSA in PEM format", secret=True, needed_to="call and hang up"
    )
    api_key: str = option("the account's, to take no other account's webhooks")
    sample_rate: Literal[8000, 16000, 24000] = option("of the audio both ways, in Hz", 16000)
    # A call can be controlled in its own region only.
    api_url: str = option("the region's", "https://api.nexmo.com")
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)
    _nonces: NonceMemory = field(default_factory=NonceMemory, init=False, repr=False, compare=False)

    def new_serializer(self) -> VonageSerializer:
        return VonageSerializer(sample_rate=self.sample_rate)

    def check(self) -> None:
        super().check()
        if self.private_key:
            read_rsa_key(self.private_key)

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        claims = self._claims(request)
        if not request.body:
            return
        payload_hash = claims.get("payload_hash")
        if not isinstance(payload_hash, str):
            raise NotAllowed("the token doesn't cover the body")
        if not same(payload_hash.lower(), hashlib.sha256(request.body).hexdigest()):
            raise NotAllowed("payload_hash isn't that of the body")

    def verify_upgrade(self, request: Request) -> None:
        token_id = self._claims(request).get("jti")
        if not isinstance(token_id, str) or not token_id:
            raise NotAllowed("the token has no jti")
        self._nonces.use(token_id, self.clock())

    def _claims(self, request: Request) -> Mapping[str, Any]:
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAllowed("a Bearer token is missing")
        claims = read_hs256(token.strip(), self.signature_secret)
        issued, now = claims.get("iat"), self.clock()
        # Compared, not subtracted: JSON has integers beyond every float, and NaN, which is nowhere.
        if not isinstance(issued, int | float) or not (
            now - MAX_AGE_SECS <= issued <= now + MAX_AGE_SECS
        ):
            raise NotAllowed(f"signed more than {MAX_AGE_SECS} s ago, or in the future")
        if claims.get("iss") != "Vonage":
            raise NotAllowed("the token isn't issued by Vonage")
        for name in ("application_id", "api_key"):
            expected = getattr(self, name)
            if expected and name in claims and claims[name] != expected:
                raise NotAllowed(f"the token is for another {name}")
        return claims

    # --- webhooks -------------------------------------------------------------------------------

    def parse_webhook(self, request: Request) -> CallEvent:
        values = request.fields
        if request.content_type == "application/json":
            values |= {
                name: str(value)
                for name, value in request.json.items()
                if isinstance(value, str | int | float)
            }
        call_id = values.get("uuid", "")
        if not call_id:
            raise InvalidMessage("expected a field uuid")
        # A leg of the WebSocket's own has events too: they aren't the call's.
        is_stream = values.get("to", "").startswith(("ws:", "wss:"))
        status = _STATUSES.get(values.get("status", ""))
        return CallEvent(
            provider=self.name,
            kind=EventKind.STREAM if is_stream else EventKind.CALL if status else EventKind.OTHER,
            call_id=call_id,
            direction="outbound" if values.get("direction") == "outbound" else "inbound",
            from_number=plus_number(values.get("from", "")),
            to_number=plus_number(values.get("to", "")),
            status=None if is_stream else status,
            wants_answer="status" not in values and "conversation_uuid" in values,
            error=values.get("reason") or values.get("detail", ""),
            fields=values,
        )

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        headers = {"call_uuid": event.call_id, **stream.parameters}
        size = len(json.dumps(headers).encode())
        if size > MAX_HEADERS:
            raise ConfigurationError(
                f"parameters: expected up to {MAX_HEADERS} bytes, found {size}"
            )
        connect: dict[str, Any] = {
            "action": "connect",
            "from": bare_number(event.to_number or event.from_number),
            "endpoint": [
                {
                    "type": "websocket",
                    "uri": stream.url,
                    "content-type": f"audio/l16;rate={self.sample_rate}",
                    "headers": headers,
                    # Off by default: without it the upgrade isn't signed.
                    "authorization": {"type": "vonage"},
                }
            ],
        }
        if stream.status_url:
            connect |= {"eventType": "synchronous", "eventUrl": [stream.status_url]}
        return _ncco([connect])

    def reject(self, event: CallEvent) -> WebhookResponse:
        # An empty NCCO ends the call.
        return _ncco([])

    # --- requests -------------------------------------------------------------------------------

    def hang_up(self, call_id: str) -> ApiRequest:
        return self._update(
            "hang up", call_id, {"action": "hangup"}, is_idempotent=True, ended={404: None}
        )

    def dial(self, call: Dial) -> ApiRequest:
        if not call.answer_url:
            raise ValueError("answer_url: Vonage asks it what to do")
        body: dict[str, Any] = {
            "to": [{"type": "phone", "number": bare_number(call.to_number)}],
            "from": {"type": "phone", "number": bare_number(call.from_number)},
            "answer_url": [call.answer_url],
            "answer_method": "POST",
            "ringing_timer": min(max(call.ring_timeout_secs, 1), 120),
        }
        if call.status_url:
            body |= {"event_url": [call.status_url], "event_method": "POST"}
        if call.detect_machine:
            body["machine_detection"] = "continue"
        return ApiRequest(
            action="dial",
            method="POST",
            url=f"{self.api_url.rstrip('/')}/v1/calls",
            headers=self._headers(),
            json=body,
            id_path=["uuid"],
        )

    def transfer(self, call_id: str, to_number: str, *, document_url: str = "") -> ApiRequest:
        ncco = json.loads(self.transfer_document(to_number).body)
        destination = {"type": "ncco", "ncco": ncco}
        return self._update("transfer", call_id, {"action": "transfer", "destination": destination})

    def transfer_document(self, to_number: str) -> WebhookResponse:
        endpoint = {"type": "phone", "number": bare_number(to_number)}
        return _ncco([{"action": "connect", "endpoint": [endpoint]}])

    def send_dtmf(self, call_id: str, digits: str) -> ApiRequest:
        return self._update("send DTMF", call_id, {"digits": dtmf_digits(digits)}, path="/dtmf")

    def _update(
        self,
        action: str,
        call_id: str,
        body: Mapping[str, Any],
        *,
        path: str = "",
        is_idempotent: bool = False,
        ended: Mapping[int, str | None] | None = None,
    ) -> ApiRequest:
        return ApiRequest(
            action=action,
            method="PUT",
            url=f"{self.api_url.rstrip('/')}/v1/calls/{path_id(call_id)}{path}",
            headers=self._headers(),
            json=body,
            is_idempotent=is_idempotent,
            ended=ended or {},
        )

    def _headers(self) -> dict[str, str]:
        self._require_for_requests()
        now = int(self.clock())
        claims = {
            "application_id": self.application_id,
            "iat": now,
            "exp": now + TOKEN_LIFETIME_SECS,
            "jti": str(uuid.uuid4()),
        }
        return {"Authorization": f"Bearer {make_rs256(claims, self.private_key)}"}


def _ncco(actions: Sequence[Mapping[str, Any]]) -> WebhookResponse:
    return WebhookResponse(body=json.dumps(actions), content_type="application/json")
