"""Providers as a server meets them: signed webhooks, signed upgrades, messages, real sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3
from twilio.request_validator import RequestValidator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server_processes import Server

PUBLIC_URL = "https://voice.example.com"
OURS, THEIRS = "+15550001111", "+15552223333"
TIMEOUT_SECS = 10.0

_numbers = itertools.count(1)
TELNYX_KEY = ed25519.Ed25519PrivateKey.generate()
VONAGE_KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
VONAGE_SECRET = "vonage-signature-secret-0123456789abcdef"
GENESYS_SECRET = base64.b64encode(b"a secret of the integration").decode()


def environment(api_url: str) -> dict[str, str | None]:
    """What switches all providers on."""
    telnyx_public = TELNYX_KEY.public_key().public_bytes_raw()
    return {
        "DJANGO_SETTINGS_MODULE": "tests.telephony.settings",
        "VOICEWS_PUBLIC_URL": PUBLIC_URL,
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "twilio-secret",
        "TWILIO_API_URL": api_url,
        "TELNYX_API_KEY": "KEY1",
        "TELNYX_PUBLIC_KEY": base64.b64encode(telnyx_public).decode(),
        "TELNYX_CONNECTION_ID": "c1",
        "TELNYX_API_URL": api_url,
        "PLIVO_AUTH_ID": "MA1",
        "PLIVO_AUTH_TOKEN": "plivo-secret",
        "PLIVO_API_URL": api_url,
        "EXOTEL_USERNAME": "exo",
        "EXOTEL_PASSWORD": "exo-secret",
        "EXOTEL_ACCOUNT_SID": "EX1",
        "EXOTEL_API_KEY": "k",
        "EXOTEL_API_TOKEN": "t",
        "EXOTEL_API_URL": api_url,
        "VONAGE_SIGNATURE_SECRET": VONAGE_SECRET,
        "VONAGE_APPLICATION_ID": "app",
        "VONAGE_PRIVATE_KEY": VONAGE_KEY.decode(),
        "VONAGE_API_URL": api_url,
        "GENESYS_API_KEY": "genesys-key",
        "GENESYS_CLIENT_SECRET": GENESYS_SECRET,
    }


def ask(
    server: Server,
    target: str,
    *,
    method: str = "POST",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Status and text of the answer to a request."""
    request = urllib.request.Request(
        server.http_url + target,
        data=body if method == "POST" else None,
        headers=dict(headers or {}),
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Phone:
    """One call at one provider. `target` is the path of a webhook, with its query."""

    name: ClassVar[str]
    #: The bytes of 20 ms of the caller's audio, as PCM of 8 kHz or as mu-law.
    packet: ClassVar[bytes] = b"\xff" * 160

    def __init__(self, server: Server) -> None:
        self.server = server
        self.call_id = f"CA{next(_numbers):030d}"
        self.stream_id = f"MZ{next(_numbers):030d}"
        self.socket: ClientConnection
        self._open = ExitStack()
        self.heard = bytearray()
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None

    # --- webhooks -----------------------------------------------------------------------------

    def webhook(
        self, target: str, fields: Mapping[str, str], *, tamper: bool = False
    ) -> tuple[int, str]:
        body = urlencode(fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        headers |= self.sign(target, fields, body)
        if tamper:
            body += b"&More=1"
        return ask(self.server, target, body=body, headers=headers)

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        raise NotImplementedError

    def answer_fields(self) -> dict[str, str]:
        return {
            "CallSid": self.call_id,
            "AccountSid": "AC1",
            "From": THEIRS,
            "To": OURS,
            "CallStatus": "ringing",
            "Direction": "inbound",
        }

    def status_fields(self, status: str) -> dict[str, str]:
        return {**self.answer_fields(), "CallStatus": status}

    def ring(self, query: str = "") -> str:
        """Ask what to do with the call; the URL of the socket."""
        status, text = self.webhook(f"/voice/{self.name}/answer/{query}", self.answer_fields())
        assert status == 200, text
        return stream_url(text)

    def report(self, status: str) -> int:
        return self.webhook(f"/voice/{self.name}/status/", self.status_fields(status))[0]

    # --- the socket ---------------------------------------------------------------------------

    def upgrade_headers(self, path: str) -> dict[str, str]:
        return {}

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        opening = connect(
            self.server.ws_url + target,
            additional_headers=self.upgrade_headers(parts.path) if headers is None else headers,
            open_timeout=TIMEOUT_SECS,
            compression=None,
        )
        self.socket = self._open.enter_context(opening)

    def start_messages(self) -> list[Any]:
        raise NotImplementedError

    def start(self, **changes: Any) -> None:
        """The stream's first messages, with changes to what they say of the call."""
        *before, start = self.start_messages()
        start.get("start", start).update(changes)
        for message in [*before, start]:
            self.send(message)

    def send(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def media(self) -> Any:
        raise NotImplementedError

    def press(self, digit: str) -> None:
        raise NotImplementedError

    def stop_message(self) -> Any:
        return None

    def call(self, query: str = "") -> None:
        """From the ringing to the start of the stream."""
        self.open(self.ring(query))
        self.start()

    def hang_up(self) -> None:
        """The caller puts the phone down."""
        message = self.stop_message()
        if message is not None:
            self.send(message)
        self.socket.close(1000)

    def take(self, message: dict[str, Any]) -> bytes:
        """The audio in a message; marks are answered at once."""
        raise NotImplementedError

    def listen(self, secs: float) -> bytes:
        """What comes in so long, or until the close, while the caller says nothing."""
        heard = bytearray()
        ends_at = time.monotonic() + secs
        next_packet = time.monotonic()
        while (now := time.monotonic()) < ends_at:
            try:
                if now >= next_packet:
                    # What came before the close is still to be read after it.
                    with suppress(ConnectionClosed):
                        self.send(self.media())
                    next_packet += 0.02
                data = self.socket.recv(max(0.001, next_packet - time.monotonic()))
            except TimeoutError:
                continue
            except ConnectionClosed as closed:
                self.close_code = closed.rcvd.code if closed.rcvd else 1006
                break
            if isinstance(data, bytes):
                heard += data
            else:
                message = json.loads(data)
                self.messages.append(message)
                heard += self.take(message)
        self.heard += heard
        return bytes(heard)

    def wait_closed(self, secs: float = 4.0) -> int:
        """The close code that the server sends in that time."""
        ends_at = time.monotonic() + secs
        try:
            while True:
                self.socket.recv(max(0.0, ends_at - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    def events(self, name: str) -> list[dict[str, Any]]:
        return [m for m in self.messages if name in (m.get("event"), m.get("type"))]


class TwilioPhone(Phone):
    name = "twilio"

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        validator = RequestValidator("twilio-secret")
        signature = validator.compute_signature(PUBLIC_URL + target, fields)
        return {"X-Twilio-Signature": signature}

    def upgrade_headers(self, path: str) -> dict[str, str]:
        url = PUBLIC_URL.replace("https", "wss") + path
        signature = RequestValidator("twilio-secret").compute_signature(url, {})
        return {"x-twilio-signature": signature}

    def start_messages(self) -> list[Any]:
        return [
            {"event": "connected", "protocol": "Call", "version": "1.0.0"},
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": self.stream_id,
                "start": {
                    "streamSid": self.stream_id,
                    "accountSid": "AC1",
                    "callSid": self.call_id,
                    "tracks": ["inbound"],
                    "customParameters": {},
                    "mediaFormat": {
                        "encoding": "audio/x-mulaw",
                        "sampleRate": 8000,
                        "channels": 1,
                    },
                },
            },
        ]

    def media(self) -> Any:
        payload = base64.b64encode(self.packet).decode()
        media = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload}
        return {"event": "media", "streamSid": self.stream_id, "media": media}

    def press(self, digit: str) -> None:
        dtmf = {"track": "inbound_track", "digit": digit}
        self.send({"event": "dtmf", "streamSid": self.stream_id, "dtmf": dtmf})

    def stop_message(self) -> Any:
        stop = {"accountSid": "AC1", "callSid": self.call_id}
        return {"event": "stop", "streamSid": self.stream_id, "stop": stop}

    def take(self, message: dict[str, Any]) -> bytes:
        assert message["streamSid"] == self.stream_id
        if message["event"] == "mark":
            self.send(message)
        return base64.b64decode(message["media"]["payload"]) if "media" in message else b""


class TelnyxPhone(TwilioPhone):
    name = "telnyx"

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        signature = TELNYX_KEY.sign(timestamp.encode() + b"|" + body)
        return {
            "Telnyx-Timestamp": timestamp,
            "Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(),
        }

    def upgrade_headers(self, path: str) -> dict[str, str]:
        return {}

    def control(self, target: str, event_type: str, **payload: Any) -> tuple[int, str]:
        """A webhook of Call Control."""
        known = {"call_control_id": self.call_id, "from": THEIRS, "to": OURS}
        data = {"event_type": event_type, "id": str(uuid.uuid4()), "payload": known | payload}
        body = json.dumps({"data": {"record_type": "event", **data}}).encode()
        headers = {"Content-Type": "application/json", **self.sign(target, {}, body)}
        return ask(self.server, target, body=body, headers=headers)

    def start_messages(self) -> list[Any]:
        return [
            {"event": "connected", "version": "1.0.0"},
            {
                "event": "start",
                "sequence_number": "1",
                "stream_id": self.stream_id,
                "start": {
                    "user_id": "u",
                    "call_control_id": self.call_id,
                    "from": THEIRS,
                    "to": OURS,
                    "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
                },
            },
        ]

    def media(self) -> Any:
        self._chunk = getattr(self, "_chunk", 0) + 1
        payload = base64.b64encode(self.packet).decode()
        return {
            "event": "media",
            "stream_id": self.stream_id,
            "sequence_number": str(self._chunk + 1),
            "media": {
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(self._chunk * 20),
                "payload": payload,
            },
        }

    def press(self, digit: str) -> None:
        self.send({"event": "dtmf", "stream_id": self.stream_id, "dtmf": {"digit": digit}})

    def stop_message(self) -> Any:
        stop = {"user_id": "u", "call_control_id": self.call_id}
        return {"event": "stop", "stream_id": self.stream_id, "stop": stop}

    def take(self, message: dict[str, Any]) -> bytes:
        if message["event"] == "mark":
            self.send({**message, "stream_id": self.stream_id})
        return base64.b64decode(message["media"]["payload"]) if "media" in message else b""


class PlivoPhone(Phone):
    name = "plivo"

    def answer_fields(self) -> dict[str, str]:
        return {
            "CallUUID": self.call_id,
            "From": THEIRS.removeprefix("+"),
            "To": OURS.removeprefix("+"),
            "CallStatus": "ringing",
            "Direction": "inbound",
            "Event": "StartApp",
        }

    def status_fields(self, status: str) -> dict[str, str]:
        event = "Hangup" if status == "completed" else "Ring"
        return {**self.answer_fields(), "CallStatus": status, "Event": event}

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        nonce = f"{next(_numbers)}{time.time_ns()}"
        url = construct_post_url(PUBLIC_URL + target, dict(fields))
        signature = get_signature_v3("plivo-secret", url, nonce)
        return _plivo_headers(signature, nonce)

    def upgrade_headers(self, path: str) -> dict[str, str]:
        nonce = f"{next(_numbers)}{time.time_ns()}"
        url = construct_get_url(PUBLIC_URL.replace("https", "wss") + path, {})
        return _plivo_headers(get_signature_v3("plivo-secret", url, nonce), nonce)

    def start_messages(self) -> list[Any]:
        return [
            {
                "event": "start",
                "sequenceNumber": 0,
                "start": {
                    "callId": self.call_id,
                    "streamId": self.stream_id,
                    "accountId": "MA1",
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
                },
                "extra_headers": "{}",
            }
        ]

    def media(self) -> Any:
        payload = base64.b64encode(self.packet).decode()
        return {
            "event": "media",
            "streamId": self.stream_id,
            "media": {"track": "inbound", "timestamp": "1", "chunk": 1, "payload": payload},
        }

    def press(self, digit: str) -> None:
        dtmf = {"track": "inbound", "digit": digit, "timestamp": "1"}
        self.send({"event": "dtmf", "streamId": self.stream_id, "dtmf": dtmf})

    def take(self, message: dict[str, Any]) -> bytes:
        if message["event"] == "checkpoint":
            name = message["name"]
            self.send({"event": "playedStream", "streamId": self.stream_id, "name": name})
        return base64.b64decode(message["media"]["payload"]) if "media" in message else b""


class ExotelPhone(TwilioPhone):
    name = "exotel"
    packet = bytes(320)

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        credentials = base64.b64encode(b"exo:exo-secret").decode()
        return {"Authorization": f"Basic {credentials}"}

    def upgrade_headers(self, path: str) -> dict[str, str]:
        return self.sign(path, {}, b"")

    def answer_fields(self) -> dict[str, str]:
        return {"CallSid": self.call_id, "CallFrom": THEIRS, "CallTo": OURS, "Direction": "inbound"}

    def status_fields(self, status: str) -> dict[str, str]:
        return {**self.answer_fields(), "Status": status, "EventType": "terminal"}

    def start_messages(self) -> list[Any]:
        return [
            {"event": "connected"},
            {
                "event": "start",
                "sequence_number": 1,
                "stream_sid": self.stream_id,
                "start": {
                    "stream_sid": self.stream_id,
                    "call_sid": self.call_id,
                    "account_sid": "EX1",
                    "from": THEIRS,
                    "to": OURS,
                    "custom_parameters": {},
                    "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000"},
                },
            },
        ]

    def media(self) -> Any:
        payload = base64.b64encode(self.packet).decode()
        media = {"chunk": 1, "timestamp": "1", "payload": payload}
        return {"event": "media", "stream_sid": self.stream_id, "media": media}

    def press(self, digit: str) -> None:
        dtmf = {"duration": "100", "digit": digit}
        self.send({"event": "dtmf", "stream_sid": self.stream_id, "dtmf": dtmf})

    def stop_message(self) -> Any:
        stop = {"call_sid": self.call_id, "account_sid": "EX1", "reason": "callended"}
        return {"event": "stop", "stream_sid": self.stream_id, "stop": stop}

    def take(self, message: dict[str, Any]) -> bytes:
        if message["event"] == "mark":
            self.send(message)
        return base64.b64decode(message["media"]["payload"]) if "media" in message else b""


class VonagePhone(Phone):
    name = "vonage"
    packet = bytes(640)

    def answer_fields(self) -> dict[str, str]:
        return {
            "uuid": self.call_id,
            "conversation_uuid": f"CON-{self.call_id}",
            "from": THEIRS.removeprefix("+"),
            "to": OURS.removeprefix("+"),
        }

    def status_fields(self, status: str) -> dict[str, str]:
        return {**self.answer_fields(), "status": status, "direction": "inbound"}

    def webhook(
        self, target: str, fields: Mapping[str, str], *, tamper: bool = False
    ) -> tuple[int, str]:
        body = json.dumps(dict(fields)).encode()
        headers = {"Content-Type": "application/json", **self.sign(target, fields, body)}
        return ask(self.server, target, body=body + b" " * tamper, headers=headers)

    def sign(self, target: str, fields: Mapping[str, str], body: bytes) -> dict[str, str]:
        claims: dict[str, Any] = {"iat": int(time.time()), "jti": str(uuid.uuid4())}
        claims |= {"iss": "Vonage", "application_id": "app"}
        if body:
            claims["payload_hash"] = hashlib.sha256(body).hexdigest()
        return {"Authorization": f"Bearer {pyjwt.encode(claims, VONAGE_SECRET, 'HS256')}"}

    def upgrade_headers(self, path: str) -> dict[str, str]:
        return self.sign(path, {}, b"")

    def start_messages(self) -> list[Any]:
        return [
            {
                "event": "websocket:connected",
                "content-type": "audio/l16;rate=16000",
                "call_uuid": self.call_id,
            }
        ]

    def media(self) -> Any:
        return self.packet

    def press(self, digit: str) -> None:
        self.send({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    def take(self, message: dict[str, Any]) -> bytes:
        if message.get("action") == "notify":
            self.send({"event": "websocket:notify", "payload": message["payload"]})
        return b""


class GenesysPhone(Phone):
    name = "genesys"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.call_id = str(uuid.uuid4())
        self.stream_id = str(uuid.uuid4())
        self.is_probe = False
        self._seq = 0
        self._server_seq = 0

    def ring(self, query: str = "") -> str:
        return f"{PUBLIC_URL}/ws/voice/genesys/{query}"

    def upgrade_headers(self, path: str) -> dict[str, str]:
        headers = {
            "audiohook-organization-id": str(uuid.uuid4()),
            "audiohook-session-id": self.stream_id,
            "audiohook-correlation-id": str(uuid.uuid4()),
            "x-api-key": "genesys-key",
        }
        known = {"@request-target": path, "@authority": "voice.example.com", **headers}
        created = int(time.time())
        nonce = base64.b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        parameters = (
            "(" + " ".join(f'"{name}"' for name in known) + ")"
            f';keyid="genesys-key";nonce="{nonce}";alg="hmac-sha256"'
            f";created={created};expires={created + 10}"
        )
        lines = [f'"{name}": {value}' for name, value in known.items()]
        content = "\n".join([*lines, f'"@signature-params": {parameters}'])
        key = base64.b64decode(GENESYS_SECRET)
        digest = base64.b64encode(hmac.digest(key, content.encode(), "sha256")).decode()
        return {**headers, "signature-input": f"sig1={parameters}", "signature": f"sig1=:{digest}:"}

    def say(self, kind: str, **parameters: Any) -> None:
        self._seq += 1
        self.send(
            {
                "version": "2",
                "type": kind,
                "id": self.stream_id,
                "seq": self._seq,
                "serverseq": self._server_seq,
                "position": "PT0S",
                "parameters": parameters,
            }
        )

    def start(self, **changes: Any) -> None:
        nil = "00000000-0000-0000-0000-000000000000"
        media = [{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}]
        participant = {"id": nil if self.is_probe else str(uuid.uuid4())}
        participant |= {"ani": f"tel:{THEIRS}", "dnis": f"tel:{OURS}"}
        opening: dict[str, Any] = {
            "organizationId": str(uuid.uuid4()),
            "conversationId": nil if self.is_probe else self.call_id,
            "participant": participant,
            "media": media,
        }
        self.say("open", **opening | changes)

    def media(self) -> Any:
        return self.packet

    def press(self, digit: str) -> None:
        self.say("dtmf", digit=digit)

    def hang_up(self) -> None:
        self.say("close", reason="end")
        self.listen(1.0)
        self.socket.close(1000)

    def take(self, message: dict[str, Any]) -> bytes:
        self._server_seq = message["seq"]
        if message["type"] == "disconnect":
            self.say("close", reason="disconnect")
        return b""


PHONES: dict[str, type[Phone]] = {
    phone.name: phone
    for phone in (TwilioPhone, TelnyxPhone, PlivoPhone, ExotelPhone, VonagePhone, GenesysPhone)
}


def stream_url(text: str) -> str:
    """The socket's URL in an answer."""
    match = re.search(r"wss://[^\"<\s]+", text)
    assert match is not None, text
    return match[0].replace("&amp;", "&")


def _plivo_headers(signature: bytes | str, nonce: str) -> dict[str, str]:
    value = signature.decode() if isinstance(signature, bytes) else signature
    return {"X-Plivo-Signature-V3": value, "X-Plivo-Signature-V3-Nonce": nonce}
