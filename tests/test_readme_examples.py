"""The examples of the documentation run as they are written."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.audio.signals import pcm, speech
from tests.conftest import Serve
from tests.documentation import python_blocks
from tests.server_processes import ROOT, free_port, server_environment
from voicews.audio.wav import wrap_wav
from voicews.bots import Bot
from voicews.bridge import Bridge
from voicews.frames import AudioRawFrame
from voicews.testing import BotCall, virtual_time

pytestmark = pytest.mark.program

TIMEOUT_SECS = 40.0


def example(name: str, port: int | None = None) -> str:
    """The code block that begins with ``# <name>``, at another port where it names one."""
    [code] = [block.code for block in python_blocks() if block.file_name == name]
    return re.sub(r"\b8(765|000)\b", str(port), code) if port else code


@contextmanager
def running(
    directory: Path, code: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A Python process with this code."""
    script = directory / "example.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script], env=environment, text=True, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return server_environment(tmp_path / "db.sqlite3", {"RESEARCH_TOKEN": "secret"})


def test_a_client_calls_a_listening_server(tmp_path: Path, environment: dict[str, str]) -> None:
    port = free_port()
    with running(tmp_path, example("listen.py", port), environment) as server:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"ws://localhost:{port}/"
        caller = subprocess.run(
            [sys.executable, "-c", example("call.py", port)],
            env=environment,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_SECS,
            check=True,
        )
    heard = [int(size) for size in re.findall(r"heard (\d+) bytes", caller.stdout)]
    assert sum(heard) >= 31000, caller.stdout
    assert caller.stdout.splitlines()[-1] == "ended"


def test_a_worker_asks_another_host(
    tmp_path: Path, environment: dict[str, str], wait_for: Callable[..., Any]
) -> None:
    port = free_port()
    (tmp_path / "research.py").write_text(example("research.py"))
    application = ["research:application", "--app-dir", str(tmp_path), "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *application], env=environment)
    try:
        # It dials until the server is there.
        asker = subprocess.run(
            [sys.executable, "-c", example("ask.py", port)],
            env=environment,
            text=True,
            capture_output=True,
            timeout=TIMEOUT_SECS,
            check=True,
        )
    finally:
        server.terminate()
        server.wait()
    assert "{'found': 1}" in asker.stdout
    assert "all about owls" in asker.stdout


def namespace(name: str, **names: Any) -> dict[str, Any]:
    """What an example defines."""
    exec(example(name), names)
    return names


def test_every_example_with_a_name_is_run() -> None:
    """Those of `mysite` by test_readme.py, the others by a test here."""
    names = {block.file_name for block in python_blocks() if block.file_name}
    here = set(re.findall(r'(?:example|namespace)\(\s*"([^"]+)"', Path(__file__).read_text()))
    by_test_readme = {f"mysite/{name}.py" for name in ("bots", "settings", "asgi", "urls")}
    assert names - {"project/settings.py"} == here | by_test_readme


def test_a_test_of_a_bot() -> None:
    namespace("test_menu.py")["test_the_menu"]()


@virtual_time
async def test_the_first_bot() -> None:
    names = namespace("project/bots.py", Bot=Bot, AudioRawFrame=AudioRawFrame)
    async with BotCall(names["Counter"]()) as call:
        await call.speak(pcm(speech(2.0, 16000)))
        await call.stay_silent(1.5)
        assert re.fullmatch(r"2\.\d seconds so far", call.texts[0])
        await call.wait_quiet()
        assert call.heard_secs > 2


@virtual_time
async def test_the_agent() -> None:
    class Owl(namespace("mysite/agents.py")["Receptionist"]):  # type: ignore[misc]
        async def transcribe(self, audio: bytes, sample_rate: int) -> str:
            assert sample_rate == 16000
            return "Who?"

        async def think(self, history: list[dict[str, str]]) -> str:
            return f"You said: {history[-1]['content']}"

        async def synthesize(self, text: str) -> AsyncIterator[bytes]:
            for _ in range(10):
                yield bytes(9600)

    async with BotCall(Owl()) as call:
        await call.wait_speaking()
        await call.wait_quiet()
        await call.speak(pcm(speech(1.0, 16000)))
        await call.stay_silent(1.5)
        assert call.texts == ["Hello, how can I help?", "You said: Who?"]
        assert [data["text"] for data in call.rtvi_data("user-transcription")] == ["Who?"]
        await call.wait_speaking()
        await asyncio.sleep(0.5)
        await call.speak(pcm(speech(1.0, 16000)))
        answer = call.bot.history[2]["content"]
        assert "You said: Who?".startswith(answer)
        assert len(answer) < len("You said: Who?")
        state = await call.bot.saved_state()
    async with BotCall(Owl(), state=state) as call:
        assert call.bot.history[2]["content"] == answer


def test_the_storage() -> None:
    """A browser uses the same one in tests/browser/test_static_files.py."""
    from tests.projects.hashed_files import HashedFiles as Tested

    storage = namespace("mysite/storage.py")["StaticFiles"]
    assert storage.__bases__ == Tested.__bases__
    assert storage.support_js_module_import_aggregation
    assert Tested.support_js_module_import_aggregation


def test_bots_with_other_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("office.wav", "hold.wav"):
        (tmp_path / name).write_bytes(wrap_wav(bytes(16000), 8000))
    monkeypatch.chdir(tmp_path)
    for names in (
        namespace("sound_bots.py"),
        namespace("turn_bots.py"),
        namespace("thin_bots.py"),
    ):
        bots = [one for one in names.values() if isinstance(one, type) and issubclass(one, Bot)]
        for bot in bots:
            assert bot().transport_params() is not None


def test_the_bridge(tmp_path: Path) -> None:
    names = namespace("bridge_bots.py")
    assert issubclass(names["Support"], Bridge)
    assert names["Support"].uri.startswith("ws://")


def test_a_pipecat_bot(tmp_path: Path, serve: Serve) -> None:
    from tests.calls import hear_echo
    from tests.interop.environment import PIPECAT_PYTHON

    if not PIPECAT_PYTHON.exists():
        pytest.fail(f"{PIPECAT_PYTHON} was not found; run: make setup-test")
    (tmp_path / "pipecat_bots.py").write_text(example("pipecat_bots.py"))
    (tmp_path / "readme_settings.py").write_text(
        "from project.settings import *\n"
        "VOICEWS = {**VOICEWS, 'BOTS': {'assistant': 'pipecat_bots.Assistant'}, "
        "'DEFAULT_BOT': 'assistant'}\n"
    )
    server = serve(
        environment={
            "DJANGO_SETTINGS_MODULE": "readme_settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        },
        python=PIPECAT_PYTHON,
    )
    answer = server.connect("assistant")
    loud = b"\x00\x20" * 3200
    assert hear_echo(answer["ws_url"], answer["token"], loud)
