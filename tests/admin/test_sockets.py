from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Serve, WaitFor
from tests.live_call import FREQUENCY, RATE, Caller, call
from tests.operators import Operator, make_operators
from tests.server_processes import Server
from tests.sessions.cluster import Cluster, copy_database, running_redis
from voicews.admin.sockets import from_this_site
from voicews.sessions.listen_in import MAX_WAITING_BYTES, Packet, PacketQueue, Relays

SETTINGS = "project.settings"
TIMEOUT_SECS = 20
LIST_SOCKET = "/ws/voicews-admin/sessions/"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Path:
    """A database with operators in it, to copy."""
    path = tmp_path_factory.mktemp("operators") / "db.sqlite3"
    shutil.copyfile(migrated_database, path)
    make_operators(path, SETTINGS)
    return path


@pytest.fixture(params=["uvicorn", "daphne"])
def site(request: pytest.FixtureRequest, serve: Serve, database: Path, tmp_path: Path) -> Server:
    shared = tmp_path / "shared.sqlite3"
    shutil.copyfile(database, shared)
    return serve(request.param, environment={"DATABASE_URL": f"sqlite:///{shared}"})


@contextmanager
def watching(
    operator: Operator | None, path: str, server: Server, **headers: str
) -> Iterator[ClientConnection]:
    """A socket of the admin, as a page of its own site opens it."""
    extra = {} if operator is None else {"Cookie": operator.cookies}
    headers.setdefault("Origin", server.origin)
    with connect(
        server.ws_url + path,
        additional_headers={**extra, **headers},
        open_timeout=TIMEOUT_SECS,
        max_size=None,
        proxy=None,
    ) as websocket:
        yield websocket


