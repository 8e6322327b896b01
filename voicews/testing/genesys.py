"""Genesys Audio Connector, simulated: the AudioHook protocol from the client's side."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from base64 import b64decode, b64encode
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from voicews.audio.codecs import get_codec
from voicews.telephony import Genesys
from voicews.testing.call import SimulatedCall

MAX_BINARY_BYTES: Final = 64_000
MESSAGES_PER_SEC: Final = 5.0
BURST: Final = 25
#: What a connection's ids are when Genesys only tries whether a server is there.
NULL_UUID: Final = "00000000-0000-0000-0000-000000000000"

_TYPES: Final = frozenset(
    ["opened", "closed", "pong", "updated", "pause", "resume", "reconnect", "disconnect", "event"]
)


class _Budget:
    """So many messages a second, after a burst."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._since = float("-inf")

    def spend(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._since) * MESSAGES_PER_SEC)
        self._since = now
        self._left -= 1
        return self._left >= 0


class GenesysCall(SimulatedCall[Genesys]):
    """A call in a flow that has an Audio Connector: no webhook, the socket's URL is configured."""

    def __init__(self, *args: Any, is_probe: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_probe = is_probe
        if is_probe:
            self.call_id = NULL_UUID
        self.is_open = False
        #: What the server said when it ended the call: `completed`, `unauthorized` or `error`.
        self.disconnect_reason = ""
        self._server_seq = 0
        self._client_seq = 0
        self._texts = _Budget()
        self._binaries = _Budget()
        self._is_closing = False
        self._is_paused = False

    async def _ring(self) -> None:
        base = "ws" + self.provider.public_url.removeprefix("http")
        query = f"?bot={quote(self.bot, safe='')}" if self.bot else ""
        self.stream_url = f"{base}/ws/voice/genesys/{query}"

    # --- the handshake --------------------------------------------------------------------------

    def _upgrade_headers(self, url: str) -> dict[str, str]:
        _host, slash, target = url.partition("://")[2].partition("/")
        return self.sign(slash + target)

    def sign(self, target: str, *, created: int | None = None, nonce: str = "") -> dict[str, str]:
        """The signed headers of an upgrade at this path and query; `created` in Unix seconds."""
        key = self.provider.api_key
        headers = {
            "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
            "audiohook-session-id": self.stream_id,
            "audiohook-correlation-id": str(uuid4()),
            "x-api-key": key,
        }
        authority = self.provider.public_url.partition("://")[2].partition("/")[0]
        components = {"@request-target": target, "@authority": authority, **headers}
        names = " ".join(f'"{name}"' for name in components)
        seconds = int(time.time()) if created is None else created
        parameters = (
            f'({names});keyid="{key}";nonce="{nonce or secrets.token_urlsafe(24)}";'
            f'alg="hmac-sha256";created={seconds};expires={seconds + 10}'
        )
        lines = [f'"{name}": {value}' for name, value in components.items()]
        content = "\n".join([*lines, f'"@signature-params": {parameters}'])
        secret = b64decode(self.provider.client_secret)
        signature = b64encode(hmac.digest(secret, content.encode(), "sha256")).decode()
        return {
            **headers,
            "signature-input": f"sig1={parameters}",
            "signature": f"sig1=:{signature}:",
        }

    # --- the stream -----------------------------------------------------------------------------

    def _text(self, kind: str, parameters: dict[str, Any] | None = None) -> str:
        self._client_seq += 1
        return json.dumps(
            {
                "version": "2",
                "type": kind,
                "id": self.stream_id,
                "seq": self._client_seq,
                "serverseq": self._server_seq,
                "position": f"PT{self._media_ms / 1000:.3f}S",
                "parameters": parameters or {},
            }
        )

    def _begin_stream(self) -> None:
        formats = ("PCMU", "L16")
        media = [
            {"type": "audio", "format": one, "channels": ["external"], "rate": 8000}
            for one in formats
        ]
        participant = {
            "id": NULL_UUID if self.is_probe else str(uuid4()),
            "ani": self.from_number,
            "aniName": "Caller",
            "dnis": self.to_number,
        }
        self._post(
            self._text(
                "open",
                {
                    "organizationId": "d7934305-0972-4844-938e-9060eef73d05",
                    "conversationId": self.call_id,
                    "participant": participant,
                    "media": media,
                    "language": "en-US",
                },
            )
        )

    def _sends_media(self) -> bool:
        return self.is_open and not self._is_paused and not self._is_closing

    def _media_message(self, chunk: bytes) -> bytes:
        return chunk

    def _key_message(self, button: str) -> str:
        return self._text("dtmf", {"digit": button})

    def _mark_message(self, name: str) -> str:
        return self._text(name)

    def ping(self) -> None:
        """Ask whether the server is there; a `pong` is noted in the timeline."""
        self._post(self._text("ping", {"rtt": "PT0.010S"}))

    async def _end_stream(self) -> None:
        # The server answers, and Genesys closes then.
        assert self.websocket is not None
        if not self._is_closing:
            self._close("end")
            await self.wait_over()

    def _close(self, reason: str) -> None:
        self._is_closing = True
        self._post(self._text("close", {"reason": reason}))

    def _receive(self, data: str | bytes) -> None:
        budget = self._binaries if isinstance(data, bytes) else self._texts
        if not budget.spend(self._now()):
            kind = "binary" if isinstance(data, bytes) else "text"
            self.violate(f"429: expected {MESSAGES_PER_SEC} {kind} messages a second")
        if isinstance(data, bytes):
            self._receive_audio(data)
            return
        message = self._read_object(data)
        if message is None:
            return
        self._check_envelope(message, data)
        self._receive_message(str(message.get("type")), message.get("parameters"), data)

    def _receive_audio(self, data: bytes) -> None:
        if not self.is_open or self._is_closing:
            # Audio may have been on its way when the call ended.
            if not self._is_closing:
                self.violate("409: audio before opened", data)
        elif len(data) > MAX_BINARY_BYTES:
            self.violate(f"413: expected up to {MAX_BINARY_BYTES} bytes of audio", data)
        else:
            if self.heard.buffered_secs(self._now()) <= 0:
                self._post(self._text("playback_started"))
            self._play(data)
            for mark in self._marks:
                mark.timer.cancel()
            self._marks.clear()
            self._mark("playback_completed")

    def _check_envelope(self, message: dict[str, Any], data: str | bytes) -> None:
        wanted = {"version", "type", "id", "seq", "clientseq", "parameters"}
        if set(message) != wanted or message["version"] != "2" or message["id"] != self.stream_id:
            self.violate("400: expected version, type, id, seq, clientseq and parameters", data)
            return
        if message["seq"] != self._server_seq + 1:
            self.violate(f"400: expected seq {self._server_seq + 1}", data)
        if not 0 <= message["clientseq"] <= self._client_seq:
            self.violate(f"400: expected clientseq up to {self._client_seq}", data)
        self._server_seq = message["seq"]

    def _receive_message(self, kind: str, parameters: Any, data: str | bytes) -> None:
        if kind not in _TYPES or not isinstance(parameters, dict):
            self.violate("400: unknown message", data)
        elif kind == "opened":
            self._opened(parameters, data)
        elif not self.is_open:
            self.violate("409: expected opened first", data)
        elif kind == "event":
            entities = parameters.get("entities") or []
            if any(entity.get("type") == "barge_in" for entity in entities):
                self._clear(returns_marks=False)
        elif kind in ("pause", "resume"):
            self._is_paused = kind == "pause"
            self._post(self._text("paused" if self._is_paused else "resumed"))
        elif kind == "disconnect":
            self.disconnect_reason = str(parameters.get("reason"))
            self.note("server disconnects", self.disconnect_reason)
            if self.disconnect_reason not in ("completed", "unauthorized", "error"):
                self.violate("400: disconnect without a reason", data)
            self._close("disconnect")
        elif kind == "closed":
            if not self._is_closing:
                self.violate("409: closed without close", data)
            self._tasks.append(self._hang_up_socket())
        else:
            self.note(kind)

    def _opened(self, parameters: dict[str, Any], data: str | bytes) -> None:
        media = parameters.get("media")
        if not isinstance(media, list) or len(media) != 1 or media[0].get("rate") != 8000:
            self.violate("400: expected one of the offers in opened", data)
            return
        codec = get_codec(media[0]["format"], 8000)
        self._set_codecs(codec, codec)
        self.is_open = True
        self.note("opened", media[0]["format"])
        if self.is_probe:
            self._close("end")

    def _hang_up_socket(self) -> asyncio.Task[None]:
        assert self.websocket is not None
        return asyncio.get_running_loop().create_task(self.websocket.close())
