from __future__ import annotations

import pytest
from django.test import override_settings

from voicews.security.origins import any_origin_allowed, origin_allowed


@pytest.fixture(autouse=True)
def _project() -> object:
    with override_settings(
        ALLOWED_HOSTS=["example.com", ".example.org"], DEBUG=False, VOICEWS={}
    ) as one:
        yield one


def test_clients_that_are_no_browsers_have_no_origin() -> None:
    assert origin_allowed(None, "example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "http://example.com:8000",
        "https://EXAMPLE.com",
        "https://example.org",
        "https://voice.example.org",
    ],
)
def test_pages_of_allowed_hosts(origin: str) -> None:
    assert origin_allowed(origin, "example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://evil.com",
        "https://example.com.evil.com",
        "https://evilexample.org",
        "https://example.com@evil.com",
        "file://",
        "example.com",
        "https://[example.com",
        "https://example.com:port:",
    ],
)
def test_pages_of_other_hosts(origin: str) -> None:
    assert not origin_allowed(origin, "example.com")


def test_the_host_header_alone_proves_nothing() -> None:
    # A name of the attacker's that points to us: both headers carry it.
    assert not origin_allowed("https://evil.com", "evil.com")


@override_settings(ALLOWED_HOSTS=["*"])
def test_any_host_is_not_any_site() -> None:
    assert origin_allowed("https://example.net", "example.net")
    assert origin_allowed("http://example.net:8000", "example.net:8000")
    assert origin_allowed("http://[::1]:8000", "[::1]:8000")
    assert not origin_allowed("https://evil.com", "example.net")
    assert not origin_allowed("null", "")
    assert not origin_allowed("https://evil.com", "[evil.com")


@override_settings(ALLOWED_HOSTS=[], DEBUG=True)
def test_debug_allows_this_machine() -> None:
    assert origin_allowed("http://localhost:8000", "localhost:8000")
    assert origin_allowed("http://127.0.0.1:3000", "localhost:8000")
    assert origin_allowed("http://[::1]:8000", "localhost:8000")
    assert not origin_allowed("https://evil.com", "localhost:8000")


@override_settings(VOICEWS={"PUBLIC_URL": "https://voice.example.net:8443/base"})
def test_pages_of_the_public_url() -> None:
    assert origin_allowed("https://voice.example.net:8443", "internal:8000")
    assert origin_allowed("https://example.com", "internal:8000")
    assert not origin_allowed("https://example.net", "internal:8000")


@override_settings(
    VOICEWS={"ALLOWED_ORIGINS": ["https://app.example.net", "http://localhost:3000"]}
)
def test_a_list_of_origins_is_all_that_counts() -> None:
    assert origin_allowed("https://app.example.net", "example.com")
    assert origin_allowed("https://app.example.net:443", "example.com")
    assert origin_allowed("http://localhost:3000", "example.com")
    assert not origin_allowed("http://app.example.net", "example.com")
    assert not origin_allowed("http://localhost:3001", "example.com")
    assert not origin_allowed("https://example.com", "example.com")
    assert not any_origin_allowed()


@override_settings(VOICEWS={"ALLOWED_ORIGINS": ["*"]})
def test_a_star_is_everybody() -> None:
    assert origin_allowed("https://evil.com", "example.com")
    assert origin_allowed("null", "example.com")
    assert any_origin_allowed()


def test_a_transport_may_have_a_list_of_its_own() -> None:
    assert origin_allowed("https://a.example", "example.com", ["https://a.example"])
    assert not origin_allowed("https://example.com", "example.com", ["https://a.example"])
    assert not origin_allowed("https://example.com", "example.com", [])
