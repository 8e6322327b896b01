from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.telephony.providers.requests import PUBLIC_URL, request
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.serializers.telephony import TelephonySerializer
from voicews.telephony import (
    PROVIDERS,
    CallStatus,
    Request,
    Telnyx,
    Twilio,
    Vonage,
    create_provider,
)
from voicews.telephony.providers.base import plus_number
from voicews.telephony.providers.signatures import NonceMemory, same, with_and_without_port
from voicews.testing import TELNYX_PUBLIC_KEY, account_options

OPTIONS: dict[str, dict[str, str]] = {
    "twilio": {"ACCOUNT_SID": "AC1", "AUTH_TOKEN": "hush"},
    "telnyx": {"API_KEY": "hush", "PUBLIC_KEY": TELNYX_PUBLIC_KEY},
    "plivo": {"AUTH_ID": "MA1", "AUTH_TOKEN": "hush"},
    "exotel": {"USERNAME": "u", "PASSWORD": "hush"},
    "vonage": {"SIGNATURE_SECRET": "hush"},
    "genesys": {"API_KEY": "k", "CLIENT_SECRET": "aHVzaA=="},
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_provider_is_made_of_settings(name: str) -> None:
    provider = create_provider(name, f"{PUBLIC_URL}/", OPTIONS[name])
    assert provider.name == name
    assert provider.public_url == PUBLIC_URL
    first, second = provider.new_serializer(), provider.new_serializer()
    assert isinstance(first, TelephonySerializer)
    assert first is not second
    assert first.provider == name


@pytest.mark.parametrize("name", PROVIDERS)
def test_missing_and_unknown_options_are_named(name: str) -> None:
    for missing in OPTIONS[name]:
        rest = {key: value for key, value in OPTIONS[name].items() if key != missing}
        for without in (rest, {**rest, missing: ""}):
            with pytest.raises(ConfigurationError, match=f"missing options {missing.lower()} "):
                create_provider(name, PUBLIC_URL, without)
    for unknown in ("colour", "public_url", "clock", "_nonces"):
        with pytest.raises(ConfigurationError, match=f"unknown options {unknown}"):
            create_provider(name, PUBLIC_URL, {**OPTIONS[name], unknown: "x"})


def test_what_an_option_is() -> None:
    codec = PROVIDERS["telnyx"].options()[3]
    assert (codec.name, codec.type, codec.choices) == (
        "codec",
        str,
        ("PCMU", "PCMA", "G722", "L16"),
    )
    assert not codec.is_required
    for provider in PROVIDERS.values():
        options = provider.options()
        assert all(option.meaning for option in options)
        required = [option.name.upper() for option in options if option.is_required]
        assert required == list(OPTIONS[provider.name])


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_secret_is_shown(name: str) -> None:
    secrets = {option.name: "aHVzaA==" for option in PROVIDERS[name].options() if option.is_secret}
    if name == "vonage":
        secrets["private_key"] = account_options("vonage")["private_key"]
    api_key = {"api_key": "SK1"} if name == "twilio" else {}
    provider = create_provider(name, PUBLIC_URL, {**OPTIONS[name], **api_key, **secrets})
    assert not any(secret in repr(provider) for secret in secrets.values())


def test_numbers_may_be_text() -> None:
    genesys = {**OPTIONS["genesys"], "PACKET_SECS": "0.5"}
    assert create_provider("genesys", PUBLIC_URL, genesys).new_serializer().packet_bytes == 8000
    vonage = Vonage.from_options(PUBLIC_URL, {**OPTIONS["vonage"], "sample_rate": "8000"})
    assert vonage.sample_rate == 8000
    telnyx = Telnyx.from_options(PUBLIC_URL, {**OPTIONS["telnyx"], "connection_id": 77})
    assert telnyx.connection_id == "77"


@pytest.mark.parametrize(
    ("name", "option", "value", "problem"),
    [
        ("telnyx", "codec", "OPUS", "codec: expected one of PCMU, PCMA, G722, L16"),
        ("telnyx", "sample_rate", "wide", "sample_rate: expected a number"),
        ("telnyx", "sample_rate", 8000.5, "sample_rate: expected a number"),
        ("telnyx", "connection_id", None, "connection_id: expected a string or a number"),
        ("telnyx", "connection_id", True, "connection_id: expected a string or a number"),
        ("plivo", "auth_token", b"hush", "auth_token: expected a string or a number"),
        ("vonage", "sample_rate", 44100, "sample_rate: expected one of 8000, 16000, 24000"),
        ("exotel", "chunk_bytes", 100, "chunk_bytes: expected a multiple of 320"),
        ("twilio", "account_sid", "AC 1", "account_sid: expected letters, digits and a few signs"),
        ("plivo", "auth_id", "MA/1", "auth_id: expected letters, digits and a few signs"),
        ("exotel", "account_sid", "?", "account_sid: expected letters, digits and a few signs"),
        ("twilio", "auth_token", "a\0b", "auth_token: expected characters that can be shown"),
        ("genesys", "api_key", "\ud83d", "api_key: expected characters that can be shown"),
        # pytest can't show that number either.
        pytest.param(
            *("twilio", "auth_token", 10**5000, "auth_token: expected a shorter number"), id="long"
        ),
        pytest.param(
            *("genesys", "start_paused", 10**5000, "start_paused: expected true or"), id="no bool"
        ),
        ("telnyx", "public_key", "AAAA", "public_key: expected 32 bytes in base64"),
        ("vonage", "private_key", "AAAA", "private_key: expected an RSA key in PEM format"),
        *(
            (name, "api_url", "api.example.com", "api_url: expected a URL")
            for name in ("twilio", "telnyx", "plivo", "exotel", "vonage")
        ),
        ("genesys", "packet_secs", "nan", "packet_secs: expected 0.2 to 3"),
        ("genesys", "client_secret", "hush!", "client_secret: expected base64"),
        ("twilio", "api_key", "SK1", "api_key and api_secret: expected both or none"),
        ("twilio", "api_secret", "hush", "api_key and api_secret: expected both or none"),
    ],
)
def test_a_value_that_can_t_be_honoured_is_refused(
    name: str, option: str, value: object, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        create_provider(name, PUBLIC_URL, {**OPTIONS[name], option.upper(): value})
    assert str(error.value).startswith(f"{name}: {problem}")
    assert "hush" not in str(error.value)


def test_what_surrounds_a_secret_in_a_file_is_no_part_of_it() -> None:
    twilio = Twilio.from_options(PUBLIC_URL, {**OPTIONS["twilio"], "AUTH_TOKEN": " hush\r\n"})
    assert twilio.auth_token == "hush"


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected one of twilio, telnyx, plivo"):
        create_provider("acme", PUBLIC_URL, {})


@pytest.mark.parametrize(
    "url",
    ["", "voice.example.com", "wss://h", "https://", "https://h:x", "https://u@h", "https://h?a=1"],
)
def test_a_public_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="public_url"):
        create_provider("twilio", url, OPTIONS["twilio"])


@pytest.mark.program
def test_no_django() -> None:
    code = "import sys, voicews.telephony; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_request_as_it_came() -> None:
    sent = request("/x%20y?a=1&a=2&b=", form={"b": "3", "c": ["4", "5"]}, headers={"X-Y": " z "})
    assert sent.url(PUBLIC_URL) == f"{PUBLIC_URL}/x%20y?a=1&a=2&b="
    assert sent.header("x-y") == "z"
    assert sent.header("x-other") == ""
    assert sent.fields == {"a": "2", "b": "3", "c": "5"}
    assert "x-y" not in repr(sent)
    for body in (b"", b"[]", b"5", b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidMessage):
            _ = request("/x", body=body).json
    with pytest.raises(InvalidMessage, match="1000 fields"):
        _ = Request(method="GET", path="/", query="&".join(["a=1"] * 1001)).fields


def test_nothing_follows_a_final_status() -> None:
    open_statuses = {CallStatus.QUEUED, CallStatus.RINGING, CallStatus.IN_PROGRESS}
    assert {status for status in CallStatus if not status.is_final} == open_statuses


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("15551234567", "+15551234567"),
        ("+15551234567", "+15551234567"),
        ("anonymous", "anonymous"),
        ("sip:a@b", "sip:a@b"),
        ("911", "911"),
        ("", ""),
        ("²²²²²²²²²", "²²²²²²²²²"),
    ],
)
def test_plus_number(number: str, expected: str) -> None:
    assert plus_number(number) == expected


