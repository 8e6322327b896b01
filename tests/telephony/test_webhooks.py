"""Webhooks and sockets from strangers, and webhooks twice, late and out of order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Serve
from tests.server_processes import Server
from tests.telephony.conftest import Rows
from tests.telephony.phones import (
    PHONES,
    GenesysPhone,
    Phone,
    TelnyxPhone,
    ask,
    environment,
    stream_url,
)
from tests.telephony.provider_api import ProviderApi

Make = Callable[[str], Phone]
ASKING = [name for name in PHONES if name != "genesys"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("what", ["answer", "status", "transfer"])
@pytest.mark.parametrize("name", ASKING)
def test_what_is_not_signed_is_refused(
    phone_server: Server, phone: Make, rows: Rows, name: str, what: str
) -> None:
    call = phone(name)
    body = urlencode(call.answer_fields()).encode()
    target = f"/voice/{name}/{what}/"
    assert ask(phone_server, target, body=body, headers=FORM) == (403, "not allowed")
    assert ask(phone_server, target, method="GET")[0] == 403
    found = rows.ask("SELECT 1 FROM voicews_voicesession WHERE call_id = ?", call.call_id)
    assert found == []
    log = phone_server.log_tail()
    assert f"{name} webhook refused: " in log
    assert "secret" not in log


@pytest.mark.parametrize("name", [name for name in ASKING if name != "exotel"])
def test_what_was_changed_on_the_way_is_refused(phone: Make, name: str) -> None:
    call = phone(name)
    target = f"/voice/{name}/answer/"
    assert call.webhook(target, call.answer_fields(), tamper=True)[0] == 403


def test_providers_that_there_are_not(phone_server: Server) -> None:
    assert ask(phone_server, "/voice/nobody/answer/")[0] == 404
    assert ask(phone_server, "/voice/genesys/answer/")[0] == 404


def test_signed_nonsense_is_not_understood(phone: Make) -> None:
    for name in ASKING:
        assert phone(name).webhook(f"/voice/{name}/answer/", {"Some": "field"})[0] == 400
    telnyx = phone("telnyx")
    body = b"[" * 30_000
    headers = {"Content-Type": "application/json", **telnyx.sign("", {}, body)}
    assert ask(telnyx.server, "/voice/telnyx/answer/", body=body, headers=headers)[0] == 400
    body = b"\xff\xfe"
    headers = {**FORM, **telnyx.sign("", {}, body)}
    assert ask(telnyx.server, "/voice/telnyx/status/", body=body, headers=headers)[0] == 400


def test_a_megabyte_is_too_much(phone_server: Server) -> None:
    assert ask(phone_server, "/voice/twilio/answer/", body=bytes(1_000_000))[0] == 413


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(ASKING),
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "x", ""]),
    query=st.text("abc=&%?/+0f:", max_size=30),
    signature=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
)
def test_no_stranger_gets_more_than_a_refusal(
    phone_server: Server, name: str, body: bytes, kind: str, query: str, signature: str
) -> None:
    headers = {
        "Content-Type": kind,
        "X-Twilio-Signature": signature,
        "Telnyx-Signature-Ed25519": signature,
        "Telnyx-Timestamp": str(int(time.time())),
        "X-Plivo-Signature-V3": signature,
        "X-Plivo-Signature-V3-Nonce": "1",
        "Authorization": f"Bearer {signature}",
    }
    target = f"/voice/{name}/answer/?{query}"
    assert ask(phone_server, target, body=body, headers=headers)[0] in (400, 403)


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["twilio", "plivo", "vonage", "exotel"])
def test_a_call_that_ends_before_its_stream(phone: Make, rows: Rows, name: str) -> None:
    call = phone(name)
    call.ring()
    assert call.report("completed") == 200
    session = rows.ended(call.call_id)
    assert (session["close_code"], session["hang_up"]) == (1001, "")
    assert session["end_reason"] == "the call is over: completed"


def test_statuses_twice_and_out_of_order(phone: Make, rows: Rows) -> None:
    call = phone("twilio")
    url = call.ring()
    for status in ("in-progress", "ringing", "in-progress", "completed", "in-progress", "ringing"):
        assert call.report(status) == 200
    assert rows.session(call.call_id)["call_status"] == "completed"
    assert rows.events(call.call_id, "call") == ["in-progress", "ringing", "completed"]
    # What is over is not begun again, whatever still comes.
    assert "<Reject" in call.webhook("/voice/twilio/answer/", call.answer_fields())[1]
    with pytest.raises(InvalidStatus, match="403"):
        call.open(url)


def test_a_status_of_an_unknown_call_is_taken_in_silence(phone: Make) -> None:
    assert phone("twilio").report("completed") == 200


def test_the_end_of_the_call_ends_a_stream_that_nobody_closes(phone: Make, rows: Rows) -> None:
    call = phone("twilio")
    call.call()
    call.listen(0.2)
    call.report("completed")
    call.listen(2.0)
    assert call.close_code == 1001
    assert rows.ended(call.call_id)["hang_up"] == ""


def test_the_same_webhook_twice_makes_one_session(phone: Make, rows: Rows) -> None:
    call = phone("twilio")
    first, second = call.ring(), call.ring()
    rows.session(call.call_id)
    call.open(second)
    call.start()
    assert call.listen(0.3)
    other = phone("twilio")
    with pytest.raises(InvalidStatus, match="403"):
        other.open(first)
    call.hang_up()


def test_stream_events_are_noted(phone: Make, rows: Rows) -> None:
    call = phone("twilio")
    call.ring()
    fields = {**call.answer_fields(), "StreamSid": "MZ1", "StreamEvent": "stream-error"}
    fields |= {"StreamError": "31921"}
    call.webhook("/voice/twilio/status/", fields)
    assert rows.events(call.call_id, "call") == ["stream-error: 31921"]


def test_a_bot_that_there_is_not_is_busy(phone: Make) -> None:
    call = phone("twilio")
    status, text = call.webhook("/voice/twilio/answer/?bot=nobody", call.answer_fields())
    assert status == 200
    assert '<Reject reason="busy"' in text


# --- sockets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PHONES if name != "telnyx"])
def test_an_upgrade_that_is_not_signed_is_refused(phone: Make, name: str) -> None:
    call = phone(name)
    url = call.ring()
    with pytest.raises(InvalidStatus, match="403"):
        call.open(url, headers={})
    call.open(url)


@pytest.mark.parametrize("name", ["telnyx", "exotel", "plivo", "twilio", "vonage"])
@pytest.mark.parametrize("token", ["", "0" * 80, "abc", "zz" * 40])
def test_unknown_tokens_are_refused(phone: Make, name: str, token: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        phone(name).open(f"wss://voice.example.com/ws/voice/{name}/{token}/")


def test_a_token_is_for_one_provider(phone: Make) -> None:
    url = phone("telnyx").ring()
    with pytest.raises(InvalidStatus, match="403"):
        phone("twilio").open(url.replace("telnyx", "twilio"))


@pytest.mark.parametrize("name", ["genesys", "plivo", "vonage"])
def test_a_signed_upgrade_is_good_once(phone: Make, name: str) -> None:
    call = phone(name)
    url = call.ring()
    path = url.partition("voice.example.com")[2]
    headers = call.upgrade_headers(path)
    call.open(url, headers=headers)
    with pytest.raises(InvalidStatus, match="403"):
        phone(name).open(url, headers=headers)


def test_a_socket_of_another_call_is_refused_and_harms_nobody(phone: Make, rows: Rows) -> None:
    mine, theirs = phone("telnyx"), phone("telnyx")
    url = mine.ring()
    theirs.ring()
    theirs.open(url)
    theirs.start()
    theirs.listen(1.0)
    assert theirs.close_code == 1008
    assert rows.session(mine.call_id)["state"] == "created"
    mine.open(url)
    mine.start()
    assert mine.listen(0.4)
    mine.hang_up()


@pytest.mark.parametrize("name", list(PHONES))
def test_a_socket_that_never_says_which_call_is_closed(phone: Make, name: str) -> None:
    call = phone(name)
    call.open(call.ring())
    assert call.wait_closed() == 1008


HOSTILE: list[str | bytes] = [
    "",
    "no JSON",
    "[" * 100_000,
    json.dumps({"event": "media", "media": {"payload": "AAAA"}}),
    json.dumps({"event": "start", "start": {}}),
    json.dumps({"event": ["start"]}),
    b"\x00" * 640,
    json.dumps({"version": "2", "type": "open", "id": "1", "seq": 1, "serverseq": 0}),
]


@pytest.mark.parametrize("name", list(PHONES))
def test_hostile_messages_before_the_start_close_the_socket(
    phone_server: Server, phone: Make, name: str
) -> None:
    call = phone(name)
    call.open(call.ring())
    with suppress(ConnectionClosed):
        for message in HOSTILE:
            call.socket.send(message)
    assert call.wait_closed() == 1007
    assert "Traceback" not in phone_server.log_tail()


@pytest.mark.parametrize("name", list(PHONES))
def test_a_message_of_a_megabyte_closes_the_socket(phone: Make, name: str) -> None:
    call = phone(name)
    call.open(call.ring())
    call.start()
    call.socket.send("x" * 1_000_000)
    assert call.wait_closed() == 1009


@pytest.mark.parametrize("name", list(PHONES))
def test_hostile_messages_in_a_call_hurt_nobody(
    phone_server: Server, phone: Make, name: str
) -> None:
    call, other = phone(name), phone("twilio")
    other.call()
    call.call()
    for message in HOSTILE:
        call.socket.send(message)
    assert other.listen(0.6)
    other.hang_up()
    assert "Traceback" not in phone_server.log_tail()


def test_telnyx_events_are_noted_once(phone: Make, rows: Rows, provider_api: ProviderApi) -> None:
    call = phone("telnyx")
    assert isinstance(call, TelnyxPhone)
    stream_url(call.webhook("/voice/telnyx/answer/", call.answer_fields())[1])
    for event in ("call.answered", "streaming.started", "call.answered", "streaming.started"):
        assert call.control("/voice/telnyx/status/", event)[0] == 200
    assert rows.events(call.call_id, "call") == ["in-progress", "streaming.started"]


def test_an_upgrade_of_genesys_opens_one_socket_in_all_processes(
    serve: Serve, provider_api: ProviderApi
) -> None:
    known = environment(provider_api.url)
    first = serve("uvicorn", environment=known)
    second = serve("uvicorn", environment={**known, "DATABASE_URL": f"sqlite:///{first.database}"})
    phones = [GenesysPhone(server) for server in (first, second, first)]
    url = phones[0].ring()
    headers = phones[0].upgrade_headers("/ws/voice/genesys/")
    phones[0].open(url, headers)
    for phone in phones[1:]:
        with pytest.raises(InvalidStatus, match="403"):
            phone.open(url, headers)
    # It is the nonce that was used, not the process that refuses.
    phones[1].open(url)


@pytest.mark.parametrize("what", ["answer", "status"])
@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("text", ["a\0b", "a\ud83db", "a\n\x1b[31mb"], ids=ascii)
def test_what_no_database_and_no_log_takes(phone: Make, name: str, what: str, text: str) -> None:
    call = phone(name)
    target = f"/voice/{name}/{what}/"
    fields = call.answer_fields()
    for field in fields:
        try:
            status, _text = call.webhook(target, {**fields, field: text})
        except UnicodeEncodeError:  # a form can't have it
            continue
        assert status in (200, 400), field
    assert "\x1b[31m" not in call.server.log_tail()
