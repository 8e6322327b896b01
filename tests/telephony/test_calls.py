"""Calls of every provider against a real server."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.telephony.conftest import Rows
from tests.telephony.phones import OURS, PHONES, THEIRS, GenesysPhone, Phone, TelnyxPhone
from tests.telephony.provider_api import ProviderApi

Make = Callable[[str], Phone]
ALL = list(PHONES)
#: Bytes per second of the bot's audio, on the wire.
RATES = {"exotel": 16000, "vonage": 32000}
GREETING_SECS = 0.5


@pytest.mark.parametrize("name", ALL)
def test_a_call_from_the_greeting_to_the_bots_hang_up(
    phone: Make, rows: Rows, provider_api: ProviderApi, name: str
) -> None:
    call = phone(name)
    call.call()
    heard = call.listen(1.2)
    rate = RATES.get(name, 8000)
    # Complete to the last frame, and padded to a packet where the provider wants that.
    assert GREETING_SECS * rate <= len(heard) <= (GREETING_SECS + 0.45) * rate
    session = rows.session(call.call_id)
    assert session["state"] == "active"
    assert (session["kind"], session["provider"], session["direction"]) == (
        "phone",
        name,
        "inbound",
    )
    assert (session["from_number"], session["to_number"]) == (THEIRS, OURS)
    assert session["bot"] == "ivr"
    call.press("9")
    call.listen(4.0)
    assert call.close_code == 1000
    session = rows.hung_up(call.call_id)
    assert (session["state"], session["close_code"]) == ("ended", 1000)
    asked = provider_api.about(call.call_id)
    if name in ("exotel", "genesys"):
        assert asked == []
        assert session["hang_up"] == "ended with its stream"
    else:
        assert len(asked) == 1
        assert session["hang_up"] == "done, status 200"
    if isinstance(call, GenesysPhone):
        assert [m["type"] for m in call.messages if m["type"] in ("opened", "closed")] == [
            "opened",
            "closed",
        ]


@pytest.mark.parametrize("name", ALL)
def test_the_caller_hangs_up(phone: Make, rows: Rows, provider_api: ProviderApi, name: str) -> None:
    call = phone(name)
    call.call()
    call.listen(0.3)
    call.hang_up()
    session = rows.ended(call.call_id)
    assert session["close_code"] == 1001
    # The provider has ended the call itself: there is nothing to ask of it.
    assert provider_api.about(call.call_id) == []
    assert session["hang_up"] == ""


#: What each provider says in its start of a stream that can't be played.
UNPLAYABLE: dict[str, dict[str, Any]] = {
    "twilio": {"mediaFormat": {"encoding": "audio/opus", "sampleRate": 48000}},
    "telnyx": {"media_format": {"encoding": "AMR-WB", "sample_rate": 16000}},
    "plivo": {"mediaFormat": {"encoding": "audio/opus", "sampleRate": 48000}},
    "exotel": {"media_format": {"encoding": "opus", "sample_rate": "8000"}},
    "vonage": {"content-type": "audio/opus"},
    "genesys": {"media": [{"type": "audio", "format": "PCMU", "channels": ["internal"]}]},
}


@pytest.mark.parametrize("name", ALL)
def test_a_call_that_cannot_be_played_is_ended_as_the_provider_does_it(
    phone: Make, rows: Rows, provider_api: ProviderApi, name: str
) -> None:
    call = phone(name)
    call.open(call.ring())
    call.start(**UNPLAYABLE[name])
    call.listen(5.0)
    assert call.close_code == 1007
    assert not call.heard
    if isinstance(call, GenesysPhone):
        # No session: nothing of a call has begun.
        assert [message["type"] for message in call.messages] == ["disconnect", "closed"]
        assert call.messages[0]["parameters"]["reason"] == "error"
        return
    session = rows.ended(call.call_id)
    assert session["close_code"] == 1007
    assert "expected" in session["end_reason"]
    if name != "exotel":
        rows.hung_up(call.call_id)
        assert len(provider_api.about(call.call_id)) == 1


@pytest.mark.parametrize("name", ["telnyx", "genesys"])
def test_a_call_that_says_nothing_of_itself_is_ended(
    phone: Make, rows: Rows, provider_api: ProviderApi, name: str
) -> None:
    call = phone(name)
    call.open(call.ring())
    for _ in range(3):
        call.send("no JSON")
    assert call.wait_closed() == 1007
    if name == "telnyx":
        rows.hung_up(call.call_id)
        assert len(provider_api.about(call.call_id)) == 1


@pytest.mark.parametrize("name", ["twilio", "plivo"])
def test_a_socket_that_breaks_has_the_call_hung_up(
    phone: Make, rows: Rows, provider_api: ProviderApi, name: str
) -> None:
    call = phone(name)
    call.call()
    call.listen(0.2)
    call.socket.socket.shutdown(socket.SHUT_RDWR)
    rows.hung_up(call.call_id)
    assert len(provider_api.about(call.call_id)) == 1


@pytest.mark.parametrize(
    ("name", "event"), [("twilio", "clear"), ("telnyx", "clear"), ("plivo", "clearAudio")]
)
def test_keys_work_and_a_key_silences_what_is_queued(phone: Make, name: str, event: str) -> None:
    call = phone(name)
    call.call()
    call.listen(0.8)
    call.press("2")
    ladder = call.listen(0.3)
    assert ladder
    call.press("5")
    call.listen(0.1)
    assert call.events(event)
    # What follows a clear is nothing, whatever waited.
    assert not call.listen(0.8)
    call.hang_up()


def test_marks_follow_the_audio_they_are_about(phone: Make) -> None:
    call = phone("twilio")
    call.call()
    call.listen(1.0)
    kinds = [message["event"] for message in call.messages]
    assert kinds.index("mark") == len(kinds) - 1
    call.hang_up()


@pytest.mark.parametrize("name", ["twilio", "vonage"])
def test_echo(phone: Make, name: str) -> None:
    call = phone(name)
    call.call("?bot=echo")
    heard = call.listen(1.0)
    assert len(heard) > 0.7 * RATES.get(name, 8000)
    call.hang_up()


def test_telnyx_call_control_is_answered_by_a_command(
    phone: Make, rows: Rows, provider_api: ProviderApi
) -> None:
    call = phone("telnyx")
    assert isinstance(call, TelnyxPhone)
    for _ in range(2):
        target = "/voice/telnyx/answer/"
        event = call.control(target, "call.initiated", direction="incoming", state="parked")
        assert event == (200, "")
    (command,) = provider_api.about("CA")[-1:]
    assert command.path == f"/v2/calls/{call.call_id}/actions/answer"
    assert len(provider_api.about(call.call_id)) == 1
    assert command.authorization == "Bearer KEY1"
    call.open(command.body["stream_url"])
    call.start()
    assert call.listen(0.5)
    assert call.control("/voice/telnyx/answer/", "call.hangup", hangup_cause="normal_clearing") == (
        200,
        "",
    )
    call.listen(2.0)
    assert call.close_code == 1001
    session = rows.ended(call.call_id)
    assert (session["call_status"], session["hang_up"]) == ("completed", "")


def test_a_probe_of_genesys_is_answered_and_wakes_no_bot(phone: Make, rows: Rows) -> None:
    call = phone("genesys")
    assert isinstance(call, GenesysPhone)
    call.is_probe = True
    call.open(call.ring())
    call.start()
    call.listen(0.3)
    call.say("ping", rtt="PT0S")
    call.listen(0.3)
    call.say("close", reason="end")
    heard = call.listen(5.0)
    assert [message["type"] for message in call.messages] == ["opened", "pong", "closed"]
    assert not heard
    found = rows.ask("SELECT * FROM voicews_voicesession WHERE call_id LIKE '00000000-%'")
    assert found == []


def test_the_number_chooses_the_bot(phone: Make, rows: Rows) -> None:
    with_rows = "INSERT INTO voicews_phonenumber (number, provider, bot) VALUES (?, ?, ?)"
    with sqlite3.connect(rows._path) as connection:
        connection.execute(with_rows, ("+15559990000", "", "parrot"))
        connection.execute(with_rows, ("+15559990000", "twilio", "echo"))
    for name, bot in (("twilio", "echo"), ("telnyx", "parrot")):
        call = phone(name)
        fields = {**call.answer_fields(), "To": "+15559990000"}
        assert call.webhook(f"/voice/{name}/answer/", fields)[0] == 200
        assert rows.session(call.call_id)["bot"] == bot
