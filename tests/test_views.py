from __future__ import annotations

import json
import re
import uuid
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings

from voicews.models import VoiceSession
from voicews.security.tokens import check_token
from voicews.views import ConnectView, bot_choices

pytestmark = pytest.mark.django_db

URL = "/voice/connect/"
BOTS = {
    "echo": "tests.test_views.EchoBot",
    "desk": {"class": "tests.test_views.EchoBot", "label": "Front desk", "description": "Hello."},
}


class EchoBot:
    """Says it again.

    More than a line.
    """


async def only_echo(user: object, bot_name: str, request: HttpRequest) -> bool:
    return bot_name == "echo" and request.method == "POST"


def decorated(function: Any) -> Any:
    """As a decorator that has not heard of `async`."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class OnlyEcho:
    async def __call__(self, user: object, bot_name: str, request: HttpRequest) -> bool:
        return bot_name == "echo"


only_echo_decorated = decorated(only_echo)
only_echo_object = OnlyEcho()


def may_not(user: object, bot_name: str, request: HttpRequest) -> bool:
    raise RuntimeError("a secret")


@pytest.fixture(autouse=True)
def _project() -> Any:
    with override_settings(
        VOICEWS={"BOTS": BOTS, "MAY_CONNECT": "voicews.permissions.anybody"},
        ALLOWED_HOSTS=["testserver", "example.com"],
        DEBUG=False,
    ):
        yield


def post(client: Client, body: Any = None, **headers: str) -> Any:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
    return client.post(URL, data, content_type="application/json", headers=headers or None)


def answer(view: Any, request: HttpRequest) -> Any:
    return async_to_sync(view)(request)


def test_connect_answers_socket_and_token(client: Client) -> None:
    response = post(client, {"bot": "desk"})
    assert response.status_code == 200
    assert set(response.json()) == {"ws_url", "token"}
    found = re.fullmatch(r"ws://testserver/ws/voice/([0-9a-f-]{36})/", response.json()["ws_url"])
    assert found
    session = VoiceSession.objects.get()
    assert session.id == uuid.UUID(found[1])
    assert (session.bot, session.kind, session.state) == ("desk", "browser", "created")
    assert session.user is None
    assert session.client_address == "127.0.0.1"
    check_token(response.json()["token"], session.id)
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("body", [None, b"  ", {}, {"bot": None}, {"bot": ""}, {"other": [1]}])
def test_the_default_bot(client: Client, body: Any) -> None:
    assert post(client, body).status_code == 200
    assert VoiceSession.objects.get().bot == "echo"


def test_a_post_of_nothing(client: Client) -> None:
    assert client.generic("POST", URL).status_code == 200


def test_a_form_is_not_understood(client: Client) -> None:
    assert client.post(URL, {"bot": "echo"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "info"),
    [
        (b"{", 400, "expected a JSON object"),
        (b"[]", 400, "expected a JSON object"),
        (b'"echo"', 400, "expected a JSON object"),
        (b"\xff\xfe{", 400, "expected a JSON object"),
        (b"[" * 16_000, 400, "expected a JSON object"),
        ({"bot": 7}, 400, "bot: expected a string"),
        ({"bot": "nobody"}, 404, "there is no such bot"),
        (b" " * 16_385, 413, "expected at most 16384 bytes"),
    ],
)
def test_what_is_not_understood(client: Client, body: Any, status: int, info: str) -> None:
    response = post(client, body)
    assert (response.status_code, response.json()) == (status, {"info": info})
    assert not VoiceSession.objects.exists()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(client: Client, method: str) -> None:
    response = client.generic(method, URL)
    assert response.status_code == 405
    assert response["Allow"] == "POST, OPTIONS"
    assert response["Content-Type"] == "application/json"


@override_settings(VOICEWS={})
def test_no_bots_at_all(client: Client) -> None:
    assert post(client).status_code == 404


@override_settings(VOICEWS={"BOTS": BOTS})
def test_users_who_are_logged_in_may_connect_by_default(client: Client) -> None:
    response = post(client)
    assert response.status_code == 403
    assert response.json() == {"info": "you may not connect to this bot: you are not logged in"}
    user = User.objects.create_user("someone")
    client.force_login(user)
    assert post(client).status_code == 200
    assert VoiceSession.objects.get().user == user


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("/admin/login/", "/admin/login/"),
        ("admin:login", "/admin/login/"),
        ("https://login.example/?a=b", "https://login.example/?a=b"),
        # Django's default: this project has no such page.
        ("/accounts/login/", None),
        ("no-such-view", None),
    ],
)
def test_who_is_not_logged_in_learns_where_to(
    client: Client, setting: str, url: str | None
) -> None:
    with override_settings(VOICEWS={"BOTS": BOTS}, LOGIN_URL=setting):
        assert post(client).json().get("login_url") == url
        with override_settings(
            VOICEWS={"BOTS": BOTS, "MAY_CONNECT": "tests.test_views.only_echo"},
        ):
            client.force_login(User.objects.create_user("someone"))
            refused = post(client, {"bot": "desk"})
            assert refused.status_code == 403
            assert "login_url" not in refused.json()


@override_settings(VOICEWS={"BOTS": BOTS, "MAY_CONNECT": "tests.test_views.only_echo"})
def test_a_function_of_the_project_decides(client: Client) -> None:
    assert post(client, {"bot": "echo"}).status_code == 200
    assert post(client, {"bot": "desk"}).status_code == 403


@pytest.mark.parametrize("name", ["only_echo_decorated", "only_echo_object"])
def test_a_function_that_is_async_in_disguise(client: Client, name: str) -> None:
    with override_settings(VOICEWS={"BOTS": BOTS, "MAY_CONNECT": f"tests.test_views.{name}"}):
        assert post(client, {"bot": "echo"}).status_code == 200
        assert post(client, {"bot": "desk"}).status_code == 403


def test_no_csrf_token_is_needed() -> None:
    assert post(Client(enforce_csrf_checks=True)).status_code == 200


def test_errors_are_json_and_say_nothing(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(
        VOICEWS={"BOTS": BOTS, "MAY_CONNECT": "tests.test_views.may_not"}, DEBUG=True
    ):
        response = post(client)
    assert (response.status_code, response.json()) == (500, {"info": "server error"})
    assert "connect: failed" in caplog.text


def test_a_database_that_is_away(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with mock.patch.object(VoiceSession.objects, "acreate", side_effect=OperationalError("away")):
        response = post(client)
    assert (response.status_code, response.json()) == (503, {"info": "try again later"})
    assert "connect: the database failed" in caplog.text


def test_a_request_that_breaks_off() -> None:
    from django.http.request import UnreadablePostError

    request = RequestFactory().post(URL)
    with mock.patch.object(request, "read", side_effect=UnreadablePostError("gone")):
        response = answer(ConnectView.as_view(), request)
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("public_url", "base"),
    [
        ("https://voice.example.com", "wss://voice.example.com"),
        ("http://localhost:8080/", "ws://localhost:8080"),
        ("https://example.com/base/", "wss://example.com/base"),
        ("wss://example.com", "wss://example.com"),
    ],
)
def test_the_public_url_says_where_the_sockets_are(
    client: Client, public_url: str, base: str
) -> None:
    with override_settings(VOICEWS={**voicews(), "PUBLIC_URL": public_url}):
        assert post(client).json()["ws_url"].startswith(f"{base}/ws/voice/")


def voicews() -> dict[str, Any]:
    from django.conf import settings

    return dict(settings.VOICEWS)


def test_a_secure_page_gets_a_secure_socket(client: Client) -> None:
    response = client.generic("POST", URL, secure=True)
    assert response.json()["ws_url"].startswith("wss://testserver/ws/voice/")


def test_a_path_prefix_is_kept(client: Client) -> None:
    response = client.generic("POST", URL, SCRIPT_NAME="/prefix")
    assert response.json()["ws_url"].startswith("ws://testserver/prefix/ws/voice/")


def test_a_socket_address_is_no_address(client: Client) -> None:
    client.generic("POST", URL, REMOTE_ADDR="")
    assert VoiceSession.objects.get().client_address is None


def test_a_very_long_user_agent_is_cut(client: Client) -> None:
    post(client, **{"User-Agent": "x" * 1000})
    assert VoiceSession.objects.get().user_agent == "x" * 300


# Pages of other sites


def test_our_own_page(client: Client) -> None:
    response = post(client, Origin="https://example.com")
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == "https://example.com"
    assert response["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response["Vary"]


@pytest.mark.parametrize("origin", ["https://evil.com", "null", "file://"])
def test_a_foreign_page_gets_and_reads_nothing(client: Client, origin: str) -> None:
    for response in (post(client, Origin=origin), client.options(URL, headers={"Origin": origin})):
        assert response.status_code == 403
        reason = f"pages of {origin} may not connect: not in ALLOWED_HOSTS"
        assert response.json() == {"info": reason}
        assert "Access-Control-Allow-Origin" not in response
    assert not VoiceSession.objects.exists()


def test_an_allowed_page_can_read_a_refusal(client: Client) -> None:
    with override_settings(VOICEWS={"BOTS": BOTS}):
        response = post(client, Origin="https://example.com")
    assert response.status_code == 403
    assert response["Access-Control-Allow-Origin"] == "https://example.com"


def test_a_page_may_ask_beforehand(client: Client) -> None:
    response = client.options(
        URL,
        headers={
            "Origin": "https://example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, x-own",
        },
    )
    assert response.status_code == 204
    assert response["Access-Control-Allow-Origin"] == "https://example.com"
    assert response["Access-Control-Allow-Methods"] == "POST"
    assert response["Access-Control-Allow-Headers"] == "content-type, x-own"


def test_everybodys_pages_read_without_cookies(client: Client) -> None:
    with override_settings(VOICEWS={**voicews(), "ALLOWED_ORIGINS": ["*"]}):
        response = post(client, Origin="https://evil.com")
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response


def test_a_host_that_is_not_ours(rf: RequestFactory) -> None:
    request = rf.post(URL, headers={"Host": "evil.com"})
    response = answer(ConnectView.as_view(), request)
    assert response.status_code == 400
    assert json.loads(response.content) == {"info": "Host is not in ALLOWED_HOSTS"}


# A project's own endpoint


def test_an_endpoint_for_one_bot_and_another_socket(rf: RequestFactory) -> None:
    view = ConnectView.as_view(bot="desk", websocket_path="/ws/desk/{session}")

    def ask(body: str) -> Any:
        request = rf.post(URL, body, content_type="application/json")
        return answer(view, request)

    found = json.loads(ask("").content)
    session = VoiceSession.objects.get()
    assert session.bot == "desk"
    assert found["ws_url"] == f"ws://testserver/ws/desk/{session.id}"
    assert ask('{"bot": "desk"}').status_code == 200
    assert ask('{"bot": "echo"}').status_code == 404


# The demo page


def test_bots_describe_themselves() -> None:
    assert bot_choices() == [
        {"name": "echo", "label": "Echo bot", "description": "Says it again."},
        {"name": "desk", "label": "Front desk", "description": "Hello."},
    ]


def test_the_demo_page(client: Client) -> None:
    response = client.get("/voice/demo/")
    assert response.status_code == 200
    config = response.context["config"]
    assert config["connectUrl"] == URL
    assert config["defaultBot"] == "echo"
    assert [bot["name"] for bot in config["bots"]] == ["echo", "desk"]


def test_the_demo_page_runs_no_inline_code(client: Client) -> None:
    response = client.get("/voice/demo/")
    policy = dict(
        directive.split(" ", 1) for directive in response["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://testserver"
    html = response.content.decode()
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", html)
    for tag in re.findall(r"<script[^>]*>", html):
        assert " src=" in tag or 'type="application/json"' in tag


@override_settings(STATIC_URL="https://cdn.example.com/static/")
def test_static_files_may_be_elsewhere(rf: RequestFactory) -> None:
    from voicews.views import DemoView

    response = DemoView.as_view()(rf.get("/voice/demo/"))
    assert "script-src 'self' https://cdn.example.com;" in response["Content-Security-Policy"]


def test_the_home_page(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert b"/voice/demo/" in response.content
