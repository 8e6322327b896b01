"""The parts of phone calls that need no server: tokens, settings, checks, the admin."""

from __future__ import annotations

import uuid
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client, override_settings
from django.urls import clear_script_prefix, set_script_prefix

from voicews import conf
from voicews.checks import check_providers
from voicews.exceptions import CallFailed, NotAllowed
from voicews.management.commands import voicews_call
from voicews.models import PhoneNumber, VoiceSession
from voicews.telephony import PROVIDERS, create_provider, store
from voicews.telephony.calls import PhoneCall, _new_session, dial
from voicews.telephony.tokens import Purpose, check_phone_token, issue_phone_token
from voicews.testing import account_options

SESSION = uuid.uuid4()
BOTS = {"ivr": "project.bots.Ivr", "echo": "project.bots.Echo"}
TWILIO = {"account_sid": "AC1", "auth_token": "secret"}


def test_a_token_is_letters_and_digits_and_opens_one_session() -> None:
    token = issue_phone_token(Purpose.STREAM, "twilio", SESSION, 60)
    assert token.isalnum()
    assert token.isascii()
    assert check_phone_token(Purpose.STREAM, "twilio", token) == SESSION


@pytest.mark.parametrize(
    ("purpose", "provider"), [(Purpose.CALL, "twilio"), (Purpose.STREAM, "plivo")]
)
def test_a_token_is_for_one_purpose_and_provider(purpose: Purpose, provider: str) -> None:
    token = issue_phone_token(Purpose.STREAM, "twilio", SESSION, 60)
    with pytest.raises(NotAllowed, match="not valid"):
        check_phone_token(purpose, provider, token)


def test_a_token_can_be_neither_changed_nor_kept() -> None:
    token = issue_phone_token(Purpose.STREAM, "twilio", SESSION, 60)
    for position in range(len(token)):
        changed = "0" if token[position] != "0" else "1"
        with pytest.raises(NotAllowed, match="not valid"):
            check_phone_token(
                Purpose.STREAM, "twilio", token[:position] + changed + token[position + 1 :]
            )
    for wrong in ("", "x", token + "0", token.upper() + "\n"):
        with pytest.raises(NotAllowed):
            check_phone_token(Purpose.STREAM, "twilio", wrong)
    old = issue_phone_token(Purpose.STREAM, "twilio", SESSION, -5)
    with pytest.raises(NotAllowed, match="expired"):
        check_phone_token(Purpose.STREAM, "twilio", old)


def test_a_token_outlives_a_change_of_the_key() -> None:
    with override_settings(SECRET_KEY="an old key"):
        token = issue_phone_token(Purpose.STREAM, "twilio", SESSION, 60)
    with pytest.raises(NotAllowed):
        check_phone_token(Purpose.STREAM, "twilio", token)
    with override_settings(SECRET_KEY_FALLBACKS=["an old key"]):
        assert check_phone_token(Purpose.STREAM, "twilio", token) == SESSION


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "expected a dict"),
        ({"nobody": {}}, "expected providers of"),
        ({"twilio": None}, "expected a dict of options"),
    ],
)
def test_settings_that_are_none(value: Any, problem: str) -> None:
    (found,) = conf.read({"PROVIDERS": value})[1]
    assert problem in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("public_url", "providers", "problem"),
    [
        ("https://a.example", {"twilio": TWILIO}, ""),
        ("wss://a.example", {"twilio": TWILIO}, ""),
        (None, {"twilio": TWILIO}, "PUBLIC_URL"),
        ("https://a.example", {"twilio": {"account_sid": "AC1"}}, "missing options auth_token"),
        (
            "https://a.example",
            {"twilio": {**TWILIO, "auth_token": ""}},
            "missing options auth_token",
        ),
        (
            "https://a.example",
            {"twilio": {**TWILIO, "auth_token": b"secret"}},
            "auth_token: expected",
        ),
        (
            "https://a.example",
            {"twilio": {**TWILIO, "auth_token": "\ud83d"}},
            "auth_token: expected",
        ),
        ("https://a.example", {"twilio": {**TWILIO, "tokn": "secret"}}, "unknown options tokn"),
    ],
)
def test_a_provider_that_lacks_something_is_an_error(
    public_url: str | None, providers: Any, problem: str
) -> None:
    with override_settings(VOICEWS={"PUBLIC_URL": public_url, "PROVIDERS": providers}):
        messages = check_providers()
    assert [message.id for message in messages] == (["voicews.E005"] if problem else [])
    assert all(problem in message.msg and "secret" not in message.msg for message in messages)


