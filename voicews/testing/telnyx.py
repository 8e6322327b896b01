"""Telnyx, simulated: developers.telnyx.com/docs/voice/programmable-voice."""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from voicews.audio.codecs import get_codec
from voicews.exceptions import ConfigurationError
from voicews.telephony import Telnyx
from voicews.testing.accounts import TELNYX_PRIVATE_KEY
from voicews.testing.call import CallRefused, SimulatedCall, expect_fields
from voicews.testing.http import HttpResponse
from voicews.testing.twilio import read_xml

_FIELDS: Final = {"media": ("event", "media"), "mark": ("event", "mark"), "clear": ("event",)}
_MALFORMED: Final = 100003
_INVALID_MEDIA: Final = 100004


class TelnyxCall(SimulatedCall[Telnyx]):
    """A call to a number at Telnyx, answered with TeXML.

    Telnyx signs with a key that only Telnyx has: `private_key` (base64) takes its place, and the
    provider's `public_key` must be the one that belongs to it. Raises `ConfigurationError` if it
    is not.
    """

    def __init__(self, *args: Any, private_key: str = TELNYX_PRIVATE_KEY, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(b64decode(private_key))
        public_key = b64encode(self._key.public_key().public_bytes_raw()).decode()
        if public_key != self.provider.public_key:
            raise ConfigurationError(f"telnyx: a simulated call needs public_key {public_key}")
        self._reordered: list[str | bytes] = []
        self.session_id = str(uuid4())

    def new_call_id(self) -> str:
        return f"v3:{uuid4().hex}-{uuid4().hex[:12]}"

    # --- webhooks -------------------------------------------------------------------------------

    def sign(self, body: bytes, timestamp: int | None = None) -> dict[str, str]:
        """The headers that sign a webhook; `timestamp` in Unix seconds."""
        seconds = str(int(time.time()) if timestamp is None else timestamp)
        signature = self._key.sign(seconds.encode() + b"|" + body)
        return {
            "Telnyx-Timestamp": seconds,
            "Telnyx-Signature-Ed25519": b64encode(signature).decode(),
        }

    def _form(self, status: str) -> dict[str, str]:
        return {
            "AccountSid": "3e6f995f-85f7-4705-9741-53b116d28237",
            "CallSid": self.call_id,
            "CallSidLegacy": self.call_id,
            "CallStatus": status,
            "ConnectionId": self.provider.connection_id,
            "From": self.from_number,
            "To": self.to_number,
        }

    async def webhook(
        self, what: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A signed webhook; `headers` take the place of the signature."""
        return await self._send(
            what, "application/x-www-form-urlencoded", urlencode(form).encode(), headers
        )

    async def _send(
        self, what: str, content_type: str, body: bytes, headers: Mapping[str, str] | None
    ) -> HttpResponse:
        path, query = self.webhook_path(what)
        signed = self.sign(body) if headers is None else headers
        return await self._request(
            "POST", path, query, {"Content-Type": content_type, **signed}, body
        )

    async def _ring(self) -> None:
        answer = self._expect_answer(await self.webhook("answer", self._form("ringing")))
        stream = read_xml(answer).find("./Connect/Stream")
        if stream is None:
            raise CallRefused("expected <Connect><Stream>, found another answer", body=answer)
        self._expect_stream_url(stream.get("url", ""))
        if stream.get("bidirectionalMode") != "rtp":
            self.violate("expected bidirectionalMode rtp: raw audio is dropped otherwise")
        self._take_codecs(
            stream.get("bidirectionalCodec", "PCMU"),
            stream.get("codec", "PCMU"),
            int(stream.get("bidirectionalSamplingRate", "8000")),
        )
        for one in stream.findall("Parameter"):
            self.parameters[one.get("name", "")] = one.get("value", "")

    def _take_codecs(self, receive: str, send: str, sample_rate: int) -> None:
        order = self.provider.l16_byte_order
        self._set_codecs(
            get_codec(receive, sample_rate, order), get_codec(send, sample_rate, order)
        )

    async def send_status(self, status: str) -> HttpResponse:
        return await self.webhook("status", self._form(status))

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        return {}

    def _begin_stream(self) -> None:
        self._post('{"event":"connected","version":"1.0.0"}')
        codec = self._send_codec
        start = {
            "user_id": "3E6F995F-85F7-4705-9741-53B116D28237",
            "call_control_id": self.call_id,
            "call_session_id": self.session_id,
            "from": self.from_number,
            "to": self.to_number,
            "media_format": {
                "encoding": codec.name,
                "sample_rate": codec.sample_rate,
                "channels": 1,
            },
            **self._carried(),
        }
        self._post(self._event("start", start=start))

    def _carried(self) -> dict[str, Any]:
        """What the start of the stream carries of what the server has said."""
        return {"custom_parameters": self.parameters}

    def _event(self, event: str, **fields: Any) -> str:
        return json.dumps(
            {
                "event": event,
                "sequence_number": str(next(self._sequence)),
                "stream_id": self.stream_id,
                **fields,
            }
        )

    def _media_message(self, chunk: bytes) -> str:
        media = {
            "track": "inbound",
            "chunk": str(next(self._chunks)),
            "timestamp": f"{self._media_ms:.0f}",
            "payload": b64encode(chunk).decode(),
        }
        return self._event("media", media=media)

    def _post_media(self, message: str | bytes) -> None:
        # Media may come in any order, says the reference.
        self._reordered.append(message)
        if len(self._reordered) >= self._trouble.reordered_chunks:
            self._random.shuffle(self._reordered)
            for one in self._reordered:
                self._post(one)
            self._reordered.clear()

    def _key_message(self, button: str) -> str:
        return self._event("dtmf", dtmf={"digit": button})

    def _mark_message(self, name: str) -> str:
        return self._event("mark", mark={"name": name})

    def _last_messages(self) -> list[str]:
        return [self._event("stop", stop={"call_control_id": self.call_id})]

    def _refuse(self, rule: str, data: str | bytes, code: int = _MALFORMED) -> None:
        self.violate(f"{code}: {rule}", data)
        title = "malformed_frame" if code == _MALFORMED else "invalid_media"
        self._post(self._event("error", payload={"code": code, "title": title, "detail": rule}))

    def _receive(self, data: str | bytes) -> None:
        message = self._read_object(data)
        if message is None:
            return
        event = message.get("event")
        if not isinstance(event, str) or event not in _FIELDS:
            self._refuse("unknown event", data)
        elif not expect_fields(message, _FIELDS[event]):
            self._refuse(f"{event} with a field missing or too many", data)
        elif event == "clear":
            self._clear(returns_marks=True)
        elif not isinstance(message[event], dict):
            self._refuse(f"expected an object {event}", data)
        elif event == "mark":
            name = message["mark"].get("name")
            if isinstance(name, str):
                self._mark(name)
            else:
                self._refuse("mark without a name", data)
        else:
            self._receive_media(message["media"], data)

    def _receive_media(self, media: dict[str, Any], data: str | bytes) -> None:
        payload = self._decode_payload(media.get("payload"))
        if payload is None:
            self._refuse("media without a payload in base64", data, _INVALID_MEDIA)
            return
        codec = self._receive_codec
        per_sec = codec.sample_rate * 2 if codec.name == "L16" else 8000
        if not 0.02 <= len(payload) / per_sec <= 30.0:
            self._refuse("expected 20 ms to 30 s of audio", data, _INVALID_MEDIA)
            return
        self._play(payload)
