"""The endpoints under the middleware that projects have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from voicews.models import ServerProcess, VoiceSession
from voicews.telephony.views import MAX_BODY_BYTES as MAX_WEBHOOK_BYTES
from voicews.views import MAX_BODY_BYTES

pytestmark = pytest.mark.django_db(transaction=True)

CONNECT = "/voice/connect/"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
HERE = "tests.projects.middleware"

Ask = Callable[..., Any]
Use = Callable[..., None]
ANYBODY = "voicews.permissions.anybody"


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.VOICEWS = {
        "BOTS": {"echo": "project.bots.Echo"},
        "PUBLIC_URL": "https://example.com",
        "PROVIDERS": {"twilio": {"account_sid": "AC1", "auth_token": "secret"}},
    }
    settings.ALLOWED_HOSTS = ["testserver"]


async def _generic(client: Any, *args: Any, **kwargs: Any) -> Any:
    return await client.generic(*args, **kwargs)


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """A function that makes a request, under one kind of server after the other."""

    def post(
        path: str, body: bytes = b"", method: str = "POST", user: Any = None, **headers: str
    ) -> Any:
        client = Client() if request.param == "wsgi" else AsyncClient()
        if user is not None:
            client.force_login(user)
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        if request.param == "wsgi":
            return client.generic(method, path, body, "application/json", headers=extra)
        return async_to_sync(_generic)(
            client, method, path, body, "application/json", headers=extra
        )

    return post


@pytest.fixture
def use(settings: Any) -> Use:
    """A function that gives the project its middleware, and changes VOICEWS."""

    def change(*middleware: str, **voicews: Any) -> None:
        settings.MIDDLEWARE = list(middleware)
        settings.VOICEWS = {**settings.VOICEWS, **voicews}

    return change


# --- pages that ask for a login -------------------------------------------------------------------


def test_endpoints_are_not_pages_to_log_in_for(ask: Ask, use: Use) -> None:
    use(SESSION, AUTH, "django.contrib.auth.middleware.LoginRequiredMiddleware")
    response = ask(CONNECT)
    assert (response.status_code, response["Content-Type"]) == (403, "application/json")
    assert "not logged in" in response.json()["info"]
    for what in ("answer", "status", "transfer"):
        assert ask(f"/voice/twilio/{what}/").status_code == 403
    for what in ("health", "ready"):
        assert ask(f"/voice/{what}/", method="GET").status_code == 200
    # A page is the project's to protect.
    assert ask("/voice/demo/", method="GET").status_code == 302
    assert ask(CONNECT, user=User.objects.create_user("someone")).status_code == 200


# --- whose call it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "middleware",
    [
        (SESSION, AUTH, f"{HERE}.token_user"),
        (SESSION, AUTH, f"{HERE}.lazy_token_user"),
        (SESSION, AUTH, f"{HERE}.AsyncTokenUser"),
        (f"{HERE}.token_user",),
        (f"{HERE}.lazy_token_user",),
        (f"{HERE}.AsyncTokenUser",),
    ],
    ids=lambda names: "+".join(name.rpartition(".")[2] for name in names),
)
def test_the_user_is_whom_the_middleware_says(
    ask: Ask, use: Use, middleware: tuple[str, ...]
) -> None:
    use(*middleware)
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    assert ask(CONNECT, Authorization="Token ann").status_code == 200
    assert VoiceSession.objects.get().user == ann
    # Bob is logged in, and acts for Ann.
    assert ask(CONNECT, user=bob, Authorization="Token ann").status_code == 200
    assert set(VoiceSession.objects.values_list("user", flat=True)) == {ann.pk}
    assert ask(CONNECT, Authorization="Token nobody").status_code == 403
    VoiceSession.objects.all().delete()
    if AUTH in middleware:
        assert ask(CONNECT, user=bob).status_code == 200
        assert VoiceSession.objects.get().user == bob


def test_a_token_for_nobody_logs_its_bearer_out(ask: Ask, use: Use) -> None:
    use(SESSION, AUTH, f"{HERE}.lazy_token_user")
    bob = User.objects.create_user("bob")
    assert ask(CONNECT, user=bob, Authorization="Token nobody").status_code == 403


def test_without_any_middleware(ask: Ask, use: Use) -> None:
    use()
    assert ask(CONNECT).status_code == 403
    use(MAY_CONNECT=ANYBODY)
    assert ask(CONNECT).status_code == 200
    assert VoiceSession.objects.get().user is None


def test_a_user_whom_no_table_has(ask: Ask, use: Use) -> None:
    use(f"{HERE}.stateless_user", MAX_SESSIONS_PER_USER=1)
    for _ in range(2):
        assert ask(CONNECT).status_code == 200
    assert set(VoiceSession.objects.values_list("user", flat=True)) == {None}


# --- who reads the body ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "limit", "status"),
    [(CONNECT, MAX_BODY_BYTES, 200), ("/voice/twilio/status/", MAX_WEBHOOK_BYTES, 403)],
)
def test_middleware_may_read_the_body_after_the_view(
    ask: Ask, use: Use, path: str, limit: int, status: int
) -> None:
    use(f"{HERE}.body_reader", MAY_CONNECT=ANYBODY)
    body = json.dumps({"bot": "echo"}).encode()
    response = ask(path, body)
    assert (response.status_code, response["X-Body-Length"]) == (status, str(len(body)))
    response = ask(path, body.ljust(limit))
    assert (response.status_code, response["X-Body-Length"]) == (status, str(limit))
    assert ask(path, body.ljust(limit + 1)).status_code == 413


# --- WSGI -----------------------------------------------------------------------------------------


def test_probes_of_a_wsgi_server_add_no_process(client: Client) -> None:
    for _ in range(3):
        assert client.get("/voice/ready/").json() == {"ready": True}
        report = client.get("/voice/health/").json()
    assert (report["status"], report["state"]) == ("ok", "wsgi")
    assert not ServerProcess.objects.exists()
