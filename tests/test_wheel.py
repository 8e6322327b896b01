"""The wheel as a stranger gets it: installed in an empty environment, used by a new project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import voicews
from tests.calls import hear_echo
from tests.server_processes import ROOT, Server, free_port

ONE_FILE_PROJECT = """
    import sys
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.urls import include, path
    from voicews.routing import voice_application

    if not settings.configured:  # it is the program, and a module that the program names
        settings.configure(
            ALLOWED_HOSTS=["127.0.0.1"],
            ASGI_APPLICATION="voice_site.application",
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
            DEBUG=True,
            INSTALLED_APPS=[
                "daphne", "django.contrib.auth", "django.contrib.contenttypes",
                "django.contrib.staticfiles", "voicews",
            ],
            ROOT_URLCONF="voice_site",
            SECRET_KEY="a new one for each project",
            STATIC_URL="/static/",
            TEMPLATES=[{
                "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            }],
            VOICEWS={
                "BOTS": {"echo": "voice_bots.Echo"},
                "MAY_CONNECT": "voicews.permissions.anybody",
            },
        )

    application = voice_application(get_asgi_application())
    urlpatterns = [path("voice/", include("voicews.urls"))]

    if __name__ == "__main__":
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
"""

BOT = """
    from voicews.bots import Bot

    class Echo(Bot):
        def on_audio(self, audio):
            self.send_audio(audio)
"""


def run(*command: str | Path, **options: Any) -> None:
    """Run a program; its output is shown if it fails."""
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", directory, ROOT)
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and its dependencies, and no more."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, directory)
    interpreter = directory / "bin" / "python"
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", interpreter, wheel)
    return interpreter


@pytest.fixture
def project(python: Path, tmp_path: Path, wait_for: Callable[..., Any]) -> Iterator[str]:
    """The URL of a new project that runs with the wheel."""
    (tmp_path / "voice_site.py").write_text(textwrap.dedent(ONE_FILE_PROJECT))
    (tmp_path / "voice_bots.py").write_text(textwrap.dedent(BOT))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
    }
    where: dict[str, Any] = {"cwd": tmp_path, "env": environment}
    run(python, "voice_site.py", "check", "--fail-level=WARNING", **where)
    run(python, "voice_site.py", "migrate", "--verbosity=0", **where)
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "voice_site.py", "runserver", "--noreload", str(port)],
            **where,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/voice/connect/", timeout=5)
        except urllib.error.HTTPError as error:
            return error.code == 405
        except OSError:
            return False
        return False

    try:
        wait_for(answers, message=log.read_text)
        yield url
    finally:
        Server.kill_group(process)


def test_the_wheel_is_complete(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "voicews/py.typed",
        "voicews/migrations/0001_initial.py",
        "voicews/serializers/frames.proto",
        "voicews/serializers/frames_pb2.py",
        "voicews/static/voicews/admin/admin.css",
        "voicews/templates/voicews/demo.html",
        "voicews/templatetags/voicews.py",
        f"voicews-{voicews.__version__}.dist-info/licenses/LICENSE",
    } <= names
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "voicews").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source - names == set()
    assert {name.partition("/")[0] for name in names} == {
        "voicews",
        f"voicews-{voicews.__version__}.dist-info",
    }


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(f"voicews-{voicews.__version__}.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata
    for line in (
        "Classifier: Framework :: Django :: 5.2",
        "Classifier: Framework :: Django :: 6.0",
        "Classifier: Programming Language :: Python :: 3.14",
        "Classifier: Typing :: Typed",
        "License-Expression: BSD-3-Clause",
        "Requires-Dist: daphne<5,>=4.2.2",
        "Provides-Extra: uvicorn",
    ):
        assert line in metadata.splitlines()


def test_a_new_project_takes_a_call(project: str) -> None:
    request = urllib.request.Request(f"{project}/voice/connect/", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
    pcm = bytes(640)
    assert hear_echo(answer["ws_url"], answer["token"], pcm)


def test_a_new_project_shows_the_demo_page(project: str) -> None:
    with urllib.request.urlopen(f"{project}/voice/demo/", timeout=10) as response:
        assert response.status == 200
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]


def test_a_new_project_serves_the_browser_client(project: str) -> None:
    client = ROOT / "voicews" / "static" / "voicews"
    scripts = sorted(client.rglob("*.js"))
    assert scripts
    for script in scripts:
        url = f"{project}/static/voicews/{script.relative_to(client).as_posix()}"
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.read() == script.read_bytes()
            assert "javascript" in response.headers["Content-Type"]
