from __future__ import annotations

import base64
import json
import time
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from nacl.signing import SigningKey

from tests.telephony.providers.requests import PUBLIC_URL, VECTORS, request, vector
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.frames import CallStartedFrame
from voicews.telephony import CallEvent, CallStatus, Dial, EventKind, StreamTarget, Telnyx
from voicews.telephony.providers.base import Request

CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"
KEY = SigningKey(bytes(range(32)))
PUBLIC_KEY = base64.b64encode(KEY.verify_key.encode()).decode()
NOW = 1_760_000_000
TARGET = StreamTarget(
    url="wss://voice.example.com/ws/telnyx/",
    parameters={"token": "3f9c"},
    status_url=f"{PUBLIC_URL}/status/",
)


def telnyx(**options: Any) -> Telnyx:
    fields: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "api_key": "KEY1",
        "public_key": PUBLIC_KEY,
    }
    return Telnyx(**(fields | {"clock": lambda: NOW, "connection_id": "77"} | options))


def signed(body: bytes, timestamp: str = str(NOW), content_type: str = "") -> Request:
    signature = KEY.sign(timestamp.encode() + b"|" + body).signature
    return request(
        "/voice/telnyx/answer/",
        body=body,
        content_type=content_type or "application/json",
        headers={
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
            "telnyx-timestamp": timestamp,
        },
    )


@pytest.mark.parametrize("case", VECTORS["telnyx"], ids=[v["name"] for v in VECTORS["telnyx"]])
def test_vectors(case: dict[str, Any]) -> None:
    provider = telnyx(public_key=case["public_key_b64"], clock=lambda: case["now"])
    genuine = request("/x", body=case["body"], headers=case["headers"])
    if case["sdk_result"] is True:
        provider.verify_webhook(genuine)
        tampered = request("/x", body=case["body"] + " ", headers=case["headers"])
        with pytest.raises(NotAllowed, match="missing or wrong"):
            provider.verify_webhook(tampered)
    else:
        with pytest.raises(NotAllowed, match="more than 300 s ago"):
            provider.verify_webhook(genuine)


def test_the_window_is_300_seconds_both_ways() -> None:
    genuine = signed(b"{}")
    for now in (NOW - 300, NOW, NOW + 300):
        telnyx(clock=lambda now=now: now).verify_webhook(genuine)


def test_a_body_that_is_no_text_is_no_problem() -> None:
    telnyx().verify_webhook(signed(b"\xff\xfe"))


@pytest.mark.parametrize("signature", ["", "x", "é", "====", "A" * 88, "A" * 10_000, "\udc80"])
@pytest.mark.parametrize("timestamp", [str(NOW), "", "x", "²", "-1", "9" * 5000, "1e5"])
def test_hostile_headers_are_refused(signature: str, timestamp: str) -> None:
    headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": timestamp}
    with pytest.raises(NotAllowed):
        telnyx().verify_webhook(request("/x", body=b"{}", headers=headers))


@pytest.mark.parametrize("key", ["x", "AAAA", "é"])
def test_a_public_key_that_is_none_is_a_matter_of_configuration(key: str) -> None:
    with pytest.raises(ConfigurationError, match="public_key: expected 32 bytes in base64"):
        telnyx(public_key=key).verify_webhook(signed(b"{}"))


@pytest.mark.parametrize("call_id", ["a/../b", "v3: x", "é", "v" * 300])
def test_a_call_id_that_no_request_can_name(call_id: str) -> None:
    body = {"data": {"event_type": "call.initiated", "payload": {"call_control_id": call_id}}}
    with pytest.raises(InvalidMessage, match="call_control_id: expected letters, digits"):
        telnyx().parse_webhook(signed(json.dumps(body).encode()))


def test_upgrades_are_not_signed() -> None:
    assert not telnyx().signs_upgrades
    telnyx().verify_upgrade(request("/ws/", method="GET"))


def event(event_type: str, **payload: Any) -> CallEvent:
    body = {
        "data": {
            "record_type": "event",
            "event_type": event_type,
            "id": "0ccc7b54",
            "payload": {"call_control_id": CALL, **payload},
        },
        "meta": {"attempt": 1},
    }
    return telnyx().parse_webhook(signed(json.dumps(body).encode()))


def test_call_control_of_an_inbound_call() -> None:
    case = vector("telnyx", "json_event")
    incoming = telnyx().parse_webhook(
        request("/x", body=case["body"], content_type="application/json; charset=utf-8")
    )
    assert incoming.kind is EventKind.CALL
    assert incoming.wants_answer
    assert incoming.event_id == "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"
    assert incoming.call_id == "v3:abc-_"
    assert (incoming.from_number, incoming.to_number) == ("+15551234567", "+15557654321")
    assert incoming.status is CallStatus.RINGING


def test_call_control_of_the_rest() -> None:
    assert not event("call.initiated", direction="outgoing").wants_answer
    assert event("call.initiated", direction="outgoing").direction == "outbound"
    assert event("call.answered").status is CallStatus.IN_PROGRESS
    assert event("call.hangup", hangup_cause="normal_clearing").status is CallStatus.COMPLETED
    assert event("call.hangup", hangup_cause="user_busy").status is CallStatus.BUSY
    assert event("call.hangup", hangup_cause="timeout").status is CallStatus.NO_ANSWER
    failed = event("streaming.failed", failure_reason="connection_failed", stream_id="s")
    assert (failed.kind, failed.error) == (EventKind.STREAM, "connection_failed")
    assert failed.status is None
    assert event("call.dtmf.received").kind is EventKind.OTHER


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data":5}', b'{"data":{"payload":{}}}', b"[" * 100_000]
)
def test_what_is_no_event_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        telnyx().parse_webhook(signed(body))


