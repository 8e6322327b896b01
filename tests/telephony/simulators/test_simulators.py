"""The simulators themselves: what they hear, and what they hold against a server."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from telnyx.types import (
    CallAnswered,
    CallHangup,
    CallInitiated,
    CallStreamingFailed,
    CallStreamingStarted,
    CallStreamingStopped,
)
from websockets.asyncio.server import ServerConnection, serve

from voicews.exceptions import ConfigurationError
from voicews.frames import CallStartedFrame
from voicews.telephony import (
    ApiClient,
    Provider,
    Request,
    StreamTarget,
    Telnyx,
    create_provider,
)
from voicews.testing import (
    CALLS,
    ApiCall,
    CallControlCall,
    Heard,
    ProviderApi,
    account_options,
    place_call,
)
from voicews.testing.http import http_request

SERVER = "http://127.0.0.1:9"
PCM = b"\x00\x10" * 160


# --- what is heard --------------------------------------------------------------------------------


def test_audio_is_played_one_after_the_other() -> None:
    heard = Heard(8000)
    assert heard.add(PCM, 10.0).starts_at == 10.0
    assert heard.add(PCM, 10.001).starts_at == pytest.approx(10.02)
    assert heard.add(PCM, 10.1).starts_at == 10.1
    (gap,) = heard.gaps()
    assert gap.duration_secs == pytest.approx(0.06)
    assert heard.gaps(longer_than_secs=0.07) == []
    assert heard.pcm == PCM * 3
    recording = heard.recording(10.0)
    assert len(recording) == 2 * 960
    assert recording[:640] + recording[-320:] == PCM * 3


def test_a_clear_cuts_what_is_played_and_drops_the_rest() -> None:
    heard = Heard(8000)
    for _ in range(3):
        heard.add(PCM, 0.0)
    heard.clear(0.03)
    assert heard.pcm == PCM + PCM[:160]
    assert heard.cleared_bytes == 160 + 320
    assert heard.sound_until() == pytest.approx(0.03)
    assert heard.add(PCM, 0.04).starts_at == 0.04
    assert heard.sound_from(0.035) == pytest.approx(0.04)


# --- violations -----------------------------------------------------------------------------------


def media(**fields: Any) -> str:
    payload = b64encode(b"\xff" * 160).decode()
    return json.dumps({"event": "media", "media": {"payload": payload}, **fields})


def play_audio(**changes: Any) -> str:
    payload = b64encode(b"\xff" * 160).decode()
    media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": payload} | changes
    return json.dumps({"event": "playAudio", "media": media})


ID = "the-stream"

ALLOWED: list[tuple[str, str | bytes]] = [
    ("twilio", media(streamSid=ID)),
    ("twilio", json.dumps({"event": "mark", "streamSid": ID, "mark": {"name": "1"}})),
    ("twilio", json.dumps({"event": "clear", "streamSid": ID})),
    ("telnyx", media()),
    ("telnyx", '{"event":"clear"}'),
    ("plivo", play_audio()),
    ("plivo", json.dumps({"event": "checkpoint", "streamId": ID, "name": "1"})),
    ("plivo", '{"event":"sendDTMF","dtmf":"1"}'),
    ("vonage", bytes(320)),
    ("vonage", '{"action":"clear"}'),
]

REFUSED: list[tuple[str, str | bytes]] = [
    ("twilio", b"\xff" * 160),
    ("twilio", "no JSON"),
    ("twilio", media()),
    ("twilio", media(streamSid="another")),
    ("twilio", media(streamSid=ID, extra=1)),
    ("twilio", json.dumps({"event": "media", "streamSid": ID, "media": {"payload": "%"}})),
    ("twilio", json.dumps({"event": "mark", "streamSid": ID, "mark": {}})),
    ("twilio", json.dumps({"event": "sing", "streamSid": ID})),
    ("telnyx", media(stream_id=ID)),
    ("telnyx", '{"event":"media","media":{"payload":"/w=="}}'),
    ("telnyx", '{"event":"mark","mark":{}}'),
    ("plivo", play_audio(sampleRate=16000)),
    ("plivo", '{"event":"clearAudio"}'),
    ("plivo", json.dumps({"event": "clearAudio", "streamId": "another"})),
    ("exotel", media(stream_sid=ID)),
    ("exotel", media()),
    ("vonage", bytes(318)),
    ("vonage", '{"action":"sing"}'),
    ("genesys", b"\xff" * 160),
    ("genesys", '{"type":"opened"}'),
]


def simulator(name: str) -> Any:
    call: Any = place_call(name, SERVER)
    call.stream_id = ID
    return call


@pytest.mark.parametrize(("name", "message"), ALLOWED)
async def test_what_the_documents_allow(name: str, message: str | bytes) -> None:
    call = simulator(name)
    if name == "vonage":
        from voicews.audio.codecs import get_codec

        call._set_codecs(get_codec("L16", 8000), get_codec("L16", 8000))
    call._receive(message)
    assert call.violations == []


@pytest.mark.parametrize(("name", "message"), REFUSED)
async def test_what_the_documents_forbid(name: str, message: str | bytes) -> None:
    call = simulator(name)
    call._receive(message)
    assert call.violations


async def test_telnyx_says_what_is_wrong() -> None:
    call = simulator("telnyx")
    call._receive("no JSON at all".join("{}"))
    call._receive('{"event":"sing"}')
    error = json.loads(call._outbox.get_nowait())
    assert error["event"] == "error"
    assert error["payload"]["code"] == 100003


async def test_marks_after_a_clear() -> None:
    """Twilio sends them all back, Plivo none of them."""
    twilio = simulator("twilio")
    twilio._receive(media(streamSid=ID))
    twilio._receive(json.dumps({"event": "mark", "streamSid": ID, "mark": {"name": "1"}}))
    twilio._receive(json.dumps({"event": "clear", "streamSid": ID}))
    assert json.loads(twilio._outbox.get_nowait())["mark"] == {"name": "1"}
    plivo = simulator("plivo")
    plivo._receive(play_audio())
    plivo._receive(json.dumps({"event": "checkpoint", "streamId": ID, "name": "1"}))
    plivo._receive(json.dumps({"event": "clearAudio", "streamId": ID}))
    assert json.loads(plivo._outbox.get_nowait())["event"] == "clearedAudio"
    assert plivo._outbox.empty()
    assert twilio.played_marks == plivo.played_marks == []
    assert twilio.cleared_marks == plivo.cleared_marks == ["1"]


async def test_a_mark_waits_for_the_audio_before_it() -> None:
    call = simulator("twilio")
    for _ in range(3):
        call._receive(media(streamSid=ID))
    begun = asyncio.get_running_loop().time()
    call._receive(json.dumps({"event": "mark", "streamSid": ID, "mark": {"name": "1"}}))
    assert call._outbox.empty()
    assert json.loads(await call._outbox.get())["event"] == "mark"
    assert asyncio.get_running_loop().time() - begun > 0.05


async def test_genesys_limits_how_often_a_server_may_send() -> None:
    call = simulator("genesys")
    call.is_open = True
    for _ in range(25):
        call._receive(b"\xff" * 1600)
    assert call.violations == []
    call._receive(b"\xff" * 1600)
    (violation,) = call.violations
    assert violation.rule.startswith("429")


def test_providers_that_there_are_not() -> None:
    with pytest.raises(ConfigurationError, match="expected one of twilio"):
        place_call("carrier-pigeon", SERVER)


def test_telnyx_can_be_simulated_with_its_test_key_only() -> None:
    options = account_options("telnyx") | {"public_key": "A" * 43 + "="}
    with pytest.raises(ConfigurationError, match="public_key A6EHv"):
        place_call(create_provider("telnyx", SERVER, options), SERVER)


# --- the APIs -------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[ProviderApi]:
    with ProviderApi() as api:
        yield api


HANG_UPS = [
    ("POST", "/2010-04-01/Accounts/AC1/Calls/{}.json", b"Status=completed", 200, 404),
    ("POST", "/v2/calls/{}/actions/hangup", b"{}", 200, 422),
    ("DELETE", "/v1/Account/MA1/Call/{}/", b"", 204, 404),
    ("PUT", "/v1/calls/{}", b'{"action":"hangup"}', 204, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "done", "ended"), HANG_UPS)
async def test_a_call_is_hung_up_once(
    api: ProviderApi, method: str, path: str, body: bytes, done: int, ended: int
) -> None:
    ends: list[str] = []
    api.attach("c1", lambda request: ends.append(request.call_id))
    url = api.url + path.format("c1")
    kind = "application/json" if body.startswith(b"{") else "application/x-www-form-urlencoded"
    headers = {"Content-Type": kind}
    assert (await http_request(method, url, headers, body)).status == done
    assert (await http_request(method, url, headers, body)).status == ended
    api.failures.append(503)
    assert (await http_request(method, url, headers, body)).status == 503
    assert ends == ["c1"]
    assert len(api.hang_ups("c1")) == 3


@pytest.mark.parametrize("name", [name for name in CALLS if name != "genesys"])
async def test_calls_are_placed(api: ProviderApi, name: str) -> None:
    from voicews.telephony import Dial

    provider = create_provider(name, "https://x.example", account_options(name, api.url))
    dial = Dial(
        to_number="+15550100001",
        from_number="+15550100002",
        answer_url="https://x.example/a",
        stream=StreamTarget(url="wss://x.example/s"),
    )
    async with ApiClient() as client:
        result = await client.send(provider.dial(dial))
    assert result.ok
    assert result.call_id
    (request,) = api.of(result.call_id, "dial")
    assert request.provider == name


async def test_a_command_that_comes_twice_is_carried_out_once(api: ProviderApi) -> None:
    asked: list[str] = []
    api.attach("c1", lambda request: asked.append(request.action))
    url, headers = f"{api.url}/v2/calls/c1/actions/answer", {"Content-Type": "application/json"}
    for command_id in ("one", "one", "two"):
        body = json.dumps({"command_id": command_id}).encode()
        assert (await http_request("POST", url, headers, body)).status == 200
    await asyncio.sleep(0)
    assert asked == ["answer", "answer"]
    assert len(api.of("c1", "answer")) == 3


# --- Call Control ---------------------------------------------------------------------------------

RTP = {"stream_url": "ws://127.0.0.1:9/s", "stream_bidirectional_mode": "rtp"}

WRONG_STREAMS: list[tuple[dict[str, Any], str]] = [
    ({"stream_bidirectional_mode": "mp3"}, "raw audio is dropped"),
    ({"stream_bidirectional_mode": "RTP"}, "expected one of rtp, mp3, found 'RTP'"),
    ({"stream_track": "inbound"}, "stream_track"),
    ({"stream_bidirectional_sampling_rate": "8000"}, "stream_bidirectional_sampling_rate"),
    ({"stream_url": "wss://elsewhere.example/s"}, "at the public URL"),
    ({"stream_auth_token": "x" * 4001}, "4000 characters"),
]
WRONG_COMMANDS: list[tuple[str, dict[str, Any], str]] = [
    ("answer", {"custom_parameters": []}, "unknown fields custom_parameters"),
    ("answer", {"client_state": "%"}, "expected base64"),
    ("answer", {"client_state": {"a": 1}}, "expected base64"),
    ("reject", {}, "cause: expected one of CALL_REJECTED"),
    ("reject", {"cause": "user_busy"}, "cause: expected one of CALL_REJECTED"),
    ("hang up", {"cause": "USER_BUSY"}, "unknown fields cause"),
]


def command(action: str, fields: Mapping[str, Any], key: str = "KEY-voicews-test") -> ApiCall:
    return ApiCall(
        at=0.0,
        provider="telnyx",
        action=action,
        call_id="c1",
        status=200,
        fields=fields,
        headers={"Authorization": f"Bearer {key}"},
    )


@pytest.fixture
def parked(api: ProviderApi) -> CallControlCall:
    call = place_call("telnyx", SERVER, call_control=True, api=api)
    assert isinstance(call, CallControlCall)
    return call


@pytest.mark.parametrize(("fields", "rule"), WRONG_STREAMS)
async def test_streams_that_telnyx_would_not_open(
    parked: CallControlCall, fields: dict[str, Any], rule: str
) -> None:
    parked._take_stream(RTP)
    assert parked.violations == []
    parked._take_stream({**RTP, **fields})
    assert rule in parked.violations[0].rule


@pytest.mark.parametrize(("action", "fields", "rule"), WRONG_COMMANDS)
async def test_commands_that_telnyx_would_not_take(
    parked: CallControlCall, action: str, fields: dict[str, Any], rule: str
) -> None:
    parked._requested(command(action, fields))
    assert rule in parked.violations[0].rule


async def test_commands_without_a_key_and_twice(parked: CallControlCall) -> None:
    parked._requested(command("answer", RTP))
    assert parked.violations == []
    parked._requested(command("answer", RTP, key="another"))
    rules = [violation.rule for violation in parked.violations]
    assert rules[0].startswith("10009")
    assert "found another one" in rules[1]


@pytest.mark.parametrize(
    "model",
    [
        CallInitiated,
        CallAnswered,
        CallHangup,
        CallStreamingStarted,
        CallStreamingStopped,
        CallStreamingFailed,
    ],
)
def test_events_are_those_that_telnyxs_own_library_reads(
    parked: CallControlCall, model: Any
) -> None:
    (event_type,) = model.model_fields["event_type"].annotation.__args__[0].__args__
    data = parked.event(event_type)["data"]
    event = model.model_validate(data)
    assert event.to_dict(mode="json", use_api_names=True).keys() == data.keys()
    assert not event.model_extra
    assert not event.payload.model_extra


def test_call_control_is_telnyxs_and_needs_an_api(api: ProviderApi) -> None:
    with pytest.raises(ConfigurationError, match="expected telnyx, found 'twilio'"):
        place_call("twilio", SERVER, call_control=True, api=api)
    with pytest.raises(ConfigurationError, match="expected an api"):
        place_call("telnyx", SERVER, call_control=True)


@contextmanager
def answering(provider: Provider, target: StreamTarget) -> Iterator[str]:
    """A server that answers calls by a command and does nothing else; its URL."""

    async def send(event: Any) -> None:
        wanted = provider.answer(event, target).request
        assert wanted is not None
        async with ApiClient() as client:
            assert (await client.send(wanted)).ok

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            request = Request(method="POST", path=self.path, query="", headers=headers, body=body)
            provider.verify_webhook(request)
            event = provider.parse_webhook(request)
            if event.wants_answer:
                asyncio.run(send(event))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_what_the_answer_gives_to_carry_comes_back(api: ProviderApi) -> None:
    opened: list[tuple[str, Any]] = []

    async def take(socket: ServerConnection) -> None:
        assert socket.request is not None
        token = socket.request.headers["x-telnyx-streaming-auth-token"]
        await socket.recv()
        opened.append((token, json.loads(await socket.recv())["start"]))

    provider = create_provider("telnyx", "http://x.example", account_options("telnyx", api.url))
    assert isinstance(provider, Telnyx)
    target = StreamTarget(url="ws://x.example/s", parameters={"token": "3f9c", "order": "17"})
    async with serve(take, "127.0.0.1", 0) as sockets:
        with answering(provider, target) as url:
            call: Any = CallControlCall(provider, url, api=api)
            port = next(iter(sockets.sockets)).getsockname()[1]
            call.reachable = lambda stream_url: f"ws://127.0.0.1:{port}/s"
            await call.ring()
            await call.open_stream()
            assert await call.wait_over() == 1000
            # This server leaves the call open: the caller hears nothing, until they tire of it.
            await call.hang_up()
    ((token, start),) = opened
    assert token == "3f9c"
    assert start["client_state"] == call.client_state
    message = json.dumps({"event": "start", "stream_id": "s", "start": start})
    frame = provider.new_serializer().deserialize(message)
    assert isinstance(frame, CallStartedFrame)
    assert frame.parameters == {"token": "3f9c", "order": "17"}
    assert [violation.rule for violation in call.violations] == [
        "expected a command to hang up: the end of the stream is not enough"
    ]