def test_same_takes_any_text() -> None:
    texts: list[Any] = ["", "a", "é", "\udc80", "a\0"]
    for left in texts:
        for right in texts:
            assert same(left, right) is (left == right)


@pytest.mark.parametrize(
    ("url", "variants"),
    [
        ("https://h/x", {"https://h/x", "https://h:443/x"}),
        ("https://h:443/x", {"https://h/x", "https://h:443/x"}),
        ("ws://h", {"ws://h", "ws://h:80"}),
        ("wss://h:8443/x", {"wss://h:8443/x"}),
        ("https://h:80/x", {"https://h:80/x"}),
        ("https://[::1]/x", {"https://[::1]/x", "https://[::1]:443/x"}),
        ("https://[::1]:9/x:443", {"https://[::1]:9/x:443"}),
    ],
)
def test_ports(url: str, variants: set[str]) -> None:
    assert set(with_and_without_port(url)) == variants


def test_a_nonce_is_good_for_once_and_forgotten_in_time() -> None:
    memory = NonceMemory(max_age_secs=10.0, max_nonces=2)
    memory.use("a", 0.0)
    with pytest.raises(NotAllowed, match="replayed"):
        memory.use("a", 10.0)
    memory.use("a", 10.1)
    memory.use("b", 10.2)
    memory.use("c", 10.3)
    assert len(memory._seen) == 2
    with pytest.raises(NotAllowed):
        memory.use("c", 10.4)
