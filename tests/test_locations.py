from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import RequestFactory, override_settings
from django.urls import set_script_prefix

from voicews.locations import public_base, socket_scope, websocket_base
from voicews.telephony.registry import get_provider, webhook_url

URL = "/voice/connect/"


@pytest.fixture(autouse=True)
def _prefix() -> Iterator[None]:
    yield
    set_script_prefix("/")


@pytest.mark.parametrize(
    ("public_url", "prefix", "base"),
    [
        ("https://example.com", "", "https://example.com"),
        ("https://example.com", "/app", "https://example.com/app"),
        ("https://example.com/app", "/app", "https://example.com/app"),
        ("https://example.com/app/", "", "https://example.com/app"),
        ("https://example.com/outer/app", "/app", "https://example.com/outer/app"),
        ("https://example.com/outer", "/app", "https://example.com/outer/app"),
        ("https://example.com/myapp", "/app", "https://example.com/myapp/app"),
    ],
)
def test_the_path_is_in_the_public_url_once(public_url: str, prefix: str, base: str) -> None:
    assert public_base(public_url, prefix) == base


@pytest.mark.parametrize("public_path", ["", "/app"])
@pytest.mark.parametrize("what", ["answer", "status", "transfer"])
def test_webhooks_have_it_once(what: str, public_path: str) -> None:
    voicews = {
        "PUBLIC_URL": f"https://example.com{public_path}",
        "PROVIDERS": {"twilio": {"account_sid": "AC1", "auth_token": "secret"}},
    }
    with override_settings(VOICEWS=voicews):
        set_script_prefix("/app/")
        url = webhook_url(get_provider("twilio"), what)
        assert url == f"https://example.com/app/voice/twilio/{what}/"


@pytest.mark.parametrize(
    ("root_path", "script_name", "path"),
    [
        ("", None, "/ws/x/"),
        ("/app", None, "/app/ws/x/"),
        ("/app", None, "/ws/x/"),
        ("/app/", None, "/ws/x/"),
        ("", "/app", "/app/ws/x/"),
        ("", "/app", "/ws/x/"),
        ("/other", "/app", "/app/ws/x/"),
    ],
)
def test_sockets_are_found_below_it(root_path: str, script_name: str | None, path: str) -> None:
    with override_settings(FORCE_SCRIPT_NAME=script_name, VOICEWS={}):
        scope = socket_scope({"path": path, "root_path": root_path})
    prefix = "/app" if root_path or script_name else ""
    assert (scope["path"], scope["root_path"]) == (f"{prefix}/ws/x/", prefix)


@pytest.mark.parametrize(
    ("host", "origin", "fetch_site", "base"),
    [
        # A TLS proxy that says nothing, and one that drops the port.
        ("example.com", "https://example.com", "same-origin", "wss://example.com"),
        ("example.com", "https://example.com:8443", "same-origin", "wss://example.com:8443"),
        # One that has the server asked by another name.
        ("backend:8000", "https://example.com", "same-origin", "wss://example.com"),
        # Browsers that don't say.
        ("example.com", "https://example.com", None, "wss://example.com"),
        ("example.com", "https://example.com:8443", None, "wss://example.com:8443"),
        ("example.com", "http://example.com:8080", None, "ws://example.com:8080"),
        # Pages of other origins, whose port is their own.
        ("example.com:8000", "http://example.com:3000", "same-site", "ws://example.com:8000"),
        ("example.com:8000", "http://example.com:3000", None, "ws://example.com:8000"),
        ("api.example.com", "https://example.com", "same-site", "wss://api.example.com"),
        ("localhost:8000", "https://example.com", "cross-site", "ws://localhost:8000"),
        # No pages at all, and what is no origin.
        ("example.com", None, None, "ws://example.com"),
        ("example.com", "null", "same-origin", "ws://example.com"),
        ("example.com", "https://example.com:x", None, "ws://example.com"),
        ("example.com", "https://a@example.com", "same-origin", "ws://example.com"),
    ],
)
def test_the_origin_of_a_page_tells_what_a_proxy_does_not(
    host: str, origin: str | None, fetch_site: str | None, base: str, rf: RequestFactory
) -> None:
    headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": fetch_site}
    given = {name: value for name, value in headers.items() if value is not None}
    with override_settings(ALLOWED_HOSTS=["*"], VOICEWS={}):
        assert websocket_base(rf.post(URL, headers=given)) == base
        if origin is None or origin.startswith("https"):
            secure = websocket_base(rf.post(URL, headers=given, secure=True))
            assert secure.startswith("wss://")