def test_texml() -> None:
    body = f"CallSid={CALL}&From=%2B15551234567&To=%2B15557654321&CallStatus=ringing".encode()
    form = signed(body, content_type="application/x-www-form-urlencoded")
    telnyx().verify_webhook(form)
    incoming = telnyx().parse_webhook(form)
    assert (incoming.call_id, incoming.wants_answer) == (CALL, True)
    answer = telnyx(codec="PCMA").answer(incoming, TARGET)
    assert answer.request is None
    stream = ET.fromstring(answer.body).find("Connect/Stream")
    assert stream is not None
    assert stream.attrib == {
        "url": "wss://voice.example.com/ws/telnyx/",
        "track": "inbound_track",
        "codec": "PCMA",
        "bidirectionalMode": "rtp",
        "bidirectionalCodec": "PCMA",
        "bidirectionalSamplingRate": "8000",
        "statusCallback": f"{PUBLIC_URL}/status/",
    }
    assert [p.attrib for p in stream] == [{"name": "token", "value": "3f9c"}]
    reject = ET.fromstring(telnyx().reject(incoming).body)
    assert [child.tag for child in reject] == ["Reject"]


def test_call_control_is_answered_with_a_command() -> None:
    provider = telnyx(codec="L16", sample_rate=16000)
    answer = provider.answer(event("call.initiated", direction="incoming"), TARGET)
    assert answer.body == ""
    command = answer.request
    assert command is not None
    assert command.json is not None
    quoted = CALL.replace(":", "%3A")
    assert command.url == f"https://api.telnyx.com/v2/calls/{quoted}/actions/answer"
    assert command.headers == {"Authorization": "Bearer KEY1"}
    sent = dict(command.json)
    assert sent.pop("command_id")
    client_state = sent.pop("client_state")
    assert sent == {
        "stream_url": "wss://voice.example.com/ws/telnyx/",
        "stream_track": "inbound_track",
        "stream_codec": "L16",
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": "L16",
        "stream_bidirectional_sampling_rate": 16000,
        "stream_auth_token": "3f9c",
    }
    assert "KEY1" not in repr(command)
    assert "3f9c" not in repr(command)

    # What we gave the command comes back in the stream's first message.
    start = {"call_control_id": CALL, "client_state": client_state}
    message = json.dumps({"event": "start", "stream_id": "s", "start": start})
    frame = provider.new_serializer().deserialize(message)
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {"token": "3f9c"}

    reject = telnyx().reject(event("call.initiated", direction="incoming")).request
    assert reject is not None
    assert reject.url.endswith("/actions/reject")


def test_requests() -> None:
    hang_up = telnyx(api_url="https://api.telnyx.eu/").hang_up(CALL)
    assert hang_up.url.startswith("https://api.telnyx.eu/v2/calls/v3%3A")
    assert hang_up.url.endswith("/actions/hangup")
    assert hang_up.ended == {422: "90018", 404: None}
    assert hang_up.is_idempotent
    dial = telnyx().dial(
        Dial(
            to_number="+1555",
            from_number="+1666",
            stream=TARGET,
            status_url=f"{PUBLIC_URL}/status/",
            detect_machine=True,
        )
    )
    assert dial.url == "https://api.telnyx.com/v2/calls"
    assert dial.json is not None
    assert dial.json["connection_id"] == "77"
    assert dial.json["stream_bidirectional_mode"] == "rtp"
    assert dial.json["webhook_url"] == f"{PUBLIC_URL}/status/"
    assert dial.json["answering_machine_detection"] == "detect"
    transfer = telnyx().transfer(CALL, "+1777")
    assert transfer.json is not None
    assert transfer.json["to"] == "+1777"
    keys = telnyx().send_dtmf(CALL, "12w#")
    assert keys.json is not None
    assert keys.json["digits"] == "12w#"
    assert keys.url.endswith("/actions/send_dtmf")


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="stream"):
        telnyx().dial(Dial(to_number="+1", from_number="+2"))
    with pytest.raises(ConfigurationError, match="connection_id"):
        telnyx(connection_id="").dial(Dial(to_number="+1", from_number="+2", stream=TARGET))
    for digits in ("", "x", "1" * 65, "1 2"):
        with pytest.raises(ValueError, match="digits"):
            telnyx().send_dtmf(CALL, digits)


@pytest.mark.parametrize("case", VECTORS["telnyx"], ids=[v["name"] for v in VECTORS["telnyx"]])
def test_the_official_sdk_takes_what_we_take(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from telnyx.lib.webhook_verification import (
        WebhookVerificationError,
        verify_webhook_signature,
    )

    monkeypatch.setattr(time, "time", lambda: case["now"])
    arguments = (case["body"], case["headers"], case["public_key_b64"])
    if case["sdk_result"] is True:
        verify_webhook_signature(*arguments)
    else:
        with pytest.raises(WebhookVerificationError, match="too old or too new"):
            verify_webhook_signature(*arguments)
