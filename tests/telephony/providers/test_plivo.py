from __future__ import annotations

import base64
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from plivo.utils import validate_v3_signature
from plivo.utils.signature_v3 import construct_get_url, construct_post_url, get_signature_v3

from tests.telephony.providers.requests import PUBLIC_URL, VECTORS, public_url, request, vector
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.telephony import CallStatus, Dial, EventKind, Plivo, StreamTarget
from voicews.telephony.providers.base import Request

CALL = "c0ffee00-0000-4000-8000-000000000001"
TOKEN = "OGZkZjE4ZjNjMmQ3NGU0MTg5ZTk3"


def plivo(**options: Any) -> Plivo:
    fields = {"public_url": PUBLIC_URL, "auth_id": "MA1", "auth_token": TOKEN}
    return Plivo(**(fields | options))


SIGNED = [v for v in VECTORS["plivo"] if v.get("version") == "V3"]


@pytest.mark.parametrize("case", SIGNED, ids=[v["name"] for v in SIGNED])
def test_v3_vectors(case: dict[str, Any]) -> None:
    provider = plivo(public_url=public_url(case["url"]))

    def sent(headers: dict[str, str], path: str = "") -> Request:
        return request(
            case["url"] + path, method=case["method"], form=case["params"], headers=headers
        )

    provider.verify_webhook(sent(case["headers"]))
    genuine = case["headers"]["X-Plivo-Signature-V3"]
    for header in (f"wrong,{genuine}", f"{genuine}, wrong", f"wrong , {genuine}"):
        provider.verify_webhook(sent({**case["headers"], "X-Plivo-Signature-V3": header}))
    for change in (
        {"X-Plivo-Signature-V3": "wrong"},
        {"X-Plivo-Signature-V3-Nonce": "54321"},
    ):
        with pytest.raises(NotAllowed, match="is wrong"):
            provider.verify_webhook(sent({**case["headers"], **change}))
    with pytest.raises(NotAllowed, match="is wrong"):
        provider.verify_webhook(sent(case["headers"], "x"))


def test_where_the_sdk_crashes_we_say_no() -> None:
    case = vector("plivo", "sdk_crash")
    headers = {"X-Plivo-Signature-V3": "x", "X-Plivo-Signature-V3-Nonce": "12345"}
    with pytest.raises(NotAllowed, match="is wrong"):
        plivo().verify_webhook(request(case["url"], method="GET", headers=headers))


def test_v2_covers_too_little_to_be_taken() -> None:
    case = vector("plivo", "v2")
    with pytest.raises(NotAllowed, match="V3 or its nonce is missing"):
        plivo().verify_webhook(request(case["url"], headers=case["headers"]))


def test_a_sub_account_whose_main_account_signs() -> None:
    case = vector("plivo", "post_form")
    headers = {
        "X-Plivo-Signature-Ma-V3": case["headers"]["X-Plivo-Signature-V3"],
        "X-Plivo-Signature-V3-Nonce": case["nonce"],
    }
    sent = request(case["url"], form=case["params"], headers=headers)
    plivo(auth_token="sub", main_auth_token=TOKEN).verify_webhook(sent)
    with pytest.raises(NotAllowed):
        plivo(auth_token="sub").verify_webhook(sent)


@pytest.mark.parametrize("scheme", ["https", "wss", "http", "ws"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("port", ["", ":default"])
def test_the_upgrade_is_signed_in_more_than_one_way(scheme: str, slash: str, port: str) -> None:
    default = ":443" if scheme in ("https", "wss") else ":80"
    host = "voice.example.com" + port.replace(":default", default)
    url = f"{scheme}://{host}/ws/plivo{slash}"
    signature = get_signature_v3(TOKEN.encode(), url.encode(), "12345").decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "12345"}
    plivo().verify_upgrade(request("/ws/plivo/", method="GET", headers=headers))
    with pytest.raises(NotAllowed, match="is wrong"):
        plivo().verify_upgrade(request("/ws/other/", method="GET", headers=headers))


def test_an_upgrade_is_good_for_once() -> None:
    case = vector("plivo", "ws_handshake_https_scheme")
    now = [0.0]
    provider = plivo(clock=lambda: now[0])
    upgrade = request(case["url"], method="GET", headers=case["headers"])
    provider.verify_upgrade(upgrade)
    with pytest.raises(NotAllowed, match="replayed"):
        provider.verify_upgrade(upgrade)
    plivo().verify_upgrade(upgrade)


@pytest.mark.parametrize(
    "path", ["/cb/", "/cb/?b=2&a=1", "/cb/?a=2&a=1&empty=", "/cb/?n=J%20x&plus=a+b"]
)
@pytest.mark.parametrize("params", [None, {"a": "1"}, {"Name": "Jörg", "b": ["2", "1"], "e": ""}])
def test_the_official_sdk_signs_as_we_check(path: str, params: dict[str, Any] | None) -> None:
    url = PUBLIC_URL + path
    method = "POST" if params else "GET"
    make = construct_post_url if params else construct_get_url
    base = make(url, dict(params or {})).decode()
    signature = get_signature_v3(TOKEN.encode(), base, "n1").decode()
    assert validate_v3_signature(method, url, "n1", TOKEN, signature, dict(params or {}))
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "n1"}
    plivo().verify_webhook(request(url, method=method, form=params, headers=headers))


