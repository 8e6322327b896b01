"""Twilio, simulated: twilio.com/docs/voice/media-streams and /docs/usage/webhooks-security."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4
from xml.etree import ElementTree as ET

from voicews.telephony import Twilio
from voicews.testing.call import CallRefused, SimulatedCall, expect_fields
from voicews.testing.http import HttpResponse

#: What each event must have, and nothing else (31951).
_FIELDS: Final = {
    "media": ("event", "streamSid", "media"),
    "mark": ("event", "streamSid", "mark"),
    "clear": ("event", "streamSid"),
}


def read_xml(text: str) -> ET.Element:
    """An answer in XML; raises `CallRefused` if it isn't any."""
    try:
        return ET.fromstring(text)  # noqa: S314 - from the server that the test runs
    except ET.ParseError as error:
        raise CallRefused(f"the answer isn't XML: {error}", body=text) from None


class TwilioCall(SimulatedCall[Twilio]):
    """A call to a number at Twilio, answered with TwiML."""

    def new_call_id(self) -> str:
        return f"CA{uuid4().hex}"

    def new_stream_id(self) -> str:
        return f"MZ{uuid4().hex}"

    # --- webhooks -------------------------------------------------------------------------------

    def sign(self, url: str, form: Mapping[str, str] | None = None) -> str:
        """X-Twilio-Signature for this URL and form."""
        content = url + "".join(f"{name}{value}" for name, value in sorted((form or {}).items()))
        digest = hmac.digest(self.provider.auth_token.encode(), content.encode(), "sha1")
        return b64encode(digest).decode()

    def _form(self, status: str) -> dict[str, str]:
        return {
            "AccountSid": self.provider.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.call_id,
            "CallStatus": status,
            "Direction": "inbound" if self.placed is None else "outbound-api",
            "From": self.from_number,
            "To": self.to_number,
        }

    @property
    def _ring_status(self) -> str:
        """A call that was placed has been answered when the server is asked what to do."""
        return "ringing" if self.placed is None else "in-progress"

    async def webhook(
        self, what: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A signed webhook; `headers` take the place of the signature."""
        path, query = self.webhook_path(what)
        url = f"{self.provider.public_url}{path}{'?' if query else ''}{query}"
        signed = {"X-Twilio-Signature": self.sign(url, form)} if headers is None else headers
        sent = {"Content-Type": "application/x-www-form-urlencoded", **signed}
        return await self._request("POST", path, query, sent, urlencode(form).encode())

    async def _ring(self) -> None:
        answer = self._expect_answer(await self.webhook("answer", self._form(self._ring_status)))
        root = read_xml(answer)
        stream = root.find("./Connect/Stream")
        if root.tag != "Response" or stream is None:
            raise CallRefused("expected <Connect><Stream>, found another answer", body=answer)
        self._expect_stream_url(stream.get("url", ""))
        if "?" in self.stream_url:
            self.violate("31920: expected a stream URL without a query")
        for one in stream.findall("Parameter"):
            name, value = one.get("name", ""), one.get("value", "")
            if len(name) + len(value) >= 500:
                self.violate(f"<Parameter> {name}: expected less than 500 characters")
            self.parameters[name] = value

    async def send_status(self, status: str) -> HttpResponse:
        return await self.webhook("status", self._form(status))

    # --- the stream -----------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        return {"x-twilio-signature": self.sign(url)}

    def _begin_stream(self) -> None:
        self._post('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        start = {
            "accountSid": self.provider.account_sid,
            "streamSid": self.stream_id,
            "callSid": self.call_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
        }
        self._post(self._event("start", start=start))

    def _event(self, event: str, **fields: Any) -> str:
        return json.dumps(
            {
                "event": event,
                "sequenceNumber": str(next(self._sequence)),
                "streamSid": self.stream_id,
                **fields,
            }
        )

    def _media_message(self, chunk: bytes) -> str:
        return (
            f'{{"event":"media","sequenceNumber":"{next(self._sequence)}",'
            f'"streamSid":"{self.stream_id}","media":{{"track":"inbound",'
            f'"chunk":"{next(self._chunks)}","timestamp":"{self._media_ms:.0f}",'
            f'"payload":"{b64encode(chunk).decode()}"}}}}'
        )

    def _key_message(self, button: str) -> str:
        return self._event("dtmf", dtmf={"track": "inbound_track", "digit": button})

    def _mark_message(self, name: str) -> str:
        return self._event("mark", mark={"name": name})

    def _last_messages(self) -> list[str]:
        stop = {"accountSid": self.provider.account_sid, "callSid": self.call_id}
        return [self._event("stop", stop=stop)]

    def _receive(self, data: str | bytes) -> None:
        message = self._read_object(data)
        if message is None:
            return
        event = message.get("event")
        if not isinstance(event, str) or event not in _FIELDS:
            self.violate("31951: unknown event", data)
        elif not expect_fields(message, _FIELDS[event]):
            self.violate(f"31951: {event} with a field missing or too many", data)
        elif message["streamSid"] != self.stream_id:
            self.violate("31951: wrong streamSid", data)
        elif event == "clear":
            # All marks come back, though the audio before them was not played.
            self._clear(returns_marks=True)
        else:
            self._receive_object(event, message[event], data)

    def _receive_object(self, event: str, value: Any, data: str | bytes) -> None:
        if not isinstance(value, dict):
            self.violate(f"31951: expected an object {event}", data)
        elif event == "mark":
            if not expect_fields(value, ["name"]) or not isinstance(value["name"], str):
                self.violate("31951: mark without a name", data)
            else:
                self._mark(value["name"])
        else:
            payload = self._decode_payload(value.get("payload"))
            if payload is None or not expect_fields(value, ["payload"]):
                self.violate("31951: media without a payload in base64", data)
            else:
                self._play(payload)
