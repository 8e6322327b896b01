"""The README's fifteen lines, in a project as ``startproject`` makes it; what its tables name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.server_processes import ROOT, Server, free_port
from voicews.conf import VoicewsSettings
from voicews.telephony import PROVIDERS


def snippets() -> dict[str, str]:
    """The README's code blocks that name a file of ``mysite``."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"```python\n# mysite/(\w+\.py).*?\n(.*?)```", text, re.DOTALL)
    return dict(found)


def test_the_tutorial_has_the_same_lines() -> None:
    tutorial = (ROOT / "docs/tutorial/own-project.md").read_text()
    for code in snippets().values():
        assert code in tutorial


def test_there_are_fifteen_lines() -> None:
    lines = [line for code in snippets().values() for line in code.splitlines() if line.strip()]
    assert set(snippets()) == {"bots.py", "settings.py", "asgi.py", "urls.py"}
    assert len(lines) <= 15


def test_every_setting_is_in_the_table() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text()
    table = re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert table == list(VoicewsSettings.__dataclass_fields__)


def test_every_option_of_a_provider_is_in_its_row() -> None:
    text = (ROOT / "docs/reference/providers.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z]+)` \| ([^|]*) \|", text, re.MULTILINE))
    for name, provider in PROVIDERS.items():
        required, _, others = rows[name].partition(";")
        needed = re.match(r"([^(]*)\(to ([^)]*)\)", others) or ["", "", ""]
        found = [(option, "") for option in re.findall(r"`(\w+)`", required)]
        found += [(option, needed[2]) for option in re.findall(r"`(\w+)`", needed[1])]
        found += [(option, "") for option in re.findall(r"`(\w+)`", others[len(needed[0]) :])]
        assert found == [(option.name, option.needed_to) for option in provider.options()]
        assert re.findall(r"`(\w+)`", required) == [
            option.name for option in provider.options() if option.is_required
        ]


@pytest.fixture
def mysite(tmp_path: Path, wait_for: Callable[..., Any]) -> Iterator[str]:
    """The URL of the new project with the lines in it."""
    environment = {
        **{name: value for name, value in os.environ.items() if "DJANGO" not in name},
        "DJANGO_SUPERUSER_PASSWORD": "secret",
        "PYTHONPATH": str(ROOT),
    }

    def django(*arguments: str) -> None:
        command = [sys.executable, "-m", "django", *arguments]
        if arguments[0] != "startproject":
            command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, text=True, capture_output=True
        )
        assert result.returncode == 0, result.stdout + result.stderr

    django("startproject", "mysite", ".")
    for name, code in snippets().items():
        with (tmp_path / "mysite" / name).open("a") as file:
            file.write(f"\n{code}")
    django("check", "--fail-level=WARNING")
    django("migrate", "--verbosity=0")
    django("createsuperuser", "--noinput", "--username=me", "--email=me@example.com")
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/admin/", timeout=5).close()
        except OSError:
            return False
        return True

    try:
        wait_for(answers, message=log.read_text)
        yield url
    finally:
        Server.kill_group(process)


def test_the_lines_are_enough(mysite: str) -> None:
    cookies = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))

    def post(path: str, data: bytes) -> Any:
        headers = {"Origin": mysite, "Referer": mysite}
        return browser.open(urllib.request.Request(mysite + path, data, headers), timeout=10)

    with pytest.raises(urllib.error.HTTPError) as refusal:
        post("/voice/connect/", b"")
    assert refusal.value.code == 403
    refusal.value.close()

    browser.open(f"{mysite}/admin/login/", timeout=10).close()
    csrf = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
    post(
        "/admin/login/?next=/voice/demo/",
        f"username=me&password=secret&csrfmiddlewaretoken={csrf}".encode(),
    ).close()
    with post("/voice/connect/", b"") as response:
        answer = json.load(response)
    with connect(f"{answer['ws_url']}?token={answer['token']}", origin=None) as socket:
        socket.ping().wait(10)
    with browser.open(f"{mysite}/voice/demo/", timeout=10) as response:
        assert response.status == 200
