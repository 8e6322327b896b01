"""A server transport that opens a port of its own, and the command that serves one bot."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync

from tests.fakes import Tap, ramp
from tests.polling import until
from tests.server_processes import ROOT, free_port, server_environment
from voicews.exceptions import ConfigurationError, InvalidState
from voicews.frames import InputAudioRawFrame, OutputAudioRawFrame
from voicews.pipeline import Pipeline, PipelineTask
from voicews.serializers import frames_pb2 as pb
from voicews.servers.embedded import Listener
from voicews.transports import WebsocketServerParams, WebsocketServerTransport


class Call:
    """A pipeline behind a port of its own."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", **params: Any) -> None:
        defaults: dict[str, Any] = {
            "audio_in_enabled": True,
            "audio_out_enabled": True,
            "audio_out_auto_silence": False,
            "audio_out_end_silence_secs": 0.0,
        }
        self.transport = WebsocketServerTransport(
            WebsocketServerParams(**defaults | params),
            host=host,
            port=port,
            input_name="ears",
            output_name="mouth",
        )
        self.events: list[str] = []
        for name in sorted(self.transport.events):
            self.transport.event_handler(name)(self._remember(name))
        self.tap = Tap()
        self.task = PipelineTask(
            Pipeline([self.transport.input(), self.tap, self.transport.output()])
        )

    def _remember(self, name: str) -> Any:
        return lambda *_: self.events.append(name)

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.transport.port}/any/path"

    async def over(self) -> None:
        async with asyncio.timeout(10):
            await self.task.wait()
            await self.transport.wait_closed()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def audio_message(pcm: bytes) -> bytes:
    frame = pb.Frame(audio=pb.AudioRawFrame(audio=pcm, sample_rate=16000, num_channels=1))
    return frame.SerializeToString()


# --- the transport ------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_reference() -> None:
    transport = WebsocketServerTransport(WebsocketServerParams())
    assert (transport.host, transport.port) == ("localhost", 8765)
    assert (transport.input().name, transport.output().name) == ("input", "output")


async def test_a_call_from_the_open_port_to_the_free_port() -> None:
    port = free_port()
    call = Call(port)
    assert (call.transport.input().name, call.transport.output().name) == ("ears", "mouth")
    await call.transport.listen()
    assert call.events == []
    call.task.start()
    await until(lambda: call.events == ["on_websocket_ready"])
    assert not is_free(port)
    async with connect(call.uri) as client:
        await client.send(audio_message(ramp(320)))
        await until(lambda: call.tap.down(InputAudioRawFrame))
        # A goodbye of half a second, ended at once: all of it leaves before the close.
        call.task.queue_frame(OutputAudioRawFrame(ramp(12000), 24000))
        call.task.end()
        received = [
            pb.Frame.FromString(m).audio.audio async for m in client if isinstance(m, bytes)
        ]
        assert b"".join(received) == ramp(12000)
        assert client.close_code == 1000
    await call.over()
    assert is_free(port)
    assert call.events == ["on_websocket_ready", "on_client_connected", "on_client_disconnected"]


async def test_the_next_call_can_have_the_port_at_once() -> None:
    port = free_port()
    for _ in range(2):
        call = Call(port)
        await call.transport.listen()
        call.task.start()
        async with connect(call.uri):
            call.task.cancel()
            await call.over()


async def test_localhost_means_both_its_addresses() -> None:
    call = Call(host="localhost")
    await call.transport.listen()
    call.task.start()
    port = call.transport.port
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", port)}
    for address in addresses:
        shown = f"[{address}]" if ":" in str(address) else address
        async with connect(f"ws://{shown}:{port}/") as client:
            await client.send(audio_message(ramp(320)))
    assert call.transport.port != 0
    call.task.cancel()
    await call.over()


async def test_the_newcomer_replaces_the_one_before() -> None:
    call = Call()
    await call.transport.listen()
    call.task.start()
    async with connect(call.uri) as first, connect(call.uri):
        with pytest.raises(ConnectionClosed):
            await first.recv()
        assert first.close_code == 4001
        call.task.cancel()
        await call.over()


async def test_who_comes_before_the_start_is_refused() -> None:
    call = Call()
    await call.transport.listen()
    with pytest.raises(InvalidStatus, match="403"):
        await connect(call.uri)
    call.task.start()
    async with connect(call.uri):
        call.task.cancel()
        await call.over()
    with pytest.raises(OSError, match=r"\d"):
        await connect(call.uri)


async def test_pages_of_other_sites_are_refused() -> None:
    call = Call(allowed_origins=["https://example.com"])
    await call.transport.listen()
    call.task.start()
    with pytest.raises(InvalidStatus, match="403"):
        await connect(call.uri, additional_headers={"Origin": "https://evil.example"})
    async with connect(call.uri, additional_headers={"Origin": "https://example.com"}):
        pass
    call.task.cancel()
    await call.over()


