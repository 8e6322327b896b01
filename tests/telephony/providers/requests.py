"""Requests as providers make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from voicews.telephony import Request

PUBLIC_URL = "https://voice.example.com"

VECTORS: dict[str, list[dict[str, Any]]] = {
    provider: vectors
    for provider, vectors in json.loads(
        Path(__file__).with_name("signature_vectors.json").read_text(encoding="utf-8")
    ).items()
    if isinstance(vectors, list)
}


def vector(provider: str, name: str) -> dict[str, Any]:
    return next(v for v in VECTORS[provider] if v["name"] == name)


def public_url(url: str) -> str:
    """Where we are reached, if this is what was asked for."""
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"


def request(
    url: str,
    *,
    method: str = "POST",
    form: Mapping[str, str | Sequence[str]] | None = None,
    body: bytes | str | None = None,
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
) -> Request:
    parts = urlsplit(url)
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    content = body.encode() if isinstance(body, str) else body or b""
    if form is not None:
        content = urlencode(form, doseq=True).encode()
        content_type = "application/x-www-form-urlencoded"
    if content_type:
        sent["content-type"] = content_type
    return Request(method=method, path=parts.path, query=parts.query, headers=sent, body=content)
