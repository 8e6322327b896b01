"""The providers' APIs, on this machine: they end calls, place calls, and record the requests."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

_Answer = tuple[int, Mapping[str, Any] | None]

#: Method, path, and what it asks for; an action that depends on the body has an empty name.
_ROUTES: Final = [
    ("POST", re.compile(r"/2010-04-01/Accounts/[^/]+/Calls\.json"), "twilio", "dial"),
    ("POST", re.compile(r"/2010-04-01/Accounts/[^/]+/Calls/([^/]+)\.json"), "twilio", ""),
    ("POST", re.compile(r"/v2/calls"), "telnyx", "dial"),
    ("POST", re.compile(r"/v2/calls/([^/]+)/actions/([a-z_]+)"), "telnyx", ""),
    ("POST", re.compile(r"/v1/Account/[^/]+/Call/"), "plivo", "dial"),
    ("DELETE", re.compile(r"/v1/Account/[^/]+/Call/([^/]+)/"), "plivo", "hang up"),
    ("POST", re.compile(r"/v1/Account/[^/]+/Call/([^/]+)/"), "plivo", "transfer"),
    ("POST", re.compile(r"/v1/Account/[^/]+/Call/([^/]+)/DTMF/"), "plivo", "send dtmf"),
    ("POST", re.compile(r"/v1/Accounts/[^/]+/Calls/connect\.json"), "exotel", "dial"),
    ("POST", re.compile(r"/v1/calls"), "vonage", "dial"),
    ("PUT", re.compile(r"/v1/calls/([^/]+)"), "vonage", ""),
    ("PUT", re.compile(r"/v1/calls/([^/]+)/dtmf"), "vonage", "send dtmf"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """A request that came; `at` in seconds on the monotonic clock, `call_id` of a new call too."""

    at: float
    provider: str
    action: str
    call_id: str
    status: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class ProviderApi:
    """All providers' APIs under one `url`; use as a context manager.

    A call that is attached is told of each request about it, and ended by one to hang up or to
    reject it; after that, and for ids that it doesn't know, the answer is the provider's own for a
    call that has ended already. `failures` are HTTP statuses to answer the next requests with, in
    place of doing what they ask.
    """

    def __init__(self, port: int = 0) -> None:
        #: Everything that was asked, in order.
        self.requests: list[ApiCall] = []
        self.failures: list[int] = []
        self._live: dict[str, tuple[asyncio.AbstractEventLoop, Callable[[ApiCall], None]]] = {}
        self._commands: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        api = self

        class Handler(_Handler):
            def answer(self, body: bytes) -> _Answer:
                return api._answer(self.command, self.path, dict(self.headers.items()), body)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        """Its base URL, for the `api_url` of a provider."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- calls ----------------------------------------------------------------------------------

    def attach(self, call_id: str, on_request: Callable[[ApiCall], None]) -> None:
        """A call goes on now; `on_request` is called on the running loop with what is asked."""
        with self._lock:
            self._live[call_id] = (asyncio.get_running_loop(), on_request)

    def detach(self, call_id: str) -> None:
        """The call has ended."""
        with self._lock:
            self._live.pop(call_id, None)

    def of(self, call_id: str, action: str) -> list[ApiCall]:
        """What was asked about a call: `dial`, `answer`, `reject`, `hang up`, `transfer`..."""
        with self._lock:
            return [r for r in self.requests if r.call_id == call_id and r.action == action]

    def hang_ups(self, call_id: str) -> list[ApiCall]:
        """The requests to end this call."""
        return self.of(call_id, "hang up")

    async def wait_for(
        self, call_id: str, action: str, *, count: int = 1, timeout_secs: float = 20.0
    ) -> Sequence[ApiCall]:
        """Wait for so many requests about a call. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_secs):
            while len(found := self.of(call_id, action)) < count:  # noqa: ASYNC110 - a thread's
                await asyncio.sleep(0.01)
        return found

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        fields = _read_fields(headers, body)
        found = _route(method, path)
        if found is None:
            return 404, {"message": "no such resource"}
        match, provider, action = found
        call_id = unquote(match[1]) if match.re.groups else ""
        if not action:
            action = _action(provider, match, fields)
        with self._lock:
            call_id = call_id or _new_id(provider)
            status, content = self._decide(provider, action, call_id)
            request = ApiCall(
                at=time.monotonic(),
                provider=provider,
                action=action,
                call_id=call_id,
                status=status,
                fields=fields,
                headers=headers,
            )
            self.requests.append(request)
            if status < 300:
                self._tell(request)
        return status, content

    def _decide(self, provider: str, action: str, call_id: str) -> _Answer:
        if self.failures:
            return self.failures.pop(0), {"message": "not now"}
        if action == "dial":
            return _dialed(provider, call_id)
        if call_id not in self._live:
            return _ended(provider)
        if provider in ("plivo", "vonage") and action == "hang up":
            return 204, None
        return 200, {"sid": call_id, "data": {"result": "ok"}}

    def _tell(self, request: ApiCall) -> None:
        """Tell the call what was asked, once: Telnyx ignores a command id that it has seen."""
        command = (request.call_id, str(request.fields.get("command_id", "")))
        if request.call_id not in self._live or (command[1] and command in self._commands):
            return
        self._commands.add(command)
        loop, on_request = self._live[request.call_id]
        if request.action in ("hang up", "reject"):
            del self._live[request.call_id]
        loop.call_soon_threadsafe(on_request, request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes) -> _Answer:
        raise NotImplementedError

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        status, content = self.answer(self.rfile.read(length))
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        return


def _route(method: str, path: str) -> tuple[re.Match[str], str, str] | None:
    for wanted, pattern, provider, action in _ROUTES:
        match = pattern.fullmatch(path)
        if match is not None and method == wanted:
            return match, provider, action
    return None


def _read_fields(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    kind = next((v for name, v in headers.items() if name.lower() == "content-type"), "")
    if kind.startswith("application/json") and body:
        found = json.loads(body)
        return found if isinstance(found, dict) else {}
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _action(provider: str, match: re.Match[str], fields: Mapping[str, Any]) -> str:
    if provider == "telnyx":
        return {"hangup": "hang up"}.get(match[2], match[2].replace("_", " "))
    if provider == "twilio":
        return "hang up" if fields.get("Status") == "completed" else "transfer"
    return "hang up" if fields.get("action") == "hangup" else str(fields.get("action"))


def _new_id(provider: str) -> str:
    return {"twilio": f"CA{uuid4().hex}", "telnyx": f"v3:{uuid4().hex}"}.get(provider, str(uuid4()))


def _dialed(provider: str, call_id: str) -> _Answer:
    answers: dict[str, _Answer] = {
        "twilio": (201, {"sid": call_id, "status": "queued"}),
        "telnyx": (200, {"data": {"call_control_id": call_id, "call_session_id": str(uuid4())}}),
        "plivo": (201, {"request_uuid": call_id, "message": "call fired"}),
        "exotel": (200, {"Call": {"Sid": call_id, "Status": "in-progress"}}),
        "vonage": (201, {"uuid": call_id, "status": "started"}),
    }
    return answers[provider]


def _ended(provider: str) -> _Answer:
    if provider == "twilio":
        return 404, {"code": 20404, "message": "The requested resource was not found"}
    if provider == "telnyx":
        return 422, {"errors": [{"code": "90018", "title": "Call has already ended"}]}
    return 404, {"error": "not found"}