async def test_what_is_no_websocket_is_told_so() -> None:
    call = Call()
    await call.transport.listen()
    call.task.start()

    def get() -> int:
        try:
            urllib.request.urlopen(call.uri.replace("ws:", "http:"), timeout=5)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    assert await asyncio.to_thread(get) == 426
    call.task.cancel()
    await call.over()


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        call = Call(port)
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: .+"):
            await call.transport.listen()


async def test_with_an_address_it_listens_when_its_pipeline_starts() -> None:
    port = free_port()
    transport = WebsocketServerTransport(WebsocketServerParams(), "127.0.0.1", port, "ears")
    ready: list[object] = []
    transport.event_handler("on_websocket_ready")(ready.append)
    task = PipelineTask(Pipeline([transport.input(), transport.output()]))
    await asyncio.sleep(0.05)
    assert is_free(port)
    task.start()
    await until(lambda: ready)
    async with connect(f"ws://127.0.0.1:{port}/"):
        task.end()
        await task.wait()
    await transport.wait_closed()
    assert is_free(port)
    assert transport.input().name == "ears"


async def test_a_pipeline_that_ends_at_once_leaves_no_port_open() -> None:
    port = free_port()
    transport = WebsocketServerTransport(WebsocketServerParams(), port=port)
    task = PipelineTask(Pipeline([transport.input(), transport.output()]))
    task.start()
    task.cancel()
    await task.wait()
    await transport.wait_closed()
    assert is_free(port)


async def test_a_pipeline_ends_when_its_port_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        call = Call(port)
        call.task.start()
        await call.over()
    assert call.task.close_code == 1011
    assert f"cannot listen on 127.0.0.1:{port}" in caplog.text


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("no.such.host.invalid", 0)])
async def test_an_address_that_can_t_be(host: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match=str(port)):
        await Call(port, host).transport.listen()


async def test_listening_comes_before_the_start_and_once() -> None:
    call = Call()
    await call.transport.listen()
    with pytest.raises(InvalidState):
        await call.transport.listen()
    call.task.start()
    call.task.cancel()
    await call.over()
    with pytest.raises(InvalidState):
        await call.transport.listen()


async def test_a_listener_starts_once_and_stops_at_any_time() -> None:
    listener = Listener(None, "127.0.0.1", 0)
    await listener.stop()
    await listener.start()
    with pytest.raises(InvalidState):
        await listener.start()
    await listener.stop()
    assert is_free(listener.port)


async def test_signal_handlers_stay_the_program_s_own() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    listener = Listener(None, "127.0.0.1", 0)
    await listener.start()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    await listener.stop()


async def test_without_uvicorn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'voicews\[uvicorn\]'"):
        await Call().transport.listen()


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def run_voice(tmp_path: Path) -> Iterator[Any]:
    processes = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runvoice", *arguments],
            cwd=ROOT,
            env=server_environment(tmp_path / "none.sqlite3"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_runvoice_serves_one_bot(run_voice: Any) -> None:
    port = free_port()
    process = run_voice(f"127.0.0.1:{port}", "--bot", "echo")
    assert process.stdout.readline() == f"echo on ws://127.0.0.1:{port}/ (quit with CONTROL-C)\n"
    ready = {"label": "rtvi-ai", "type": "client-ready", "id": "1", "data": {"version": "2.2.0"}}
    message = pb.Frame(message=pb.MessageFrame(data=json.dumps(ready))).SerializeToString()
    uri = f"ws://127.0.0.1:{port}/"
    with connect_sync(uri) as one, connect_sync(uri) as another:
        # Each has a bot of its own.
        for client in (one, another):
            client.send(message)
            answer = client.recv(timeout=10)
            assert isinstance(answer, bytes)
            assert json.loads(pb.Frame.FromString(answer).message.data)["type"] == "bot-ready"
        process.send_signal(signal.SIGTERM)
        with suppress(ConnectionClosed):
            list(one)
        assert one.close_code == 1012
    assert process.wait(10) == 0
    assert process.stderr.read() == ""
    assert is_free(port)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense"], "expected \\[host:\\]port"),
        (["localhost:70000"], "expected \\[host:\\]port"),
        (["--bot", "nobody"], "expected one of echo, parrot.*, found 'nobody'"),
    ],
)
def test_runvoice_says_what_is_wrong(arguments: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        call_command("runvoice", *arguments, stdout=StringIO())


def test_runvoice_says_that_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CommandError, match=f"cannot listen on {address}"):
            call_command("runvoice", address)


def test_runvoice_warns_of_what_everybody_can_reach(run_voice: Any) -> None:
    process = run_voice("0.0.0.0:0")
    assert process.stdout.readline().startswith("parrot on ws://0.0.0.0:")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stderr.read() == "Every client that can reach 0.0.0.0 can talk with parrot.\n"


async def test_handshakes_that_never_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicews.servers.embedded.HANDSHAKE_TIMEOUT_SECS", 0.3)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    listener = Listener(echo, "127.0.0.1", 0)
    await listener.start()
    async with connect(f"ws://127.0.0.1:{listener.port}/", proxy=None) as client:
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nUpgr"):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(begun)
            async with asyncio.timeout(10):
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
        await client.send("still there")
        assert await client.recv() == "still there"
    await listener.stop()
