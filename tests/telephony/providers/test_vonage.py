from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from vonage_jwt import JwtClient

from tests.telephony.providers.requests import PUBLIC_URL, VECTORS, request, vector
from voicews.exceptions import ConfigurationError, InvalidMessage, NotAllowed
from voicews.frames import CallStartedFrame
from voicews.telephony import CallStatus, Dial, EventKind, StreamTarget, Vonage
from voicews.telephony.providers.base import Request

CALL = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
SECRET = "vonage-signature-secret-0123456789abcdef"
NOW = 1_760_000_000
CLAIMS = {"iat": NOW, "jti": "j1", "iss": "Vonage", "api_key": "abcd1234"}
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


KEY = rsa.generate_private_key(65537, 2048)
PRIVATE_KEY = pem(KEY)


def vonage(**options: Any) -> Vonage:
    fields: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "signature_secret": SECRET,
        "application_id": APPLICATION,
        "private_key": PRIVATE_KEY,
        "clock": lambda: NOW,
    }
    return Vonage(**(fields | options))


def sent(header: str, body: str | None = None) -> Request:
    return request(
        "/voice/vonage/answer/",
        method="POST" if body else "GET",
        body=body,
        content_type="application/json" if body else "",
        headers={"Authorization": header.removeprefix("Authorization: ")},
    )


def signed(body: str | None = None, secret: str = SECRET, **changes: Any) -> Request:
    claims = {**CLAIMS, **changes}
    if body and "payload_hash" not in changes:
        claims["payload_hash"] = hashlib.sha256(body.encode()).hexdigest()
    kept = {name: value for name, value in claims.items() if value is not None}
    return sent(f"Bearer {pyjwt.encode(kept, secret, 'HS256')}", body)


@pytest.mark.parametrize("case", VECTORS["vonage"], ids=[v["name"] for v in VECTORS["vonage"]])
def test_vectors(case: dict[str, Any]) -> None:
    genuine = sent(case["header"], case.get("body"))
    is_fresh = case.get("claims", {}).get("iat") == NOW
    if case["sdk_verify_signature"] is True and is_fresh:
        vonage().verify_webhook(genuine)
        vonage(api_key="abcd1234").verify_upgrade(genuine)
    else:
        with pytest.raises(NotAllowed):
            vonage().verify_webhook(genuine)


def test_the_body_must_be_the_one_that_was_signed() -> None:
    case = vector("vonage", "webhook_with_payload_hash")
    with pytest.raises(NotAllowed, match="payload_hash"):
        vonage().verify_webhook(sent(case["header"], case["body"] + " "))
    with pytest.raises(NotAllowed, match="doesn't cover the body"):
        vonage().verify_webhook(signed("{}", payload_hash=None))
    with pytest.raises(NotAllowed, match="doesn't cover the body"):
        vonage().verify_webhook(signed("{}", payload_hash=5))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"iat": NOW - 301}, "300 s ago"),
        ({"iat": NOW + 301}, "300 s ago"),
        ({"iat": None}, "300 s ago"),
        ({"iat": 10**400}, "300 s ago"),
        ({"iat": -(10**400)}, "300 s ago"),
        ({"iat": 1e308}, "300 s ago"),
        ({"iat": float("nan")}, "300 s ago"),
        ({"iat": float("inf")}, "300 s ago"),
        ({"iat": True}, "300 s ago"),
        ({"iat": str(NOW)}, "300 s ago"),
        ({"iat": [NOW]}, "300 s ago"),
        ({"iss": "Vonag"}, "issued by Vonage"),
        ({"iss": None}, "issued by Vonage"),
        ({"application_id": "another"}, "another application_id"),
        ({"secret": "another-secret-of-the-same-length-012345"}, "signature is wrong"),
    ],
)
def test_tokens_that_are_not_for_us(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(NotAllowed, match=error):
        vonage().verify_webhook(signed(**changes))
    with pytest.raises(NotAllowed, match=error):
        vonage().verify_upgrade(signed(**changes))


def test_another_account_is_refused() -> None:
    vonage(api_key="abcd1234").verify_webhook(signed())
    with pytest.raises(NotAllowed, match="another api_key"):
        vonage(api_key="other").verify_webhook(signed())


def test_an_upgrade_is_good_for_once() -> None:
    provider = vonage()
    provider.verify_upgrade(signed())
    with pytest.raises(NotAllowed, match="replayed"):
        provider.verify_upgrade(signed())
    with pytest.raises(NotAllowed, match="jti"):
        provider.verify_upgrade(signed(jti=None))


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic x",
        "Bearer .",
        "Bearer ..",
        "Bearer a.b.c.d",
        "Bearer é.b.c",
        "Bearer \udc80.b.c",
        f"Bearer {'x' * 100_000}",
        f"Bearer {encode({'alg': 'none'})}.{encode(CLAIMS)}.",
        f"Bearer {encode({'alg': 'HS256'})}.{encode(CLAIMS)}.x",
    ],
)
def test_hostile_headers_are_refused(header: str) -> None:
    with pytest.raises(NotAllowed):
        vonage().verify_webhook(sent(header))
    with pytest.raises(NotAllowed):
        vonage().verify_upgrade(sent(header))


def test_signed_with_our_secret_but_no_hs256_is_refused() -> None:
    for algorithm in ("HS384", "HS512"):
        token = pyjwt.encode(CLAIMS, SECRET * 2, algorithm)
        with pytest.raises(NotAllowed):
            vonage(signature_secret=SECRET * 2).verify_webhook(sent(f"Bearer {token}"))


