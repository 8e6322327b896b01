from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from django.http import QueryDict
from twilio.request_validator import RequestValidator

from tests.telephony.providers.requests import PUBLIC_URL, VECTORS, public_url, request, vector
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.telephony import CallStatus, Dial, EventKind, StreamTarget, Twilio
from voicews.telephony.providers.base import NotSupported, Request

SID = "AC" + "0" * 32
CALL = "CA" + "1" * 32


def twilio(**options: Any) -> Twilio:
    fields = {"public_url": PUBLIC_URL, "account_sid": SID, "auth_token": "12345"}
    return Twilio(**(fields | options))


def signed(vector: dict[str, Any]) -> Request:
    headers = {"X-Twilio-Signature": vector["signature"]}
    if vector["algorithm"] == "HMAC_SHA256":
        headers["X-Twilio-Webhooks-Signature-Settings"] = (
            "key=webhooks_sharedkey_x,algorithm=HMAC_SHA256"
        )
    is_json = vector.get("body") is not None
    return request(
        vector["url"],
        form=vector["params"],
        body=vector.get("body"),
        content_type="application/json" if is_json else "",
        headers=headers,
    )


WEBHOOKS = [v for v in VECTORS["twilio"] if not v["url"].startswith("wss")]


@pytest.mark.parametrize("vector", WEBHOOKS, ids=[v["name"] for v in WEBHOOKS])
def test_webhook_vectors(vector: dict[str, Any]) -> None:
    provider = twilio(public_url=public_url(vector["url"]), shared_key="12345")
    genuine = signed(vector)
    provider.verify_webhook(genuine)
    for name in ("X-Twilio-Signature", "x-twilio-signature"):
        tampered = Request(
            method="POST",
            path=genuine.path + "x",
            query=genuine.query,
            headers={**genuine.headers, name.lower(): vector["signature"]},
            body=genuine.body,
        )
        with pytest.raises(NotAllowed, match="is wrong"):
            provider.verify_webhook(tampered)
    with pytest.raises(NotAllowed, match="is wrong"):
        twilio(public_url=public_url(vector["url"]), auth_token="6").verify_webhook(genuine)


def test_the_default_port_may_be_in_either_url() -> None:
    case = vector("twilio", "post_form_voice_webhook")
    twilio(public_url="https://voice.example.com:443").verify_webhook(signed(case))
    case = vector("twilio", "post_form_port_443_signed_with_port")
    twilio().verify_webhook(signed(case))
    with pytest.raises(NotAllowed):
        twilio(public_url="https://voice.example.com:8443").verify_webhook(signed(case))
    with pytest.raises(NotAllowed):
        twilio(public_url="http://voice.example.com").verify_webhook(signed(case))


def test_sha256_only_with_a_key_of_ours() -> None:
    case = vector("twilio", "post_form_sharedkey_sha256")
    with pytest.raises(NotAllowed):
        twilio().verify_webhook(signed(case))


def test_a_json_body_must_be_the_one_that_was_signed() -> None:
    genuine = signed(vector("twilio", "post_json_bodySHA256"))
    with pytest.raises(NotAllowed, match="bodySHA256 isn't that of the body"):
        twilio().verify_webhook(
            Request(
                method="POST",
                path=genuine.path,
                query=genuine.query,
                headers=genuine.headers,
                body=genuine.body + b" ",
            )
        )
    with pytest.raises(NotAllowed, match="bodySHA256 is missing"):
        twilio().verify_webhook(
            Request(method="POST", path="/cb", headers=genuine.headers, body=b"{}")
        )


@pytest.mark.parametrize("path", ["/ws/twilio", "/ws/twilio/"])
def test_the_upgrade_with_and_without_a_slash(path: str) -> None:
    case = vector("twilio", "ws_handshake_no_slash")
    upgrade = request(path, method="GET", headers={"x-twilio-signature": case["signature"]})
    twilio().verify_upgrade(upgrade)
    with pytest.raises(NotAllowed, match="is wrong"):
        twilio(auth_token="6").verify_upgrade(upgrade)


def test_the_upgrade_that_is_signed_with_its_port() -> None:
    case = vector("twilio", "ws_signed_with_port_443_REJECTED_BY_SDK")
    headers = {"x-twilio-signature": case["signature"]}
    twilio().verify_upgrade(request("/ws/", method="GET", headers=headers))