def test_a_package_that_is_missing_is_an_error() -> None:
    voicews = {"PUBLIC_URL": "https://a.example", "PROVIDERS": {"twilio": TWILIO}}
    with override_settings(VOICEWS=voicews), mock.patch("importlib.util.find_spec") as find:
        find.return_value = None
        assert [message.id for message in check_providers()] == ["voicews.E006"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_test_account_lacks_nothing(name: str) -> None:
    options = PROVIDERS[name].options()
    account = account_options(name)
    assert set(account) == {one.name for one in options if one.is_required or one.needed_to}
    if "api_url" in {one.name for one in options}:
        account["api_url"] = "http://127.0.0.1:9"
    assert account_options(name, "http://127.0.0.1:9") == account
    assert create_provider(name, "https://a.example", account).name == name


@pytest.mark.django_db
def test_which_bot_answers_a_number() -> None:
    PhoneNumber.objects.create(number="+15550001111", bot="echo")
    PhoneNumber.objects.create(number="+15550001111", provider="plivo", bot="ivr")
    PhoneNumber.objects.create(number="+15550002222", bot="gone")
    with override_settings(VOICEWS={"BOTS": BOTS, "DEFAULT_BOT": "ivr"}):
        assert store.bot_for("twilio", "+15550001111") == "echo"
        assert store.bot_for("twilio", "15550001111") == "echo"
        assert store.bot_for("twilio", "+1555\0\ud83d") == "ivr"
        assert store.bot_for("plivo", "+15550001111") == "ivr"
        for number in ("+15550002222", "+1", ""):
            assert store.bot_for("twilio", number) == "ivr"


@pytest.mark.django_db
def test_a_call_that_nobody_whom_we_know_places() -> None:
    provider = create_provider("twilio", "https://a.example", account_options("twilio"))
    with override_settings(VOICEWS={"BOTS": BOTS}):
        session = _new_session(provider, "+15550002222", "+15550001111", "echo", AnonymousUser())
    assert session.user is None


def test_a_call_from_the_terminal_to_a_project_under_a_path() -> None:
    command = voicews_call.Command()
    set_script_prefix("/app/")
    try:
        with override_settings(VOICEWS={"PUBLIC_URL": "https://a.example"}):
            assert command._provider("twilio", "http://b").public_url == "https://a.example/app"
        with override_settings(VOICEWS={"PUBLIC_URL": "https://a.example/app"}):
            assert command._provider("twilio", "http://b").public_url == "https://a.example/app"
    finally:
        clear_script_prefix()


def test_webhooks_of_a_server_that_has_no_public_url(client: Client) -> None:
    with override_settings(VOICEWS={"PROVIDERS": {"twilio": TWILIO}}):
        assert client.post("/voice/twilio/answer/").status_code == 503


@pytest.mark.parametrize("number", ["", "+1 555", "+1\0", "+1\ud83d", "+1\n", "5" * 65])
async def test_a_number_that_is_none(number: str) -> None:
    with pytest.raises(ValueError, match="to: expected a number"):
        await dial("twilio", number)
    provider = create_provider("twilio", "https://a.example", account_options("twilio"))
    call = PhoneCall(provider, VoiceSession(call_id="CA1"), provider.new_serializer())
    with pytest.raises(CallFailed, match="transfer: expected a number"):
        await call.transfer(number)


@pytest.mark.django_db
def test_a_call_is_hung_up_once() -> None:
    session = VoiceSession.objects.create(kind="phone", provider="twilio", call_id="CA1", bot="ivr")
    assert store.claim_hang_up(session.pk) is not None
    assert store.claim_hang_up(session.pk) is None
    over = VoiceSession.objects.create(
        kind="phone", provider="twilio", call_id="CA2", bot="ivr", call_status="busy"
    )
    assert store.claim_hang_up(over.pk) is None


@pytest.mark.django_db
class TestAdmin:
    URL = "/admin/voicews/phonenumber/"

    @pytest.fixture
    def admin(self, settings: Any) -> Client:
        settings.VOICEWS = {"BOTS": BOTS, "DEFAULT_BOT": "ivr"}
        client = Client()
        client.force_login(User.objects.create_superuser("boss"))
        return client

    def test_numbers_are_edited(self, admin: Client) -> None:
        number = {"number": "+1 555 000 1111", "provider": "twilio", "bot": "echo"}
        assert admin.post(f"{self.URL}add/", number).status_code == 302
        assert PhoneNumber.objects.get().number == "+15550001111"
        page = admin.post(f"{self.URL}add/", {**number, "number": "me", "bot": "nobody"})
        assert "Expected digits" in page.content.decode()
        assert "not one of the available choices" in page.content.decode()

    def test_a_call_is_placed(self, admin: Client) -> None:
        number = PhoneNumber.objects.create(number="+15550001111", provider="twilio", bot="echo")
        action = {"action": "place_call", "_selected_action": [number.pk]}
        page = admin.post(self.URL, action).content.decode()
        assert "The call comes from +15550001111" in page
        confirmed = {**action, "confirmed": "1"}
        assert "valid value" in admin.post(self.URL, {**confirmed, "to": "me"}).content.decode()
        with mock.patch("voicews.admin.phone.dial", mock.AsyncMock(return_value="it")) as dial:
            answer = admin.post(self.URL, {**confirmed, "to": "+15552223333"}, follow=True)
        assert "Calling: it." in answer.content.decode()
        assert dial.await_args is not None
        assert dial.await_args.args == ("twilio", "+15552223333")
        dial = mock.AsyncMock(side_effect=CallFailed("dial: refused"))
        with mock.patch("voicews.admin.phone.dial", dial):
            answer = admin.post(self.URL, {**confirmed, "to": "+15552223333"}, follow=True)
        assert "No call: dial: refused." in answer.content.decode()

    def test_a_call_has_its_numbers_on_its_page(self, admin: Client) -> None:
        call = VoiceSession.objects.create(
            kind="phone", provider="twilio", call_id="CA77", from_number="+15552223333", bot="ivr"
        )
        page = admin.get(f"/admin/voicews/voicesession/{call.pk}/change/").content.decode()
        assert "15552223333" in page
        assert "CA77" in page
        other = VoiceSession.objects.create(bot="ivr")
        page = admin.get(f"/admin/voicews/voicesession/{other.pk}/change/").content.decode()
        assert "Phone call" not in page