def refusal(operator: Operator | None, path: str, server: Server, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused, watching(operator, path, server, **headers):
        pass
    return int(refused.value.response.status_code)


def read_json(websocket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(websocket.recv(TIMEOUT_SECS))
    return found


def closing_of(websocket: ClientConnection) -> tuple[int | None, str]:
    """The code and the reason with which a socket is closed, whatever comes before."""
    try:
        while True:
            websocket.recv(TIMEOUT_SECS)
    except ConnectionClosed:
        return websocket.close_code, websocket.close_reason or ""


def session_socket(session: str, what: str = "") -> str:
    return f"{LIST_SOCKET}{session}/{what}"


def page(session: str, action: str) -> str:
    return f"/admin/voicews/voicesession/{session}/{action}/"


def events(operator: Operator, session: str) -> list[tuple[str, ...]]:
    """The rows of the timeline: what, by whom, details."""
    html = operator.get(page(session, "change")).partition('id="voicews-happened"')[2]
    rows = re.findall(r"<tr class=\"voicews-event.*?</tr>", html, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [tuple(re.sub(r"<[^>]*>", "", cell).strip() for cell in row[1:]) for row in cells]


def server_messages(caller: Caller) -> list[Any]:
    """What the caller was sent by operators."""
    return [one["data"] for one in caller.messages if one["type"] == "server-message"]


def hear(
    websocket: ClientConnection, enough: Callable[[dict[int, bytes]], bool]
) -> dict[int, bytes]:
    """The audio of each kind of packet, until there is enough of it."""
    audio: dict[int, bytes] = {Packet.CALLER: b"", Packet.BOT: b""}
    deadline = time.monotonic() + TIMEOUT_SECS
    while not enough(audio):
        assert time.monotonic() < deadline
        packet = websocket.recv(TIMEOUT_SECS)
        if isinstance(packet, bytes):
            kind, channels = packet[0], packet[1]
            if kind in audio:
                assert channels == 1
                assert int.from_bytes(packet[4:8], "little") in (RATE, 24000)
                audio[kind] += packet[8:]
    return audio


def pitch(pcm: bytes, rate: int) -> float:
    """The strongest frequency, Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


# --- who may look ---------------------------------------------------------------------------------


def test_who_may_not_look_is_refused(site: Server) -> None:
    session = str(uuid4())
    sockets = (LIST_SOCKET, session_socket(session), session_socket(session, "listen/"))
    operator, viewer = Operator(site, "operator"), Operator(site, "viewer")
    stranger = Operator(site, "stranger")
    for path in sockets:
        assert refusal(None, path, site) == 403
        assert refusal(stranger, path, site) == 403
        for origin in ("https://evil.example", "null", site.origin.replace("127", "evil.127")):
            assert refusal(operator, path, site, Origin=origin) == 403
    assert refusal(viewer, sockets[2], site) == 403
    with watching(viewer, LIST_SOCKET, site) as websocket:
        assert read_json(websocket)["type"] == "version"


def test_who_logs_out_looks_no_more(site: Server) -> None:
    operator = Operator(site, "operator")
    with watching(operator, LIST_SOCKET, site) as websocket:
        read_json(websocket)
        operator.post("/admin/logout/")
        assert closing_of(websocket) == (1008, "not allowed any more")


def scope(origin: str | None, host: str = "voice.example", **headers: str) -> dict[str, Any]:
    found = {"host": host, **headers} | ({} if origin is None else {"origin": origin})
    named = {name.replace("_", "-"): value for name, value in found.items()}
    return {"headers": [(name.encode(), value.encode()) for name, value in named.items()]}


@override_settings(
    ALLOWED_HOSTS=["voice.example"],
    CSRF_TRUSTED_ORIGINS=["https://admin.example", "https://*.partner.example", "http://a:8000"],
)
def test_pages_of_this_site() -> None:
    for origin in (
        None,
        "https://voice.example",
        "https://VOICE.example",
        "https://admin.example",
        "https://www.partner.example",
        "http://a:8000",
    ):
        assert from_this_site(scope(origin)), origin
    for origin in (
        "https://evil.example",
        "https://voice.example.evil.example",
        "https://voice.example:8443",
        "http://admin.example",
        "https://notpartner.example",
        "http://a:8001",
        "null",
        "",
        "https://[voice.example",
    ):
        assert not from_this_site(scope(origin)), origin
    # A name of somebody else's that leads to this server.
    assert not from_this_site(scope("https://rebound.example", host="rebound.example"))
    behind_proxy = scope("https://voice.example", host="10.0.0.1", x_forwarded_host="voice.example")
    assert not from_this_site(behind_proxy)
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert from_this_site(behind_proxy)


# --- what they see --------------------------------------------------------------------------------


def test_the_list_hears_of_calls_that_begin_and_end(site: Server) -> None:
    operator = Operator(site, "viewer")
    with watching(operator, LIST_SOCKET, site) as websocket:
        versions = [read_json(websocket)["version"]]
        with call(site):
            versions.append(read_json(websocket)["version"])
            assert versions[-1].startswith("1 ")
        while not versions[-1].startswith("0 "):
            versions.append(read_json(websocket)["version"])
        assert len(set(versions)) == len(versions)


def test_figures_move(site: Server) -> None:
    operator = Operator(site, "viewer")
    with call(site) as caller, watching(operator, session_socket(caller.session), site) as socket:
        first, second = (read_json(socket)["figures"] for _ in range(2))
        for name in ("messages_in", "messages_out", "bytes_in", "bytes_out"):
            assert second[name] > first[name], name
        assert second["has_client"]
        assert second["silent_secs"] < 2
        assert second["invalid_messages"] == 0
        before = read_json(socket)["version"]
        caller.hang_up()
        while (last := read_json(socket))["figures"] is not None:
            pass
        while last["version"] == before:
            last = read_json(socket)


def test_no_such_session(site: Server) -> None:
    with watching(Operator(site, "viewer"), session_socket(str(uuid4())), site) as websocket:
        assert closing_of(websocket) == (1000, "")


def test_listen_in(site: Server, wait_for: WaitFor) -> None:
    operator = Operator(site, "operator")
    with call(site) as caller:
        with watching(operator, session_socket(caller.session, "listen/"), site) as websocket:
            assert read_json(websocket) == {"type": "listening"}
            audio = hear(websocket, lambda audio: min(map(len, audio.values())) > RATE)
            assert abs(pitch(audio[Packet.CALLER], RATE) - FREQUENCY) < 10
            assert abs(pitch(audio[Packet.BOT], 24000) - FREQUENCY) < 10
        wait_for(lambda: events(operator, caller.session)[-1][2].startswith("for "))
        assert ("listened in", "operator", "begins") in events(operator, caller.session)
        # It goes on as before.
        count = caller.audio_packets
        wait_for(lambda: caller.audio_packets > count + 20)
        assert not caller.is_over


def test_listeners_are_told_of_the_end(site: Server) -> None:
    operator = Operator(site, "operator")
    with call(site) as caller:
        path = session_socket(caller.session, "listen/")
        with watching(operator, path, site) as first, watching(operator, path, site) as second:
            for websocket in (first, second):
                hear(websocket, lambda audio: len(audio[Packet.CALLER]) > 1000)
            caller.hang_up()
            for websocket in (first, second):
                assert closing_of(websocket) == (1000, "the call has ended")
        with watching(operator, path, site) as websocket:
            assert closing_of(websocket) == (1000, "the call is not live")


def test_messages_and_the_end(site: Server, wait_for: WaitFor) -> None:
    operator = Operator(site, "operator")
    with call(site) as caller:
        html = operator.post(page(caller.session, "message"), text="Please hold the line.")
        assert "The message was sent." in html
        expected = {"type": "operator-message", "text": "Please hold the line."}
        wait_for(lambda: server_messages(caller))
        assert server_messages(caller) == [expected]
        operator.post(page(caller.session, "end"), reason="closing time")
        wait_for(lambda: caller.is_over)
        assert (caller.close_code, caller.close_reason) == (4002, "closing time")
        wait_for(lambda: events(operator, caller.session)[-1][0] == "ended")
        found = events(operator, caller.session)
        assert ("message", "operator", "Please hold the line.") in found
        assert ("end requested", "operator", "closing time") in found
        assert found[-1] == ("ended", "operator", "4002 closing time")


# --- from another process -------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path, database: Path) -> str:
    return copy_database(database, tmp_path)


@pytest.mark.program
def test_a_call_of_another_process(
    tmp_path: Path, migrated_database: Path, shared: str, wait_for: WaitFor
) -> None:
    with running_redis(tmp_path) as redis:
        cluster = Cluster(
            tmp_path, database_url=shared, template_database=migrated_database, redis=redis
        )
        try:
            here, there = cluster.start(), cluster.start()
            operator = Operator(here, "operator")
            with call(there) as caller:
                with watching(operator, session_socket(caller.session), here) as websocket:
                    first, second = (read_json(websocket)["figures"] for _ in range(2))
                    assert second["messages_in"] > first["messages_in"]
                path = session_socket(caller.session, "listen/")
                with watching(operator, path, here) as websocket:
                    assert read_json(websocket) == {"type": "listening"}
                    before = redis.operations()
                    audio = hear(websocket, lambda audio: min(map(len, audio.values())) > RATE)
                    assert abs(pitch(audio[Packet.CALLER], RATE) - FREQUENCY) < 10
                    assert abs(pitch(audio[Packet.BOT], 24000) - FREQUENCY) < 10
                    # Nothing of it goes through the channel layer.
                    assert redis.operations() - before < 10
                wait_for(lambda: events(operator, caller.session)[-1][2].startswith("for "))
                wait_for(lambda: not connected_pairs(here, there))
                html = operator.post(page(caller.session, "message"), text="hello")
                assert "The message was sent." in html
                wait_for(lambda: server_messages(caller))
                asked_at = time.monotonic()
                operator.post(page(caller.session, "end"), reason="closing time")
                wait_for(lambda: caller.is_over)
                print(f"ended after {time.monotonic() - asked_at:.3f} s")
                assert (caller.close_code, caller.close_reason) == (4002, "closing time")
        finally:
            cluster.stop()


def connected_pairs(one: Server, other: Server) -> set[tuple[Any, Any]]:
    """Connections between two processes."""
    import psutil

    ends = []
    for server in (one, other):
        found = psutil.Process(server.process.pid).net_connections("tcp")
        ends.append({(c.laddr, c.raddr) for c in found if c.status == "ESTABLISHED"})
    return {(a, b) for a, b in ends[0] if (b, a) in ends[1]}


@pytest.mark.program
def test_processes_that_can_not_talk_say_so(
    tmp_path: Path, migrated_database: Path, shared: str, wait_for: WaitFor
) -> None:
    cluster = Cluster(
        tmp_path,
        database_url=shared,
        template_database=migrated_database,
        redis=None,
        LEASE_SECS=3,
    )
    try:
        here, there = cluster.start(), cluster.start()
        operator = Operator(here, "operator")
        with call(there) as caller:
            with watching(operator, session_socket(caller.session), here) as websocket:
                assert read_json(websocket)["figures"] is None
            path = session_socket(caller.session, "listen/")
            with watching(operator, path, here) as websocket:
                assert "can't be reached from this one" in closing_of(websocket)[1]
            html = operator.post(page(caller.session, "message"), text="hello")
            assert "the server process that runs the call does not answer" in html
            # The database tells, a heartbeat later.
            operator.post(page(caller.session, "end"), reason="closing time")
            wait_for(lambda: caller.is_over)
            assert (caller.close_code, caller.close_reason) == (4002, "closing time")
            assert not [
                event for event in events(operator, caller.session) if event[0] == "message"
            ]
    finally:
        cluster.stop()


async def test_a_call_of_another_host_can_not_be_heard() -> None:
    answers: asyncio.Queue[str] = asyncio.Queue()
    control = SimpleNamespace(answer=lambda _message, problem: answers.put_nowait(problem))
    relays = Relays(SimpleNamespace(control=control))  # type: ignore[arg-type]
    message = {"session": str(uuid4()), "host": "elsewhere", "port": 1, "token": "00"}
    own = socket.gethostname()
    with mock.patch("voicews.sessions.listen_in.live_sessions") as live_sessions:
        live_sessions.get.return_value = None
        relays.answer(message)
        assert await answers.get() == "the call is not live"
        live_sessions.get.return_value = object()
        relays.answer(message)
        assert await answers.get() == (
            f"the call runs on another host ({own}), and sound does not pass between hosts: "
            "open this page there"
        )
        relays.answer({**message, "host": own})
        assert await answers.get() == (
            "the server process that runs the call can't be reached from this one"
        )


async def test_a_slow_listener_loses_the_oldest() -> None:
    queue = PacketQueue()
    packet = bytes(64 * 1024)
    for number in range(20):
        queue.put(bytes([number]) + packet)
    queue.close()
    kept = []
    while (found := await queue.get()) is not None:
        kept.append(found[0])
    assert kept == list(range(20 - MAX_WAITING_BYTES // (64 * 1024) + 1, 20))