def test_webhooks() -> None:
    query = "to=447700900000&from=447700900001&uuid=u-1&conversation_uuid=CON-1"
    incoming = vonage().parse_webhook(request(f"/x?{query}", method="GET"))
    assert (incoming.from_number, incoming.to_number) == ("+447700900001", "+447700900000")
    assert (incoming.call_id, incoming.wants_answer) == ("u-1", True)
    posted = vector("vonage", "webhook_with_payload_hash")
    assert vonage().parse_webhook(sent("", posted["body"])).wants_answer

    def event(**fields: Any) -> Any:
        body = json.dumps({"uuid": CALL, "conversation_uuid": "CON-1", **fields})
        return vonage().parse_webhook(sent("", body))

    for text, status in (
        ("started", CallStatus.QUEUED),
        ("ringing", CallStatus.RINGING),
        ("answered", CallStatus.IN_PROGRESS),
        ("completed", CallStatus.COMPLETED),
        ("unanswered", CallStatus.NO_ANSWER),
        ("cancelled", CallStatus.CANCELED),
        ("rejected", CallStatus.FAILED),
    ):
        ended = event(status=text, direction="outbound")
        assert (ended.status, ended.wants_answer) == (status, False)
        assert ended.direction == "outbound"
    leg = event(status="completed", to="wss://voice.example.com/ws/", direction="outbound")
    assert (leg.kind, leg.status) == (EventKind.STREAM, None)
    assert event(status="disconnected").kind is EventKind.OTHER
    with pytest.raises(InvalidMessage, match="uuid"):
        vonage().parse_webhook(request("/x"))


def test_the_answer_is_an_ncco_whose_headers_come_back() -> None:
    query = "to=447700900000&from=447700900001&uuid=u-1&conversation_uuid=CON-1"
    event = vonage().parse_webhook(request(f"/x?{query}", method="GET"))
    target = StreamTarget(
        url="wss://voice.example.com/ws/vonage/",
        parameters={"token": "3f9c"},
        status_url=f"{PUBLIC_URL}/status/",
    )
    answer = vonage(sample_rate=8000).answer(event, target)
    assert json.loads(answer.body) == [
        {
            "action": "connect",
            "from": "447700900000",
            "endpoint": [
                {
                    "type": "websocket",
                    "uri": "wss://voice.example.com/ws/vonage/",
                    "content-type": "audio/l16;rate=8000",
                    "headers": {"call_uuid": "u-1", "token": "3f9c"},
                    "authorization": {"type": "vonage"},
                }
            ],
            "eventType": "synchronous",
            "eventUrl": [f"{PUBLIC_URL}/status/"],
        }
    ]
    headers = json.loads(answer.body)[0]["endpoint"][0]["headers"]
    first = {"event": "websocket:connected", "content-type": "audio/l16;rate=8000", **headers}
    frame = vonage().new_serializer().deserialize(json.dumps(first))
    assert isinstance(frame, CallStartedFrame)
    assert (frame.call_id, frame.parameters["token"]) == ("u-1", "3f9c")
    assert vonage().reject(event).body == "[]"
    long = StreamTarget(url="wss://voice.example.com/", parameters={"token": "x" * 512})
    with pytest.raises(ConfigurationError, match="up to 512 bytes"):
        vonage().answer(event, long)


def test_requests_carry_a_token_of_the_application() -> None:
    hang_up = vonage(api_url="https://api-eu-1.nexmo.com").hang_up(CALL)
    assert (hang_up.method, hang_up.url) == (
        "PUT",
        f"https://api-eu-1.nexmo.com/v1/calls/{CALL}",
    )
    assert (hang_up.json, hang_up.is_idempotent) == ({"action": "hangup"}, True)
    token = hang_up.headers["Authorization"].removeprefix("Bearer ")
    claims = pyjwt.decode(
        token, KEY.public_key(), algorithms=["RS256"], options={"verify_exp": False}
    )
    assert claims.pop("jti")
    assert claims == {"application_id": APPLICATION, "iat": NOW, "exp": NOW + 300}
    official = JwtClient(APPLICATION, PRIVATE_KEY).generate_application_jwt()
    theirs = pyjwt.decode(official, KEY.public_key(), algorithms=["RS256"])
    assert theirs.keys() == claims.keys() | {"jti"}
    assert token not in repr(hang_up)
    assert "PRIVATE" not in repr(vonage())
    assert SECRET not in repr(vonage())


def test_requests() -> None:
    dial = vonage().dial(
        Dial(
            to_number="+1555",
            from_number="+1666",
            answer_url=f"{PUBLIC_URL}/answer/",
            status_url=f"{PUBLIC_URL}/status/",
            ring_timeout_secs=600,
            detect_machine=True,
        )
    )
    assert dial.json == {
        "to": [{"type": "phone", "number": "1555"}],
        "from": {"type": "phone", "number": "1666"},
        "answer_url": [f"{PUBLIC_URL}/answer/"],
        "answer_method": "POST",
        "ringing_timer": 120,
        "event_url": [f"{PUBLIC_URL}/status/"],
        "event_method": "POST",
        "machine_detection": "continue",
    }
    transfer = vonage().transfer(CALL, "+1777")
    assert transfer.json is not None
    assert transfer.json["destination"]["ncco"][0]["endpoint"][0]["number"] == "1777"
    keys = vonage().send_dtmf(CALL, "1#")
    assert (keys.url[-5:], keys.json) == ("/dtmf", {"digits": "1#"})
    with pytest.raises(ValueError, match="answer_url"):
        vonage().dial(Dial(to_number="+1", from_number="+2"))


@pytest.mark.parametrize(
    "key",
    ["", "no key", pem(ec.generate_private_key(ec.SECP256R1()))],
    ids=["none", "no key", "a key of another kind"],
)
def test_a_private_key_that_is_none_is_a_matter_of_configuration(key: str) -> None:
    with pytest.raises(ConfigurationError, match="private_key"):
        vonage(private_key=key).hang_up(CALL)