def test_an_upgrade_with_a_query_is_refused() -> None:
    case = vector("twilio", "ws_handshake_no_slash")
    headers = {"x-twilio-signature": case["signature"]}
    with pytest.raises(NotAllowed, match="query"):
        twilio().verify_upgrade(request("/ws/twilio?bot=x", method="GET", headers=headers))


@pytest.mark.parametrize(
    "params", [{}, {"a": "1"}, {"b": ["2", "1", "2"], "a": "ä &=+"}, {"empty": ""}]
)
@pytest.mark.parametrize("path", ["/cb", "/cb?x=1&y=%C3%A4", "/c%20b/?q="])
def test_the_official_sdk_signs_as_we_check(params: dict[str, Any], path: str) -> None:
    url = PUBLIC_URL + path
    received = QueryDict(urlencode(params, doseq=True))
    signature = RequestValidator("12345").compute_signature(url, received)
    twilio().verify_webhook(request(url, form=params, headers={"X-Twilio-Signature": signature}))


@pytest.mark.parametrize("signature", ["", "x", "é", "\udc80", "A" * 100_000, "\0"])
def test_hostile_signatures_are_refused(signature: str) -> None:
    hostile = request("/cb", form={"a": "1"}, headers={"x-twilio-signature": signature})
    with pytest.raises(NotAllowed):
        twilio().verify_webhook(hostile)
    with pytest.raises(NotAllowed):
        twilio().verify_upgrade(hostile)


@pytest.mark.parametrize("path", ["", "/\udc80", "//[", "/%", "/\n\t", "@x"])
def test_hostile_paths_are_refused(path: str) -> None:
    hostile = Request(method="GET", path=path, headers={"x-twilio-signature": "x"})
    with pytest.raises(NotAllowed):
        twilio().verify_webhook(hostile)
    with pytest.raises(NotAllowed):
        twilio().verify_upgrade(hostile)


def test_forms_that_cannot_be_read_are_invalid() -> None:
    form_type = "application/x-www-form-urlencoded"
    for body in (b"\xff", b"&".join([b"a=1"] * 1001)):
        hostile = request(
            "/cb", body=body, content_type=form_type, headers={"x-twilio-signature": "x"}
        )
        with pytest.raises(InvalidMessage):
            twilio().verify_webhook(hostile)


def webhook(**fields: str) -> Request:
    return request("/cb?bot=echo", form={"CallSid": CALL, **fields})


def test_an_inbound_call_wants_an_answer() -> None:
    event = twilio().parse_webhook(
        webhook(From="+15551234567", To="+15557654321", CallStatus="ringing", Direction="inbound")
    )
    assert (event.kind, event.call_id, event.status) == (EventKind.CALL, CALL, CallStatus.RINGING)
    assert (event.from_number, event.to_number) == ("+15551234567", "+15557654321")
    assert event.direction == "inbound"
    assert event.wants_answer
    assert event.fields["bot"] == "echo"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("queued", CallStatus.QUEUED),
        ("initiated", CallStatus.QUEUED),
        ("ringing", CallStatus.RINGING),
        ("in-progress", CallStatus.IN_PROGRESS),
        ("completed", CallStatus.COMPLETED),
        ("busy", CallStatus.BUSY),
        ("failed", CallStatus.FAILED),
        ("no-answer", CallStatus.NO_ANSWER),
        ("canceled", CallStatus.CANCELED),
    ],
)
def test_statuses(text: str, status: CallStatus) -> None:
    event = twilio().parse_webhook(webhook(CallStatus=text, Direction="outbound-api"))
    assert event.status is status
    assert event.direction == "outbound"
    assert event.wants_answer is not status.is_final


def test_events_of_the_stream() -> None:
    event = twilio().parse_webhook(
        webhook(StreamSid="MZ1", StreamEvent="stream-error", StreamError="31920")
    )
    assert (event.kind, event.stream_id, event.error) == (EventKind.STREAM, "MZ1", "31920")
    assert event.status is None
    assert not event.wants_answer


def test_a_webhook_without_a_call_is_invalid() -> None:
    with pytest.raises(InvalidMessage, match="CallSid"):
        twilio().parse_webhook(request("/cb", form={"a": "1"}))


