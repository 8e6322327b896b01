"""The simulators themselves: what they hear, and what they hold against a server."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from voicews.exceptions import ConfigurationError
from voicews.testing import CALLS, Heard, ProviderApi, account_options, place_call
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
    from voicews.telephony import create_provider

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
    api.attach("c1", lambda: ends.append("c1"))
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
    from voicews.telephony import ApiClient, Dial, StreamTarget, create_provider

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
