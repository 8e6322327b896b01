"""The providers' APIs on a port of our own, as their documents describe them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request that was made."""

    method: str
    path: str
    body: dict[str, Any]
    authorization: str


class ProviderApi:
    """Remembers what it is asked. `statuses` are the next answers' statuses, before 200s."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.statuses: list[int] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, call_id: str) -> list[Asked]:
        """What was asked about one call."""
        return [one for one in self.asked if call_id in one.path]

    def wait_about(self, call_id: str, timeout_secs: float = 20.0) -> Asked:
        """The one thing that is asked about a call, as soon as it is."""
        deadline = time.monotonic() + timeout_secs
        while not self.about(call_id):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was asked about {call_id} within {timeout_secs} s")
            time.sleep(0.02)
        (asked,) = self.about(call_id)
        return asked

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                if "json" in self.headers.get("Content-Type", ""):
                    body = json.loads(raw)
                else:
                    body = {name: values[-1] for name, values in parse_qs(raw).items()}
                asked = Asked(self.command, self.path, body, self.headers.get("Authorization", ""))
                api.asked.append(asked)
                status = api.statuses.pop(0) if api.statuses else 200
                answer = json.dumps(_answer(asked, len(api.asked))).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = do_DELETE = _take  # noqa: N815

            def log_request(self, code: Any = "-", size: Any = "-") -> None:
                """Say nothing."""

        return Handler


def _answer(asked: Asked, number: int) -> dict[str, Any]:
    if asked.path.endswith("/Calls.json"):
        return {"sid": f"CAdialed{number}", "status": "queued"}
    if asked.path == "/v2/calls":
        return {"data": {"call_control_id": f"v3:dialed{number}"}}
    if asked.path == "/v1/calls":
        return {"uuid": f"dialed-{number}", "status": "started"}
    if asked.path.endswith("/connect.json"):
        return {"Call": {"Sid": f"exdialed{number}"}}
    if asked.path.endswith("/Call/"):
        return {"request_uuid": f"request-{number}", "message": "call fired"}
    return {"data": {"result": "ok"}}
