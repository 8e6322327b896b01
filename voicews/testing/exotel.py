"""Exotel, simulated: developer.exotel.com/docs/agentstream."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from uuid import uuid4

from voicews.audio.codecs import get_codec
from voicews.telephony import Exotel
from voicews.testing.call import CallRefused, SimulatedCall, expect_fields
from voicews.testing.http import HttpResponse

MIN_CHUNK, MAX_CHUNK, CHUNK_STEP = 3200, 100_000, 320

_FIELDS: Final = {
    "media": ("event", "stream_sid", "media"),
    "mark": ("event", "stream_sid", "mark"),
    "clear": ("event", "stream_sid"),
}


class ExotelCall(SimulatedCall[Exotel]):
    """A call that meets a Voicebot applet at Exotel, whose URL answers with the stream's."""

    chunk_secs = 0.1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._credentials = f"{self.provider.username}:{self.provider.password}"

    def new_call_id(self) -> str:
        return uuid4().hex

    def new_stream_id(self) -> str:
        return uuid4().hex

    # --- webhooks -------------------------------------------------------------------------------

    def sign(self) -> dict[str, str]:
        """The credentials that are in the URL; nothing else proves who asks."""
        return {"Authorization": f"Basic {b64encode(self._credentials.encode()).decode()}"}

    async def webhook(
        self, what: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A webhook request: the answer is requested with GET, the status reported with POST."""
        path, query = self.webhook_path(what)
        signed = self.sign() if headers is None else dict(headers)
        encoded = urlencode(fields)
        if what == "answer":
            return await self._request(
                "GET", path, "&".join(filter(None, [query, encoded])), signed
            )
        signed["Content-Type"] = "application/x-www-form-urlencoded"
        return await self._request("POST", path, query, signed, encoded.encode())

    async def _ring(self) -> None:
        if self.placed is not None:
            self._use_stream_url(self._given_url("stream"))
            return
        fields = {
            "CallSid": self.call_id,
            "CallFrom": self.from_number,
            "CallTo": self.to_number,
            "Direction": "incoming",
        }
        answer = self._expect_answer(await self.webhook("answer", fields))
        try:
            url = json.loads(answer)["url"]
        except (ValueError, KeyError, TypeError):
            raise CallRefused("expected JSON with a url, found other", body=answer) from None
        self._use_stream_url(url)

    def _use_stream_url(self, url: str) -> None:
        self._expect_stream_url(url)
        parts = urlsplit(url)
        if len(parts.query) > 256:
            self.violate("expected a query of up to 256 characters")
        self._credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        query = dict(parse_qsl(parts.query))
        rate = int(query.pop("sample-rate", "8000"))
        if len(query) > 3:
            self.violate("expected up to 3 custom parameters")
        self.parameters = query
        codec = get_codec("L16", rate)
        self._set_codecs(codec, codec)

    async def send_status(self, status: str) -> HttpResponse:
        fields = {
            "CallSid": self.call_id,
            "Status": status,
            "EventType": "terminal",
            "DateUpdated": "2026-01-01 00:00:00",
        }
        return await self.webhook("status", fields)

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        return self.sign()

    def _begin_stream(self) -> None:
        self._post('{"event":"connected"}')
        rate = self._send_codec.sample_rate
        start = {
            "stream_sid": self.stream_id,
            "call_sid": self.call_id,
            "account_sid": self.provider.account_sid,
            "from": self.from_number,
            "to": self.to_number,
            "custom_parameters": self.parameters,
            "media_format": {
                "encoding": "audio/x-raw",
                "sample_rate": str(rate),
                "bit_rate": "16",
            },
        }
        self._post(self._event("start", start=start))

    def _event(self, event: str, **fields: Any) -> str:
        return json.dumps(
            {
                "event": event,
                "sequence_number": str(next(self._sequence)),
                "stream_sid": self.stream_id,
                **fields,
            }
        )

    def _media_message(self, chunk: bytes) -> str:
        media = {
            "chunk": str(next(self._chunks)),
            "timestamp": f"{self._media_ms:.0f}",
            "payload": b64encode(chunk).decode(),
        }
        return self._event("media", media=media)

    def _key_message(self, button: str) -> str:
        return self._event("dtmf", dtmf={"digit": button, "duration": "100"})

    def _mark_message(self, name: str) -> str:
        return self._event("mark", mark={"name": name})

    def _last_messages(self) -> list[str]:
        stop = {
            "call_sid": self.call_id,
            "account_sid": self.provider.account_sid,
            "reason": "callended",
        }
        return [self._event("stop", stop=stop)]

    def _receive(self, data: str | bytes) -> None:
        message = self._read_object(data)
        if message is None:
            return
        event = message.get("event")
        if not isinstance(event, str) or event not in _FIELDS:
            self.violate("unknown event", data)
        elif not expect_fields(message, _FIELDS[event]):
            self.violate(f"{event} with a field missing or too many", data)
        elif message["stream_sid"] != self.stream_id:
            self.violate("wrong stream_sid", data)
        elif event == "clear":
            self._clear(returns_marks=True)
        elif not isinstance(message[event], dict):
            self.violate(f"expected an object {event}", data)
        elif event == "mark":
            self._mark(str(message["mark"].get("name")))
        else:
            self._receive_media(message["media"], data)

    def _receive_media(self, media: dict[str, Any], data: str | bytes) -> None:
        payload = self._decode_payload(media.get("payload"))
        if payload is None:
            self.violate("media without a payload in base64", data)
            return
        size = len(payload)
        smallest = min(MIN_CHUNK, self.provider.chunk_bytes)
        if not smallest <= size <= MAX_CHUNK or size % CHUNK_STEP:
            self.violate(
                f"expected {smallest} to {MAX_CHUNK} bytes of audio, a multiple of {CHUNK_STEP}, "
                f"found {size}"
            )
        self._play(payload)
