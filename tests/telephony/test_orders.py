"""What we ask of providers: to call, to hang up, to transfer, to press keys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.server_processes import ROOT, Server
from tests.telephony.conftest import Rows
from tests.telephony.phones import OURS, PUBLIC_URL, THEIRS, Phone, PlivoPhone, stream_url
from tests.telephony.provider_api import Asked, ProviderApi

Make = Callable[[str], Phone]


def manage(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=server._environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def target(url: str) -> str:
    """The path and query of a URL of ours."""
    assert urlsplit(url).hostname == "voice.example.com"
    return "/" + url.split("/", 3)[3]


def dial(server: Server, api: ProviderApi, name: str) -> Asked:
    before = len(api.asked)
    done = manage(server, "voicews_dial", name, THEIRS, "--from", OURS, "--bot", "ivr")
    assert done.returncode == 0, done.stderr
    (asked,) = api.asked[before:]
    return asked


def test_twilio_is_told_where_to_ask(
    phone_server: Server, provider_api: ProviderApi, phone: Make, rows: Rows
) -> None:
    asked = dial(phone_server, provider_api, "twilio")
    assert (asked.body["To"], asked.body["From"]) == (THEIRS, OURS)
    call = phone("twilio")
    call.call_id = f"CAdialed{len(provider_api.asked)}"
    session = rows.session(call.call_id)
    assert (session["direction"], session["state"]) == ("outbound", "created")
    fields = {**call.answer_fields(), "Direction": "outbound-api", "CallStatus": "in-progress"}
    status, text = call.webhook(target(asked.body["Url"]), fields)
    assert status == 200
    call.open(stream_url(text))
    call.start()
    assert call.listen(0.5)
    assert rows.session(call.call_id)["id"] == session["id"]
    call.hang_up()


def test_plivo_says_which_call_it_is_when_it_asks(
    phone_server: Server, provider_api: ProviderApi, phone: Make, rows: Rows
) -> None:
    asked = dial(phone_server, provider_api, "plivo")
    call = phone("plivo")
    assert isinstance(call, PlivoPhone)
    fields = {**call.answer_fields(), "Direction": "outbound"}
    assert call.webhook(target(asked.body["ring_url"]), {**fields, "Event": "Ring"})[0] == 200
    session = rows.session(call.call_id)
    assert (session["direction"], session["call_status"]) == ("outbound", "ringing")
    status, text = call.webhook(target(asked.body["answer_url"]), fields)
    assert status == 200
    call.open(stream_url(text))
    call.start()
    assert call.listen(0.5)
    # Another call can't have this one's session.
    other = phone("plivo")
    assert "<Hangup" in other.webhook(target(asked.body["answer_url"]), other.answer_fields())[1]
    call.hang_up()


def test_telnyx_is_told_at_once(
    phone_server: Server, provider_api: ProviderApi, phone: Make, rows: Rows
) -> None:
    asked = dial(phone_server, provider_api, "telnyx")
    call = phone("telnyx")
    call.call_id = f"v3:dialed{len(provider_api.asked)}"
    call.open(asked.body["stream_url"])
    call.start()
    assert call.listen(0.5)
    assert rows.session(call.call_id)["state"] == "active"
    assert asked.body["webhook_url"].startswith(f"{PUBLIC_URL}/voice/telnyx/status/?call=")
    call.hang_up()


def test_exotel_gets_its_credentials_in_the_urls(
    phone_server: Server, provider_api: ProviderApi
) -> None:
    asked = dial(phone_server, provider_api, "exotel")
    for name in ("StreamUrl", "StatusCallback"):
        assert asked.body[name].split("//")[1].startswith("exo:exo-secret@voice.example.com/")


def test_calls_that_cannot_be_placed(
    phone_server: Server, provider_api: ProviderApi, rows: Rows
) -> None:
    numbers = (THEIRS, "--from", OURS)
    for arguments, problem in (
        (("nobody", *numbers), "not configured"),
        (("genesys", *numbers), "places no calls"),
        (("twilio", *numbers, "--bot", "nobody"), "expected a bot"),
    ):
        done = manage(phone_server, "voicews_dial", *arguments)
        assert done.returncode == 1
        assert problem in done.stderr
    provider_api.statuses = [400]
    done = manage(phone_server, "voicews_dial", "twilio", *numbers)
    assert "refused, status 400" in done.stderr
    newest = "SELECT * FROM voicews_voicesession ORDER BY created_at DESC LIMIT 1"
    (session,) = rows.ask(newest)
    assert (session["state"], session["call_status"]) == ("ended", "failed")


@pytest.mark.parametrize(
    ("statuses", "result"),
    [([503, 429], "done, status 200"), ([404], "already ended, status 404")],
)
def test_a_hang_up_is_tried_again(
    phone: Make, rows: Rows, provider_api: ProviderApi, statuses: list[int], result: str
) -> None:
    call = phone("plivo")
    call.call()
    call.listen(0.7)
    provider_api.statuses = list(statuses)
    call.press("9")
    call.listen(2.0)
    assert rows.hung_up(call.call_id)["hang_up"] == result
    assert rows.events(call.call_id, "hang-up") == [result]


@pytest.mark.parametrize("name", ["twilio", "telnyx", "vonage"])
def test_a_transfer_is_no_hang_up(
    phone: Make, rows: Rows, provider_api: ProviderApi, name: str
) -> None:
    call = phone(name)
    call.call("?bot=operator")
    call.press("1")
    call.listen(0.6)
    asked = provider_api.wait_about(call.call_id)
    assert "15557770000" in str(asked.body)
    call.socket.close(1011)
    session = rows.ended(call.call_id)
    assert session["hang_up"] == "transferred"
    assert len(provider_api.about(call.call_id)) == 1


def test_plivo_fetches_the_order_to_transfer(
    phone: Make, rows: Rows, provider_api: ProviderApi
) -> None:
    call = phone("plivo")
    call.call("?bot=operator")
    call.press("1")
    call.listen(0.6)
    asked = provider_api.wait_about(call.call_id)
    status, text = call.webhook(target(asked.body["aleg_url"]), call.answer_fields())
    assert status == 200
    assert "<Dial><Number>15557770000</Number></Dial>" in text
    call.hang_up()


def test_keys_by_request_by_message_and_as_tones(phone: Make, provider_api: ProviderApi) -> None:
    telnyx, plivo, twilio = (phone(name) for name in ("telnyx", "plivo", "twilio"))
    for call in (telnyx, plivo, twilio):
        call.call("?bot=operator")
        call.press("2")
        call.listen(1.0)
    (asked,) = provider_api.about(telnyx.call_id)
    assert asked.path.endswith("/send_dtmf")
    assert asked.body["digits"] == "12#"
    assert plivo.events("sendDTMF") == [{"event": "sendDTMF", "dtmf": "12#"}]
    # Three tones of 120 ms, each with a pause of 80 ms.
    assert len(twilio.heard) == 3 * 200 * 8
    for call in (telnyx, plivo, twilio):
        call.hang_up()


def test_an_operator_ends_a_call(
    phone_server: Server, phone: Make, rows: Rows, provider_api: ProviderApi
) -> None:
    call = phone("twilio")
    call.call()
    call.listen(0.3)
    session = rows.session(call.call_id)["id"]
    code = (
        f"from voicews.sessions.operators import end_session\nend_session('{session}', 'enough')\n"
    )
    done = manage(phone_server, "shell", "-c", code)
    assert done.returncode == 0, done.stderr
    call.listen(6.0)
    assert call.close_code == 4002
    assert rows.hung_up(call.call_id)["end_reason"] == "enough"
    assert len(provider_api.about(call.call_id)) == 1
