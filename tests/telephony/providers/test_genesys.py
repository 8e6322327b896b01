from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest

from tests.telephony.providers.requests import request, vector
from voicews.exceptions import ConfigurationError, NotAllowed
from voicews.telephony import CallEvent, EventKind, Genesys, StreamTarget
from voicews.telephony.providers.base import NotSupported, Request

DOCUMENTED = vector("genesys_audiohook", "documented_vector_recomputed")
CREATED = 1641013200
API_KEY = DOCUMENTED["headers"]["X-API-KEY"]
SECRET = DOCUMENTED["client_secret_b64"]
COMPONENTS = [
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
]


def genesys(**options: Any) -> Genesys:
    fields: dict[str, Any] = {
        "public_url": "https://audiohook.example.com",
        "api_key": API_KEY,
        "client_secret": SECRET,
        "clock": lambda: CREATED + 5,
    }
    return Genesys(**(fields | options))


def documented(**changes: str) -> Request:
    return request(
        DOCUMENTED["request_target"], method="GET", headers={**DOCUMENTED["headers"], **changes}
    )


def signed(
    components: list[str] = COMPONENTS, authority: str = "audiohook.example.com", **changes: Any
) -> Request:
    values = {
        "keyid": API_KEY,
        "nonce": "VGhpc0lzQVVuaXF1ZU5vbmNl",
        "alg": "hmac-sha256",
        "created": CREATED,
        "expires": CREATED + 10,
    } | changes
    parameters = "(" + " ".join('"' + c + '"' for c in components) + ")"
    for name, value in values.items():
        if value is not None:
            parameters += f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"'
    headers = {name.lower(): value for name, value in DOCUMENTED["headers"].items()}
    known = {"@request-target": "/ws/genesys/?a=1", "@authority": authority, **headers}
    lines = [f'"{name}": {known.get(name, "x")}' for name in components]
    content = "\n".join([*lines, f'"@signature-params": {parameters}'])
    digest = hmac.new(base64.b64decode(SECRET), content.encode(), hashlib.sha256).digest()
    headers["signature-input"] = f"sig1={parameters}"
    headers["signature"] = f"sig1=:{base64.b64encode(digest).decode()}:"
    return request("/ws/genesys/?a=1", method="GET", headers=headers)


def test_the_documented_vector() -> None:
    genesys().verify_upgrade(documented())


@pytest.mark.parametrize("name", ["Audiohook-Session-Id", "Audiohook-Organization-Id"])
def test_a_header_that_was_changed_is_noticed(name: str) -> None:
    with pytest.raises(NotAllowed, match="signature is wrong"):
        genesys().verify_upgrade(documented(**{name: "another"}))
    with pytest.raises(NotAllowed, match="covered, and missing"):
        genesys().verify_upgrade(documented(**{name: ""}))


def test_another_host_or_path_or_key_is_noticed() -> None:
    with pytest.raises(NotAllowed, match="signature is wrong"):
        genesys(public_url="https://voice.example.com").verify_upgrade(documented())
    moved = Request(method="GET", path="/other", headers=documented().headers)
    with pytest.raises(NotAllowed, match="signature is wrong"):
        genesys().verify_upgrade(moved)
    with pytest.raises(NotAllowed, match="signature is wrong"):
        genesys(client_secret=base64.b64encode(b"other").decode()).verify_upgrade(documented())
    with pytest.raises(NotAllowed, match="API key"):
        genesys(api_key="other").verify_upgrade(documented())


def test_the_port_may_be_part_of_the_host() -> None:
    genesys().verify_upgrade(signed(authority="audiohook.example.com:443"))
    other = genesys(public_url="https://audiohook.example.com:8443")
    other.verify_upgrade(signed(authority="audiohook.example.com:8443"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"created": CREATED + 9, "expires": CREATED + 60}, "in the future"),
        ({"created": CREATED - 9}, "10 s ago"),
        ({"expires": CREATED}, "expired"),
        ({"created": None}, "times created and expires"),
        ({"created": "now"}, "times created and expires"),
        ({"alg": "none"}, "hmac-sha256"),
        ({"nonce": "short"}, "nonce of 22"),
        ({"nonce": None}, "nonce of 22"),
        ({"keyid": "other"}, "API key"),
        ({"keyid": None}, "API key"),
    ],
)
def test_parameters_that_do_not_do(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(NotAllowed, match=error):
        genesys().verify_upgrade(signed(**changes))


@pytest.mark.parametrize("name", COMPONENTS)
def test_everything_that_is_required_must_be_covered(name: str) -> None:
    with pytest.raises(NotAllowed, match=f"doesn't cover {name}"):
        genesys().verify_upgrade(signed([c for c in COMPONENTS if c != name]))


def test_more_may_be_covered_but_nothing_unknown() -> None:
    with pytest.raises(NotAllowed, match="no such component as @method"):
        genesys().verify_upgrade(signed([*COMPONENTS, "@method"]))
    with pytest.raises(NotAllowed, match="covered, and missing"):
        genesys().verify_upgrade(signed([*COMPONENTS, "x-other"]))
    with pytest.raises(NotAllowed, match="twice"):
        genesys().verify_upgrade(signed([*COMPONENTS, "@authority"]))


def test_an_upgrade_is_good_for_once() -> None:
    provider = genesys()
    with pytest.raises(NotAllowed, match="wrong"):
        provider.verify_upgrade(documented(Signature="sig1=:AAAA:"))
    provider.verify_upgrade(documented())
    with pytest.raises(NotAllowed, match="replayed"):
        provider.verify_upgrade(documented())


@pytest.mark.parametrize(
    "changes",
    [
        {"Signature": ""},
        {"Signature-Input": ""},
        {"Signature": "sig1"},
        {"Signature": "sig2=:AAAA:"},
        {"Signature": "sig1=:====:"},
        {"Signature": "sig1=:é:"},
        {"Signature-Input": "sig1=()"},
        {"Signature-Input": 'sig1=("a"'},
        {"Signature-Input": 'sig1=("a" "b");x'},
        {"Signature-Input": "sig1=" + "(" * 100_000},
        {"Signature-Input": 'sig1=("a"' + ' "a"' * 1000 + ")"},
        {"Signature-Input": DOCUMENTED["headers"]["Signature-Input"] + ";created=1"},
        {"Signature-Input": DOCUMENTED["headers"]["Signature-Input"] + ";\udc80=1"},
        {"Signature": "x" * 100_000},
    ],
)
def test_hostile_headers_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(NotAllowed):
        genesys().verify_upgrade(documented(**changes))


def test_a_secret_that_is_none_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="client_secret: expected base64"):
        genesys(client_secret="%%%")
    with pytest.raises(ConfigurationError, match="missing options api_key "):
        genesys(api_key="")
    assert SECRET not in repr(genesys())


def test_there_are_no_webhooks_and_no_requests() -> None:
    event = CallEvent(provider="genesys", kind=EventKind.CALL, call_id="c")
    with pytest.raises(NotAllowed, match="no webhooks"):
        genesys().verify_webhook(request("/x"))
    for ask in (
        lambda: genesys().parse_webhook(request("/x")),
        lambda: genesys().answer(event, StreamTarget(url="wss://h/")),
        lambda: genesys().hang_up("c"),
    ):
        with pytest.raises(NotSupported):
            ask()
    assert genesys(packet_secs=0.5).new_serializer().packet_bytes == 8000
