from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.telephony.providers.requests import PUBLIC_URL, request
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.telephony import CallStatus, Dial, EventKind, Exotel, StreamTarget
from voicews.telephony.providers.base import NotSupported, Request

CALL = "b6a1c0ffee"
TARGET = StreamTarget(url="wss://voice.example.com/ws/exotel/", parameters={"token": "3f9c"})


def exotel(**options: Any) -> Exotel:
    fields: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "username": "exotel",
        "password": "p@ss:word",
        "account_sid": "acme1",
        "api_key": "key",
        "api_token": "hush",
    }
    return Exotel(**(fields | options))


def basic(credentials: bytes) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


def test_the_password_in_the_url_is_all_there_is() -> None:
    genuine = request("/x", method="GET", headers=basic(b"exotel:p@ss:word"))
    exotel().verify_webhook(genuine)
    exotel().verify_upgrade(genuine)
    assert not exotel().signs_webhooks
    assert not exotel().signs_upgrades


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(b""),
        basic(b"exotel:wrong"),
        basic(b"exotel"),
        basic(b"\xff:\xff"),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic é"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic"},
        {"Authorization": "x" * 100_000},
    ],
)
def test_other_credentials_are_refused(headers: dict[str, str]) -> None:
    hostile = request("/x", method="GET", headers=headers)
    with pytest.raises(NotAllowed, match="Basic credentials"):
        exotel().verify_webhook(hostile)
    with pytest.raises(NotAllowed, match="Basic credentials"):
        exotel().verify_upgrade(hostile)


def webhook(query: str) -> Request:
    return request(f"/x?CallSid={CALL}&{query}", method="GET")


def test_webhooks() -> None:
    incoming = exotel().parse_webhook(webhook("CallFrom=09876543210&CallTo=08047112233"))
    assert (incoming.from_number, incoming.to_number) == ("09876543210", "08047112233")
    assert (incoming.kind, incoming.wants_answer) == (EventKind.CALL, True)
    ended = exotel().parse_webhook(webhook("Status=no-answer&EventType=terminal&DateUpdated=x"))
    assert (ended.status, ended.wants_answer) == (CallStatus.NO_ANSWER, False)
    other = exotel().parse_webhook(webhook("EventType=weather"))
    assert other.kind is EventKind.OTHER
    with pytest.raises(InvalidMessage, match="CallSid"):
        exotel().parse_webhook(request("/x"))


@pytest.mark.parametrize(("rate", "query"), [(8000, {}), (16000, {"sample-rate": ["16000"]})])
def test_the_answer_is_the_url_with_credentials_and_parameters(
    rate: int, query: dict[str, list[str]]
) -> None:
    event = exotel().parse_webhook(webhook(""))
    answer = exotel(sample_rate=rate).answer(event, TARGET)
    assert answer.content_type == "application/json"
    url = urlsplit(json.loads(answer.body)["url"])
    assert (url.scheme, url.hostname, url.path) == ("wss", "voice.example.com", "/ws/exotel/")
    assert url.netloc == "exotel:p%40ss%3Aword@voice.example.com"
    assert parse_qs(url.query) == {"token": ["3f9c"]} | query


@pytest.mark.parametrize("parameters", [dict.fromkeys("abcd", "1"), {"token": "x" * 256}])
def test_more_parameters_than_exotel_takes_are_refused(parameters: dict[str, str]) -> None:
    target = StreamTarget(url="wss://voice.example.com/", parameters=parameters)
    with pytest.raises(ConfigurationError, match="up to 3, of 256 characters"):
        exotel().answer(exotel().parse_webhook(webhook("")), target)


def test_dial() -> None:
    call = Dial(
        to_number="0987", from_number="0804", stream=TARGET, status_url=f"{PUBLIC_URL}/status/"
    )
    dial = exotel(api_url="https://api.in.exotel.com").dial(call)
    assert dial.url == "https://api.in.exotel.com/v1/Accounts/acme1/Calls/connect.json"
    assert dial.headers == basic(b"key:hush")
    assert dial.form is not None
    form = dict(dial.form)
    assert form["StreamType"] == "bidirectional"
    assert form["StreamUrl"].endswith("@voice.example.com/ws/exotel/?token=3f9c")
    assert "hush" not in repr(dial)
    assert "word" not in repr(dial) + repr(exotel())
    with pytest.raises(ValueError, match="stream"):
        exotel().dial(Dial(to_number="1", from_number="2"))
    with pytest.raises(ConfigurationError, match="missing options account_sid .*, api_token "):
        exotel(account_sid="", api_token="").dial(call)
    far = StreamTarget(url=f"wss://voice.example.com/{'x' * 600}")
    with pytest.raises(ConfigurationError, match="600 characters"):
        exotel().dial(Dial(to_number="1", from_number="2", stream=far))


def test_what_exotel_does_not_have() -> None:
    for ask in (
        lambda: exotel().hang_up(CALL),
        lambda: exotel().transfer(CALL, "1"),
        lambda: exotel().send_dtmf(CALL, "1"),
        lambda: exotel().reject(exotel().parse_webhook(webhook(""))),
        lambda: exotel().transfer_document("1"),
    ):
        with pytest.raises(NotSupported, match="exotel"):
            ask()
