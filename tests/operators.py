"""Users of a test server's admin, and a past for it to show."""

from __future__ import annotations

import http.cookiejar
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from datetime import timedelta
from pathlib import Path

from tests.projects.proxy import ReverseProxy
from tests.server_processes import ROOT, Server, server_environment

PASSWORD = "a password for tests"
#: Users, and what they may do with sessions.
OPERATORS = {
    "operator": ("view", "end", "message", "listen"),
    "viewer": ("view",),
    "stranger": (),
}


def make_operators(database: Path, settings: str) -> None:
    """Fill a test server's database."""
    subprocess.run(
        [sys.executable, "-m", "tests.operators"],
        cwd=ROOT,
        env=server_environment(database, {"DJANGO_SETTINGS_MODULE": settings}),
        check=True,
    )


class Operator:
    """Somebody who is logged in to a server's admin."""

    def __init__(self, server: Server | ReverseProxy, name: str) -> None:
        self.server = server
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies)
        )
        self.get("/admin/login/")
        index = f"{urllib.parse.urlsplit(server.http_url).path}/admin/"
        page = self.post(f"/admin/login/?next={index}", username=name, password=PASSWORD)
        assert "/admin/logout/" in page

    @property
    def cookies(self) -> str:
        """What to send as the `Cookie` header."""
        return "; ".join(f"{one.name}={one.value}" for one in self._cookies)

    def get(self, path: str) -> str:
        with self._opener.open(self.server.http_url + path, timeout=20) as response:
            return str(response.read().decode())

    def post(self, path: str, **fields: str) -> str:
        tokens = [one.value or "" for one in self._cookies if one.name == "csrftoken"]
        data = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": tokens[0]}).encode()
        with self._opener.open(self.server.http_url + path, data, timeout=20) as response:
            return str(response.read().decode())


def _make() -> None:
    import django

    django.setup()

    from django.contrib.auth.models import Permission, User
    from django.utils import timezone

    from voicews.models import SessionEvent, TranscriptEntry, VoiceConnection, VoiceSession

    for name, permissions in OPERATORS.items():
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        codenames = [f"{one}_voicesession" for one in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    caller = User.objects.create_user("anna")
    now = timezone.now()
    codes = (1000, 1000, 1001, 1000, 4000, 1006, 1001, 1000, 4001, 1011)
    for index in range(60):
        began = now - timedelta(minutes=11 + 19 * index + 7 * (index % 5))
        ended = began + timedelta(seconds=40 + 17 * (index % 13))
        code = codes[index % len(codes)]
        session = VoiceSession.objects.create(
            bot="echo" if index % 3 else "parrot",
            user=caller if index % 2 else None,
            kind="phone" if index % 7 == 3 else "browser",
            state="ended",
            created_at=began,
            started_at=began,
            ended_at=ended,
            close_code=code,
            end_reason="client left" if code in (1000, 1001) else "",
            client_address=f"192.0.2.{index}",
            user_agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/142 Safari/537.36",
        )
        VoiceConnection.objects.create(
            session=session,
            epoch=1,
            since=began,
            until=ended,
            address=session.client_address,
            user_agent=session.user_agent,
            close_code=code,
            messages_in=50 * (index + 40),
            messages_out=50 * (index + 39),
            bytes_in=34000 * (index + 40),
            bytes_out=50000 * (index + 39),
            invalid_messages=3 * (index % 11 == 5),
        )
        for at, kind, actor in (
            (began, "connected", "client"),
            (began + timedelta(seconds=20), "interrupted", "user"),
            (ended, "ended", "client"),
        ):
            SessionEvent.objects.create(session=session, at=at, kind=kind, actor=actor)
        for offset, role, text in (
            (2, "bot", "Good morning, how can I help you?"),
            (6, "user", "I would like to move my appointment <b>to Friday</b>."),
            (9, "bot", "Of course. I have ten o'clock or half past two."),
        ):
            TranscriptEntry.objects.create(
                session=session,
                at=began + timedelta(seconds=offset),
                role=role,
                text=text,
                heard_ms=1200 if offset == 9 else None,
                interrupted=offset == 9,
            )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    _make()
