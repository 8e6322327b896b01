"""Plivo, simulated: plivo.com/docs/voice-agents/audio-streaming and the XML reference."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from voicews.audio.codecs import get_codec
from voicews.telephony import Plivo
from voicews.telephony.providers.base import bare_number
from voicews.testing.call import CallRefused, SimulatedCall, expect_fields
from voicews.testing.http import HttpResponse
from voicews.testing.twilio import read_xml

MAX_MESSAGE_BYTES: Final = 64 * 1024

_FIELDS: Final = {
    "playAudio": ("event", "media"),
    "checkpoint": ("event", "streamId", "name"),
    "clearAudio": ("event", "streamId"),
    "sendDTMF": ("event", "dtmf"),
}


class PlivoCall(SimulatedCall[Plivo]):
    """A call to a number at Plivo, answered with its XML."""

    max_buffered_secs = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._content_type = ("audio/x-mulaw", 8000)
        self._extra_headers = ""

    # --- webhooks -------------------------------------------------------------------------------

    def sign(self, url: str, form: Mapping[str, str] | None = None) -> dict[str, str]:
        """The V3 headers for a URL, whose query must need no decoding, and a form."""
        nonce = uuid4().hex
        base, _, query = url.partition("?")
        if query or form:
            base += f"?{'&'.join(sorted(query.split('&'))) if query else ''}"
        if form:
            base += "." if query else ""
            base += "".join(f"{name}{value}" for name, value in sorted(form.items()))
        content = f"{base}.{nonce}".encode()
        digest = hmac.digest(self.provider.auth_token.encode(), content, "sha256")
        return {
            "X-Plivo-Signature-V3": b64encode(digest).decode(),
            "X-Plivo-Signature-V3-Nonce": nonce,
        }

    def _form(self, status: str, event: str) -> dict[str, str]:
        return {
            "CallUUID": self.call_id,
            "CallStatus": status,
            "Direction": "inbound" if self.placed is None else "outbound",
            "Event": event,
            "From": bare_number(self.from_number),
            "To": bare_number(self.to_number),
        }

    async def webhook(
        self, what: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A signed webhook; `headers` take the place of the signature."""
        path, query = self.webhook_path(what)
        url = f"{self.provider.public_url}{path}{'?' if query else ''}{query}"
        signed = self.sign(url, form) if headers is None else headers
        sent = {"Content-Type": "application/x-www-form-urlencoded", **signed}
        return await self._request("POST", path, query, sent, urlencode(form).encode())

    async def _ring(self) -> None:
        form = self._form("ringing" if self.placed is None else "in-progress", "StartApp")
        answer = self._expect_answer(await self.webhook("answer", form))
        stream = read_xml(answer).find("./Stream")
        if stream is None:
            raise CallRefused("expected <Stream>, found another answer", body=answer)
        self._expect_stream_url((stream.text or "").strip())
        if stream.get("bidirectional") != "true" or stream.get("keepCallAlive") != "true":
            self.violate("expected bidirectional and keepCallAlive, or the call ends at once")
        encoding, _, rate = stream.get("contentType", "audio/x-l16;rate=8000").partition(";rate=")
        self._content_type = (encoding, int(rate))
        codec = get_codec(encoding, int(rate))
        self._set_codecs(codec, codec)
        self._extra_headers = stream.get("extraHeaders", "")
        for pair in self._extra_headers.split(",") if self._extra_headers else []:
            name, _, value = pair.partition("=")
            if not (name.isalnum() and value.isalnum()):
                self.violate("extraHeaders: expected letters and digits")
            self.parameters[name] = value

    async def send_status(self, status: str) -> HttpResponse:
        event = "Hangup" if status in ("completed", "busy", "failed", "no-answer") else "Ring"
        return await self.webhook("status", self._form(status, event))

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        return self.sign("http" + url.removeprefix("ws"))

    def _begin_stream(self) -> None:
        encoding, rate = self._content_type
        start = {
            "callId": self.call_id,
            "streamId": self.stream_id,
            "accountId": self.provider.auth_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": rate},
        }
        self._post(
            json.dumps(
                {
                    "event": "start",
                    "sequenceNumber": next(self._sequence),
                    "start": start,
                    "extra_headers": self._extra_headers,
                }
            )
        )

    def _event(self, event: str, **fields: Any) -> str:
        return json.dumps(
            {
                "event": event,
                "sequenceNumber": next(self._sequence),
                "streamId": self.stream_id,
                **fields,
            }
        )

    def _media_message(self, chunk: bytes) -> str:
        media = {
            "track": "inbound",
            "timestamp": f"{1_700_000_000_000 + self._media_ms:.0f}",
            "chunk": next(self._chunks),
            "payload": b64encode(chunk).decode(),
        }
        return self._event("media", media=media, extra_headers=self._extra_headers)

    def _key_message(self, button: str) -> str:
        dtmf = {"track": "inbound", "digit": button, "timestamp": f"{self._media_ms:.0f}"}
        return self._event("dtmf", dtmf=dtmf)

    def _mark_message(self, name: str) -> str:
        return self._event("playedStream", name=name)

    def _receive(self, data: str | bytes) -> None:
        message = self._read_object(data)
        if message is None:
            return
        if len(data) > MAX_MESSAGE_BYTES:
            self.violate(f"expected messages of up to {MAX_MESSAGE_BYTES} bytes", data)
        event = message.get("event")
        if not isinstance(event, str) or event not in _FIELDS:
            self.violate("unknown event", data)
        elif not expect_fields(message, _FIELDS[event]):
            self.violate(f"{event} with a field missing or too many", data)
        elif message.get("streamId", self.stream_id) != self.stream_id:
            self.violate("wrong streamId", data)
        elif event == "checkpoint":
            self._mark(str(message["name"]))
        elif event == "clearAudio":
            # Checkpoints that were not reached never come.
            self._clear(returns_marks=False)
            self._post(self._event("clearedAudio"))
        elif event == "sendDTMF":
            self.pressed_by_bot += str(message["dtmf"])
            self.note("bot presses", str(message["dtmf"]))
        else:
            self._receive_media(message["media"], data)

    def _receive_media(self, media: object, data: str | bytes) -> None:
        if not isinstance(media, dict):
            self.violate("expected an object media", data)
            return
        payload = self._decode_payload(media.get("payload"))
        if payload is None or not expect_fields(media, ["contentType", "sampleRate", "payload"]):
            self.violate("playAudio: expected contentType, sampleRate and payload", data)
        elif (media["contentType"], media["sampleRate"]) != self._content_type:
            self.violate("playAudio in another format than the stream's", data)
        else:
            self._play(payload)