def test_the_answer_is_twiml_with_parameters_beside_the_url() -> None:
    event = twilio().parse_webhook(webhook(CallStatus="ringing"))
    target = StreamTarget(
        url="wss://voice.example.com/ws/twilio/",
        parameters={"token": "3f9c", "from": "<\"&'+1ä", "empty": ""},
        status_url="https://voice.example.com/status/",
    )
    answer = twilio().answer(event, target)
    assert answer.content_type.startswith("text/xml")
    assert answer.request is None
    root = ET.fromstring(answer.body)
    assert [child.tag for child in root] == ["Connect"]
    stream = root.find("Connect/Stream")
    assert stream is not None
    assert stream.attrib == {
        "url": "wss://voice.example.com/ws/twilio/",
        "statusCallback": "https://voice.example.com/status/",
        "statusCallbackMethod": "POST",
    }
    assert {p.attrib["name"]: p.attrib["value"] for p in stream} == dict(target.parameters)
    assert "3f9c" not in repr(answer)


def test_what_twilio_would_not_take_is_refused() -> None:
    event = twilio().parse_webhook(webhook(CallStatus="ringing"))
    for parameters in ({"token": "x" * 500}, {"token": "\0"}, {"token": "\ud800"}):
        target = StreamTarget(url="wss://voice.example.com/ws/", parameters=parameters)
        with pytest.raises(ConfigurationError):
            twilio().answer(event, target)
    for url in ("wss://h/?token=x", "https://h/", "wss:///x", "wss://h/#x"):
        with pytest.raises(ConfigurationError):
            StreamTarget(url=url)


def test_a_call_is_turned_away_as_busy() -> None:
    event = twilio().parse_webhook(webhook(CallStatus="ringing"))
    root = ET.fromstring(twilio().reject(event).body)
    assert [(child.tag, child.attrib) for child in root] == [("Reject", {"reason": "busy"})]


def test_requests() -> None:
    provider = twilio(api_url="https://api.dublin.ie1.twilio.com/")
    account = f"https://api.dublin.ie1.twilio.com/2010-04-01/Accounts/{SID}"
    basic = base64.b64encode(f"{SID}:12345".encode()).decode()
    hang_up = provider.hang_up(CALL)
    assert (hang_up.method, hang_up.url) == ("POST", f"{account}/Calls/{CALL}.json")
    assert hang_up.form == [("Status", "completed")]
    assert hang_up.headers == {"Authorization": f"Basic {basic}"}
    assert hang_up.is_idempotent
    assert hang_up.ended[404] == "20404"
    assert basic not in repr(hang_up)

    dial = provider.dial(
        Dial(
            to_number="+1555",
            from_number="+1666",
            answer_url=f"{PUBLIC_URL}/answer/?bot=echo",
            status_url=f"{PUBLIC_URL}/status/",
            detect_machine=True,
        )
    )
    assert dial.url == f"{account}/Calls.json"
    assert dial.form is not None
    assert ("Url", f"{PUBLIC_URL}/answer/?bot=echo") in dial.form
    assert [v for n, v in dial.form if n == "StatusCallbackEvent"] == [
        "initiated",
        "ringing",
        "answered",
        "completed",
    ]
    assert ("MachineDetection", "Enable") in dial.form
    assert not dial.is_idempotent

    transfer = provider.transfer(CALL, "+1777")
    assert transfer.form is not None
    twiml = dict(transfer.form)["Twiml"]
    assert ET.fromstring(twiml).findtext("Dial") == "+1777"


def test_an_api_key_in_place_of_the_auth_token() -> None:
    request = twilio(api_key="SK1", api_secret="shh").hang_up(CALL)
    assert request.headers == {"Authorization": f"Basic {base64.b64encode(b'SK1:shh').decode()}"}


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="answer_url"):
        twilio().dial(Dial(to_number="+1", from_number="+2"))
    with pytest.raises(NotSupported, match="tones"):
        twilio().send_dtmf(CALL, "1")
    for call_id in ("", "../x", "a/b", "a?b", "..", "x" * 300, "ä"):
        with pytest.raises(ValueError, match="id: expected"):
            twilio().hang_up(call_id)


def test_sha256_of_a_shared_key_is_what_we_compute() -> None:
    url = f"{PUBLIC_URL}/cb"
    digest = hmac.new(b"shared", f"{url}a1".encode(), hashlib.sha256).digest()
    headers = {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "X-Twilio-Webhooks-Signature-Settings": "key=k, algorithm=HMAC_SHA256",
    }
    twilio(shared_key="shared").verify_webhook(request(url, form={"a": "1"}, headers=headers))
