"""Vonage, simulated: developer.vonage.com/voice/voice-api/concepts/websockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from voicews.audio.codecs import get_codec
from voicews.telephony import Vonage
from voicews.telephony.providers.base import bare_number
from voicews.testing.call import CallRefused, SimulatedCall
from voicews.testing.http import HttpResponse

#: What the buffer holds: packets of 20 ms.
MAX_PACKETS = 3072


class VonageCall(SimulatedCall[Vonage]):
    """A call to a number at Vonage, answered with an NCCO."""

    max_buffered_secs = MAX_PACKETS * 0.02

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._content_type = ""
        self._headers: dict[str, Any] = {}
        self._signs_upgrade = False

    # --- webhooks -------------------------------------------------------------------------------

    def sign(self, body: bytes = b"", **claims: Any) -> dict[str, str]:
        """The header with a token for this body; `claims` take the place of the usual ones."""
        content: dict[str, Any] = {
            "iat": int(time.time()),
            "jti": str(uuid4()),
            "iss": "Vonage",
            "application_id": self.provider.application_id,
            "api_key": self.provider.api_key or "a1b2c3d4",
        }
        if body:
            content["payload_hash"] = hashlib.sha256(body).hexdigest()
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(content | claims)}"
        digest = hmac.digest(self.provider.signature_secret.encode(), signed.encode(), "sha256")
        return {"Authorization": f"Bearer {signed}.{_base64(digest)}"}

    async def webhook(
        self, what: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A signed webhook: what to do is asked with GET, all else comes with POST."""
        path, query = self.webhook_path(what)
        # For calls that the server places it has asked for POST.
        if what == "answer" and self.placed is None:
            query = "&".join(filter(None, [query, urlencode(fields)]))
            signed = self.sign() if headers is None else headers
            return await self._request("GET", path, query, signed)
        body = json.dumps(fields).encode()
        signed = self.sign(body) if headers is None else headers
        sent = {"Content-Type": "application/json", **signed}
        return await self._request("POST", path, query, sent, body)

    def _fields(self) -> dict[str, str]:
        return {
            "from": bare_number(self.from_number),
            "to": bare_number(self.to_number),
            "uuid": self.call_id,
            "conversation_uuid": f"CON-{self.stream_id}",
        }

    async def _ring(self) -> None:
        answer = self._expect_answer(await self.webhook("answer", self._fields()))
        try:
            endpoint = next(
                endpoint
                for action in json.loads(answer)
                if action["action"] == "connect"
                for endpoint in action["endpoint"]
                if endpoint["type"] == "websocket"
            )
            self._content_type = endpoint["content-type"]
            self._expect_stream_url(endpoint["uri"])
        except (ValueError, KeyError, TypeError, StopIteration):
            raise CallRefused(
                "expected an NCCO with a websocket, found other", body=answer
            ) from None
        codec = get_codec("L16", int(self._content_type.partition("rate=")[2]))
        self._set_codecs(codec, codec)
        self._headers = endpoint.get("headers", {})
        if len(json.dumps(self._headers)) > 512:
            self.violate("headers: expected up to 512 bytes")
        self.parameters = {name: str(value) for name, value in self._headers.items()}
        self._signs_upgrade = endpoint.get("authorization", {}).get("type") == "vonage"

    async def send_status(self, status: str) -> HttpResponse:
        fields = {
            **self._fields(),
            "status": status,
            "direction": "outbound" if self.placed else "inbound",
        }
        return await self.webhook("status", fields)

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        return self.sign() if self._signs_upgrade else {}

    def _begin_stream(self) -> None:
        message = {"event": "websocket:connected", "content-type": self._content_type}
        self._post(json.dumps(message | self._headers))

    def _media_message(self, chunk: bytes) -> bytes:
        return chunk

    def _key_message(self, button: str) -> str:
        return json.dumps({"event": "websocket:dtmf", "digit": button, "duration": 260})

    def _mark_message(self, name: str) -> str:
        return json.dumps({"event": "websocket:notify", "payload": json.loads(name)})

    def _receive(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._receive_packet(data)
            return
        message = self._read_object(data)
        if message is None:
            return
        action = message.get("action")
        if action == "clear":
            self._clear(returns_marks=False)
            self._post('{"event":"websocket:cleared"}')
        elif action == "notify" and isinstance(message.get("payload"), dict):
            self._mark(json.dumps(message["payload"]))
        else:
            self.violate("unknown action", data)

    def _receive_packet(self, data: bytes) -> None:
        size = self._receive_codec.sample_rate // 50 * 2
        if len(data) != size:
            self.violate(f"expected packets of exactly {size} bytes, found {len(data)}")
        self._play(data)


def _part(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
