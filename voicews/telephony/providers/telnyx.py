"""Telnyx: TeXML or Call Control, Ed25519 signatures, call commands.

Source: developers.telnyx.com/docs/voice/programmable-voice (media streaming, receiving webhooks,
TeXML) and the Call Control API reference.
"""

from __future__ import annotations

import json
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element

from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.telnyx import TelnyxSerializer
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
    dtmf_digits,
    path_id,
)
from voicews.telephony.providers.markup import document, element, parameter
from voicews.telephony.providers.options import option
from voicews.telephony.providers.twilio import parse_twilio_form

#: The age (seconds) up to which a signed webhook is taken.
MAX_AGE_SECS: Final = 300

_STATUSES: Final = {
    "call.initiated": CallStatus.RINGING,
    "call.answered": CallStatus.IN_PROGRESS,
    "call.bridged": CallStatus.IN_PROGRESS,
    "call.hangup": CallStatus.COMPLETED,
}
_HANGUP_CAUSES: Final = {
    "user_busy": CallStatus.BUSY,
    "timeout": CallStatus.NO_ANSWER,
    "no_answer": CallStatus.NO_ANSWER,
    "originator_cancel": CallStatus.CANCELED,
    "call_rejected": CallStatus.FAILED,
    "unallocated_number": CallStatus.FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Telnyx(Provider):
    """An account at Telnyx; webhooks may be those of Call Control or of TeXML."""

    name = "telnyx"
    #: An upgrade carries our own token, not a signature.
    signs_upgrades = False

    api_key: str = option("the account's, for requests", required=True, secret=True)
    public_key: str = option("Telnyx's, in base64 as the portal shows it", required=True)
    connection_id: str = option("the application that places calls", needed_to="call")
    codec: Literal["PCMU", "PCMA", "G722", "L16"] = option("of the audio both ways", "PCMU")
    sample_rate: int = option("of L16 both ways, in Hz", 8000)
    l16_byte_order: Literal["big", "little"] = option("of L16 both ways", "big")
    api_url: str = option("of the API", "https://api.telnyx.com")
    clock: Callable[[], float] = field(default=time.time, repr=False, compare=False)

    def new_serializer(self) -> TelnyxSerializer:
        return TelnyxSerializer(
            send_codec=self.codec,
            send_sample_rate=self.sample_rate,
            l16_byte_order=self.l16_byte_order,
        )

    def check(self) -> None:
        super().check()
        _read_key(self.public_key)

    # --- signatures -----------------------------------------------------------------------------

    def verify_webhook(self, request: Request) -> None:
        timestamp = request.header("telnyx-timestamp")
        if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
            raise NotAllowed("Telnyx-Timestamp is missing or no number")
        try:
            signature = b64decode(request.header("telnyx-signature-ed25519"), validate=True)
        except ValueError:
            raise NotAllowed("Telnyx-Signature-Ed25519 isn't base64") from None
        if not _is_signed(self.public_key, signature, timestamp.encode() + b"|" + request.body):
            raise NotAllowed("Telnyx-Signature-Ed25519 is missing or wrong")
        if abs(self.clock() - int(timestamp)) > MAX_AGE_SECS:
            raise NotAllowed(f"signed more than {MAX_AGE_SECS} s ago, or in the future")

    def verify_upgrade(self, request: Request) -> None:
        return

    # --- webhooks -------------------------------------------------------------------------------

    def parse_webhook(self, request: Request) -> CallEvent:
        if request.content_type == "application/json":
            return self._parse_event(request.json)
        return parse_twilio_form(self.name, request.fields)

    def _parse_event(self, envelope: Mapping[str, Any]) -> CallEvent:
        data = envelope.get("data")
        payload = data.get("payload") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(payload, dict):
            raise InvalidMessage("expected an event with a payload")
        event_type = str(data.get("event_type", ""))
        call_id = payload.get("call_control_id")
        if not isinstance(call_id, str) or not call_id:
            raise InvalidMessage("expected a call_control_id")
        try:
            path_id(call_id)
        except ValueError as error:
            raise InvalidMessage(f"call_control_{error}") from None
        direction = str(payload.get("direction") or "")
        is_incoming = direction in ("incoming", "inbound")
        status = _STATUSES.get(event_type)
        if status is CallStatus.COMPLETED:
            status = _HANGUP_CAUSES.get(str(payload.get("hangup_cause")), status)
        is_stream = event_type.startswith("streaming.")
        return CallEvent(
            provider=self.name,
            kind=EventKind.STREAM if is_stream else EventKind.CALL if status else EventKind.OTHER,
            call_id=call_id,
            direction="outbound" if direction and not is_incoming else "inbound",
            from_number=str(payload.get("from") or ""),
            to_number=str(payload.get("to") or ""),
            status=status,
            wants_answer=event_type == "call.initiated" and is_incoming,
            stream_id=str(payload.get("stream_id") or ""),
            event_id=str(data.get("id") or ""),
            error=str(payload.get("failure_reason") or ""),
            fields={"event_type": event_type, **_flatten(payload)},
        )

    def answer(self, event: CallEvent, stream: StreamTarget) -> WebhookResponse:
        """TeXML for a TeXML webhook; for one of Call Control nothing, and a command."""
        if "event_type" not in event.fields:
            return document(self._stream_verb(stream))
        fields = self._stream_fields(stream)
        return WebhookResponse(request=self._command("answer", event.call_id, "answer", fields))

    def reject(self, event: CallEvent) -> WebhookResponse:
        if "event_type" not in event.fields:
            return document(element("Reject", {"reason": "busy"}))
        fields = {"cause": "USER_BUSY"}
        return WebhookResponse(request=self._command("reject", event.call_id, "reject", fields))

    def _stream_verb(self, stream: StreamTarget) -> Element:
        attributes = {
            "url": stream.url,
            "track": "inbound_track",
            "codec": self.codec,
            # Without it the default is MP3, and raw audio is dropped without a word.
            "bidirectionalMode": "rtp",
            "bidirectionalCodec": self.codec,
            "bidirectionalSamplingRate": str(self._send_rate),
            "statusCallback": stream.status_url,
        }
        parameters = [parameter(name, value) for name, value in stream.parameters.items()]
        return element("Connect", None, element("Stream", attributes, *parameters))

    def _stream_fields(self, stream: StreamTarget) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "stream_url": stream.url,
            "stream_track": "inbound_track",
            "stream_codec": self.codec,
            "stream_bidirectional_mode": "rtp",
            "stream_bidirectional_codec": self.codec,
            "stream_bidirectional_sampling_rate": self._send_rate,
        }
        if stream.parameters:
            # Only the command that starts a stream on its own takes custom parameters; the client
            # state comes back in the start message of every stream.
            state = json.dumps(dict(stream.parameters), separators=(",", ":"))
            fields["client_state"] = b64encode(state.encode()).decode()
        if token := stream.parameters.get("token"):
            fields["stream_auth_token"] = token
        return fields

    @property
    def _send_rate(self) -> int:
        if self.codec == "L16":
            return self.sample_rate
        return 16000 if self.codec == "G722" else 8000

    # --- requests -------------------------------------------------------------------------------

    def hang_up(self, call_id: str) -> ApiRequest:
        return self._command("hang up", call_id, "hangup", {})

    def dial(self, call: Dial) -> ApiRequest:
        if call.stream is None:
            raise ValueError("stream: expected the stream when the call is placed")
        self._require_for_requests()
        body: dict[str, Any] = {
            "connection_id": self.connection_id,
            "to": call.to_number,
            "from": call.from_number,
            "timeout_secs": call.ring_timeout_secs,
            "command_id": str(uuid.uuid4()),
            **self._stream_fields(call.stream),
        }
        if call.status_url:
            body["webhook_url"] = call.status_url
        if call.detect_machine:
            body["answering_machine_detection"] = "detect"
        return ApiRequest(
            action="dial",
            method="POST",
            url=f"{self.api_url.rstrip('/')}/v2/calls",
            headers=self._headers,
            json=body,
            is_idempotent=True,
            id_path=["data", "call_control_id"],
        )

    def transfer(self, call_id: str, to_number: str, *, document_url: str = "") -> ApiRequest:
        return self._command("transfer", call_id, "transfer", {"to": to_number})

    def transfer_document(self, to_number: str) -> WebhookResponse:
        return document(element("Dial", text=to_number))

    def send_dtmf(self, call_id: str, digits: str) -> ApiRequest:
        return self._command("send DTMF", call_id, "send_dtmf", {"digits": dtmf_digits(digits)})

    def _command(
        self, action: str, call_id: str, command: str, fields: Mapping[str, Any]
    ) -> ApiRequest:
        return ApiRequest(
            action=action,
            method="POST",
            url=f"{self.api_url.rstrip('/')}/v2/calls/{path_id(call_id)}/actions/{command}",
            headers=self._headers,
            # The same command id within a minute is the same command.
            json={**fields, "command_id": str(uuid.uuid4())},
            is_idempotent=True,
            ended={422: "90018", 404: None} if command == "hangup" else {},
        )

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


def _flatten(payload: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in payload.items()
        if isinstance(value, str | int | float) and name != "client_state"
    }


def _read_key(public_key: str) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ConfigurationError(
            "Telnyx's signatures need a package that is not installed: "
            "pip install 'voicews[telephony]'"
        ) from None
    try:
        return Ed25519PublicKey.from_public_bytes(b64decode(public_key, validate=True))
    except ValueError:
        raise ConfigurationError("public_key: expected 32 bytes in base64") from None


def _is_signed(public_key: str, signature: bytes, content: bytes) -> bool:
    key = _read_key(public_key)
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