@pytest.mark.parametrize("signature", ["", ",", "é", "\udc80", "x," * 50_000, "\0"])
@pytest.mark.parametrize("nonce", ["", "1", "é\udc80", "x" * 100_000])
def test_hostile_headers_are_refused(signature: str, nonce: str) -> None:
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}
    for method in ("GET", "POST", "DELETE", ""):
        hostile = request("/cb?a=%ff&b=\udc80", method=method, headers=headers)
        with pytest.raises(NotAllowed):
            plivo().verify_webhook(hostile)
        with pytest.raises(NotAllowed):
            plivo().verify_upgrade(hostile)


def test_a_body_that_the_signature_does_not_cover_is_refused() -> None:
    case = vector("plivo", "post_no_params")
    body = request(
        case["url"], body=b"{}", content_type="application/json", headers=case["headers"]
    )
    with pytest.raises(NotAllowed, match="no form"):
        plivo().verify_webhook(body)


def webhook(**fields: str) -> Request:
    return request("/cb", form={"CallUUID": CALL, **fields})


def test_webhooks() -> None:
    incoming = plivo().parse_webhook(
        webhook(
            From="15551234567",
            To="+15557654321",
            CallStatus="ringing",
            Direction="inbound",
            Event="StartApp",
        )
    )
    assert (incoming.from_number, incoming.to_number) == ("+15551234567", "+15557654321")
    assert incoming.wants_answer
    assert incoming.status is CallStatus.RINGING
    ended = plivo().parse_webhook(
        webhook(Event="Hangup", CallStatus="completed", HangupCause="NORMAL_CLEARING")
    )
    assert (ended.status, ended.wants_answer) == (CallStatus.COMPLETED, False)
    assert ended.error == "NORMAL_CLEARING"
    assert plivo().parse_webhook(webhook(Event="Hangup")).status is CallStatus.COMPLETED
    for fields in (
        {"Event": "StartStream", "StreamID": "s"},
        {"Event": "DroppedStream"},
        {"Event": "failed", "StreamID": "s", "StatusReason": "r", "CallStatus": "in-progress"},
    ):
        stream = plivo().parse_webhook(webhook(**fields))
        assert (stream.kind, stream.status) == (EventKind.STREAM, None)
    with pytest.raises(InvalidMessage, match="CallUUID"):
        plivo().parse_webhook(request("/cb"))


def test_the_answer_is_xml_with_the_url_as_text() -> None:
    event = plivo().parse_webhook(webhook(Event="StartApp"))
    target = StreamTarget(
        url="wss://voice.example.com/ws/plivo/",
        parameters={"token": "3f9c", "from": "15551234567"},
        status_url=f"{PUBLIC_URL}/status/",
    )
    stream = ET.fromstring(plivo().answer(event, target).body).find("Stream")
    assert stream is not None
    assert stream.text == "wss://voice.example.com/ws/plivo/"
    assert stream.attrib == {
        "bidirectional": "true",
        "keepCallAlive": "true",
        "contentType": "audio/x-mulaw;rate=8000",
        "extraHeaders": "token=3f9c,from=15551234567",
        "statusCallbackUrl": f"{PUBLIC_URL}/status/",
        "statusCallbackMethod": "POST",
    }
    wide = plivo(content_type="audio/x-l16;rate=16000").answer(event, target)
    assert 'contentType="audio/x-l16;rate=16000"' in wide.body
    assert "<Hangup" in plivo().reject(event).body


@pytest.mark.parametrize(
    "parameters", [{"call_id": "x"}, {"token": "a-b"}, {"token": ""}, {"t": "x" * 511}]
)
def test_parameters_that_plivo_would_not_carry_are_refused(parameters: dict[str, str]) -> None:
    event = plivo().parse_webhook(webhook(Event="StartApp"))
    target = StreamTarget(url="wss://voice.example.com/ws/", parameters=parameters)
    with pytest.raises(ConfigurationError):
        plivo().answer(event, target)


def test_requests() -> None:
    provider = plivo(api_url="https://api.plivo.test/")
    account = "https://api.plivo.test/v1/Account/MA1"
    basic = f"Basic {base64.b64encode(f'MA1:{TOKEN}'.encode()).decode()}"
    hang_up = provider.hang_up(CALL)
    assert (hang_up.method, hang_up.url) == ("DELETE", f"{account}/Call/{CALL}/")
    assert hang_up.headers == {"Authorization": basic}
    assert (hang_up.is_idempotent, hang_up.ended, hang_up.json) == (True, {404: None}, None)
    dial = provider.dial(
        Dial(
            to_number="+1555",
            from_number="+1666",
            answer_url=f"{PUBLIC_URL}/answer/",
            status_url=f"{PUBLIC_URL}/status/",
            detect_machine=True,
        )
    )
    assert (dial.method, dial.url) == ("POST", f"{account}/Call/")
    assert dial.json is not None
    assert (dial.json["to"], dial.json["from"]) == ("1555", "1666")
    assert dial.json["hangup_url"] == f"{PUBLIC_URL}/status/"
    transfer = provider.transfer(CALL, "+1777", document_url=f"{PUBLIC_URL}/transfer/")
    assert transfer.json == {
        "legs": "aleg",
        "aleg_url": f"{PUBLIC_URL}/transfer/",
        "aleg_method": "POST",
    }
    document = ET.fromstring(provider.transfer_document("+1777").body)
    assert document.findtext("Dial/Number") == "1777"
    keys = provider.send_dtmf(CALL, "1#")
    assert (keys.url, keys.json) == (f"{account}/Call/{CALL}/DTMF/", {"digits": "1#"})
    with pytest.raises(ValueError, match="answer_url"):
        provider.dial(Dial(to_number="+1", from_number="+2"))
    with pytest.raises(ValueError, match="document_url"):
        provider.transfer(CALL, "+1777")
    assert TOKEN not in repr(provider)
