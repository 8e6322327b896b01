"""What strangers and broken providers send: refused, and no other call notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.polling import until
from tests.telephony.simulators.conftest import BOTH_SERVERS, PlaceCall
from voicews.audio.g711 import decode_ulaw
from voicews.testing import CALLS, CallRefused, SimulatedCall

SIGNED_WEBHOOKS = ["twilio", "telnyx", "plivo", "exotel", "vonage"]
SIGNED_UPGRADES = ["twilio", "plivo", "exotel", "vonage", "genesys"]

HOSTILE: list[str | bytes] = [
    "",
    "null",
    "[]",
    "{",
    '{"event":' * 5000,
    "[" * 100_000,
    json.dumps({"event": "media", "media": {"payload": "not base64!"}}),
    json.dumps({"event": "media", "media": {"payload": "/w=="}, "streamSid": "MZother"}),
    json.dumps({"event": "dtmf", "dtmf": {"digit": "1" * 5000}}),
    json.dumps({"event": {"event": "start"}}),
    json.dumps({"event": "start", "start": {"callSid": "CA1", "streamSid": "../../x"}}),
    b"\xff" * 1000,
    b"",
]


@asynccontextmanager
async def healthy_call(place: PlaceCall) -> AsyncIterator[SimulatedCall[Any]]:
    """A call beside, of which every byte must come back."""
    said = decode_ulaw(bytes(range(256)) * 15)
    async with place("twilio", "exact_echo") as call:
        saying = asyncio.create_task(call.say(said))
        yield call
        await saying
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


def _form(call: SimulatedCall[Any]) -> dict[str, str]:
    return {"CallSid": call.call_id, "CallUUID": call.call_id, "uuid": call.call_id, "From": "+1"}


@pytest.mark.parametrize("name", SIGNED_WEBHOOKS)
async def test_webhooks_that_are_not_signed(place: PlaceCall, name: str) -> None:
    call: Any = place(name)
    assert (await call.webhook("answer", _form(call), headers={})).status == 403
    wrong = {
        "X-Twilio-Signature": "AAAA",
        "X-Plivo-Signature-V3": "AAAA",
        "X-Plivo-Signature-V3-Nonce": "1",
        "Telnyx-Timestamp": "1",
        "Telnyx-Signature-Ed25519": "AAAA",
        "Authorization": "Bearer a.b.c" if name == "vonage" else "Basic AAAA",
    }
    assert (await call.webhook("answer", _form(call), headers=wrong)).status == 403
    assert (await call.webhook("status", _form(call), headers=wrong)).status == 403


async def test_webhooks_that_were_signed_long_ago(place: PlaceCall) -> None:
    telnyx: Any = place("telnyx")
    old = telnyx.sign(b"CallSid=x", timestamp=1_700_000_000)
    assert (await telnyx.webhook("status", {"CallSid": "x"}, headers=old)).status == 403
    vonage: Any = place("vonage")
    old = vonage.sign(iat=1_700_000_000)
    assert (await vonage.webhook("answer", {"uuid": "x"}, headers=old)).status == 403


@BOTH_SERVERS
@pytest.mark.parametrize("name", SIGNED_UPGRADES)
async def test_sockets_that_are_not_signed(place: PlaceCall, name: str) -> None:
    call = place(name)
    await call.ring()
    with pytest.raises(CallRefused) as refusal:
        await call.open_stream(headers={})
    assert refusal.value.status == 403


@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "exotel", "vonage"])
async def test_sockets_with_another_token(place: PlaceCall, name: str) -> None:
    call = place(name)
    await call.ring()
    path, query = call.stream_url.partition("?")[::2]
    call.stream_url = path.rstrip("/")[:-8] + "0" * 8 + "/" + (f"?{query}" if query else "")
    with pytest.raises(CallRefused) as refusal:
        await call.open_stream()
    assert refusal.value.status == 403


@BOTH_SERVERS
@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "exotel", "vonage"])
async def test_a_token_opens_one_socket(place: PlaceCall, name: str) -> None:
    async with place(name, "ivr") as call:
        await call.wait_heard(0.1)
        thief = place(name)
        thief.stream_url = call.stream_url
        with pytest.raises(CallRefused) as refusal:
            await thief.open_stream()
        assert refusal.value.status == 403
        await call.wait_heard(0.5)
    assert call.violations == []


@BOTH_SERVERS
@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "exotel"])
async def test_the_start_of_another_call(place: PlaceCall, name: str) -> None:
    async with healthy_call(place):
        call = place(name)
        await call.ring()
        call.call_id = call.new_call_id()
        await call.open_stream()
        assert await call.wait_over() == 1008
        assert call.heard.pcm == b""


@pytest.mark.parametrize("name", ["plivo", "genesys"])
async def test_an_upgrade_that_was_seen_before(place: PlaceCall, name: str) -> None:
    call: Any = place(name)
    await call.ring()
    path = call.stream_url.removeprefix("wss://voice.example.com")
    headers = call.sign(path if name == "genesys" else f"https://voice.example.com{path}")
    await call.open_stream(headers)
    replay = place(name)
    replay.stream_url = call.stream_url
    with pytest.raises(CallRefused) as refusal:
        await replay.open_stream(headers)
    assert refusal.value.status == 403
    await call.hang_up()


@BOTH_SERVERS
async def test_media_before_the_start_and_no_start_at_all(place: PlaceCall) -> None:
    call: Any = place("twilio")
    call._begin_stream = lambda: None
    await call.ring()
    await call.open_stream()
    assert await call.wait_over(5.0) in (1007, 1008)


@BOTH_SERVERS
@pytest.mark.parametrize("name", CALLS)
async def test_bad_messages_in_a_call(place: PlaceCall, name: str) -> None:
    async with healthy_call(place):
        call = place(name, "ivr")
        await call.ring()
        await call.open_stream()
        await call.wait_heard(0.2)
        for message in HOSTILE:
            if call.is_over:
                break
            await call.send_raw(message)
        await call.hang_up()


@BOTH_SERVERS
@pytest.mark.parametrize("name", ["twilio", "vonage"])
async def test_a_message_of_a_megabyte(place: PlaceCall, name: str) -> None:
    async with healthy_call(place):
        call = place(name, "ivr")
        await call.ring()
        await call.open_stream()
        await call.wait_heard(0.2)
        bomb: str | bytes = "x" * 1_000_000 if name == "twilio" else bytes(1_000_000)
        await call.send_raw(bomb)
        await until(lambda: call.is_over)
        assert call.close_code == 1009
