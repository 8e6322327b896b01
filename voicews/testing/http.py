"""One HTTP request, as a provider makes it."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECS = 20.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What was answered; the names of `headers` are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self) -> Any:
        """The body's JSON. Raises `ValueError` if it is none."""
        return json.loads(self.body)


async def http_request(
    method: str, url: str, headers: Mapping[str, str], body: bytes = b""
) -> HttpResponse:
    """Make a request, to the very URL that is given. Raises `OSError` if no server answers."""
    return await asyncio.to_thread(_request, method, url, headers, body)


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
    scheme, _, rest = url.partition("://")
    host, slash, target = rest.partition("/")
    parts = urlsplit(f"{scheme}://{host}")
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECS)
    try:
        connection.request(method, slash + target or "/", body or None, dict(headers))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return HttpResponse(response.status, response.read(), names)
    except http.client.HTTPException as error:
        raise OSError(f"no answer that is HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
