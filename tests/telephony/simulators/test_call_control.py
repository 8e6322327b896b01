"""Calls of Telnyx's Call Control: answered, refused and ended by requests to its API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from project.bots import Ivr, tone
from tests.polling import until
from tests.telephony.simulators.conftest import PlaceCall
from tests.telephony.simulators.project.bots import Talker
from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.telephony import create_provider
from voicews.testing import (
    CallControlCall,
    CallRefused,
    ProviderApi,
    Trouble,
    account_options,
)

ReadSession = Callable[[str], dict[str, Any]]
Control = Callable[..., CallControlCall]

EVENTS = ["call.initiated", "call.answered", "streaming.started", "streaming.stopped"]


@pytest.fixture
def control(place: PlaceCall) -> Control:
    """A function that gives a call of Call Control."""

    def make(bot: str = "", **options: Any) -> CallControlCall:
        return cast(CallControlCall, place("telnyx", bot, call_control=True, **options))

    return make


def events_of(call: CallControlCall) -> list[str]:
    return [event.detail for event in call.timeline if event.kind == "webhook"]


def on_the_phone(pcm: bytes) -> bytes:
    return decode_ulaw(encode_ulaw(pcm))


async def is_settled(session_row: ReadSession, call: CallControlCall) -> None:
    """Nobody has anything left to do about the call: a second hang-up would have been asked."""
    await until(lambda: session_row(call.call_id)["state"] == "ended")
    await until(lambda: session_row(call.call_id)["hang_up"] != "requested")


async def test_from_the_ring_to_the_bots_goodbye(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    async with control("ivr") as call:
        await call.wait_heard(len(Ivr.greeting) / 16000)
        await call.wait_quiet(0.3)
        assert call.heard.pcm[: len(Ivr.greeting)] == on_the_phone(Ivr.greeting)
        assert len(call.heard.pcm) < len(Ivr.greeting) + 2 * 320

        await call.press("1")
        said_at = await call.start_saying(tone(1000, 100))
        await call.wait_until(lambda: call.heard.sound_from(said_at))
        await call.wait_quiet(0.3)

        await call.press("9")
        assert await call.wait_over() == 1000
        _, goodbye, rest = call.heard.pcm.rpartition(on_the_phone(Ivr.goodbye))
        assert goodbye
        assert len(rest) < 2 * 320
        # The socket is closed; the call is over because the server said so too.
        await call.wait_ended()
    await is_settled(session_row, call)
    assert [request.status for request in provider_api.hang_ups(call.call_id)] == [200]
    assert [request.status for request in provider_api.of(call.call_id, "answer")] == [200]
    assert events_of(call) == [*EVENTS, "call.hangup"]
    assert session_row(call.call_id)["call_status"] == "completed"
    assert call.violations == []


async def test_every_sample_comes_back(control: Control) -> None:
    said = decode_ulaw(bytes(range(256)) * 50)
    trouble = Trouble(jitter_secs=0.01, reordered_chunks=3)
    async with control("exact_echo", trouble=trouble) as call:
        await asyncio.sleep(0.3)
        await call.say(said)
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


async def test_the_caller_hangs_up(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    async with control("talker") as call:
        await call.wait_heard(0.3)
    await is_settled(session_row, call)
    assert events_of(call) == [*EVENTS, "call.hangup"]
    assert provider_api.hang_ups(call.call_id) == []
    assert session_row(call.call_id)["call_status"] == "completed"
    assert len(call.heard.pcm) < len(Talker.speech) / 2
    assert call.violations == []


async def test_the_end_is_told_before_the_stream_ends(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    async with control("talker") as call:
        await call.wait_heard(0.3)
        call.end()
        assert await call.wait_over() == 1001
    await is_settled(session_row, call)
    assert provider_api.hang_ups(call.call_id) == []
    assert call.violations == []


async def test_a_stream_that_breaks_has_the_call_hung_up_once(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    async with control("talker") as call:
        await call.wait_heard(0.2)
        call.abort()
        await call.wait_ended()
    await is_settled(session_row, call)
    assert [request.status for request in provider_api.hang_ups(call.call_id)] == [200]
    assert call.violations == []


@pytest.mark.parametrize("seed", range(3))
async def test_events_that_come_twice_late_and_in_any_order(
    control: Control, provider_api: ProviderApi, session_row: ReadSession, seed: int
) -> None:
    trouble = Trouble(webhook_copies=3, webhook_delay_secs=1.0, seed=seed)
    async with control("ivr", trouble=trouble) as call:
        await call.wait_heard(0.3)
        await call.press("9")
        await call.wait_ended()
    assert sorted(events_of(call)) == sorted([*EVENTS, "call.hangup"] * 3)
    await is_settled(session_row, call)
    assert len(provider_api.of(call.call_id, "answer")) == 1
    assert len(provider_api.hang_ups(call.call_id)) == 1
    assert provider_api.of(call.call_id, "reject") == []
    assert session_row(call.call_id)["call_status"] == "completed"
    assert call.violations == []


async def test_statuses_out_of_order_take_nothing_back(
    control: Control, session_row: ReadSession
) -> None:
    async with control("talker") as call:
        await call.wait_heard(0.2)
        for event_type in ("call.answered", "streaming.started", "call.initiated"):
            assert (await call.send_status(event_type)).status == 200
        assert session_row(call.call_id)["call_status"] == "in-progress"
    assert (await call.send_status("call.answered")).status == 200
    assert session_row(call.call_id)["call_status"] == "completed"


async def test_an_end_that_overtakes_the_ring(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    call = control("ivr")
    assert (await call.send_status("call.hangup")).status == 200
    assert (await call.send_status("call.initiated")).status == 200
    assert [request.status for request in provider_api.of(call.call_id, "answer")] == [422]
    await is_settled(session_row, call)


async def test_an_answer_that_is_not_taken_ends_the_call(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    call = control("ivr")
    provider_api.failures.append(403)
    with pytest.raises(CallRefused, match="hung up before it was answered"):
        await call.ring()
    await call.hang_up()
    await is_settled(session_row, call)
    assert [request.status for request in provider_api.hang_ups(call.call_id)] == [200]


async def test_a_stream_that_fails_ends_the_call(
    control: Control, provider_api: ProviderApi, session_row: ReadSession
) -> None:
    call = control("ivr")
    await call.ring()
    call.stream_url = call.stream_url[:-9] + "00000000/"
    with pytest.raises(CallRefused) as refusal:
        await call.open_stream()
    assert refusal.value.status == 403
    await call.wait_ended()
    await call.hang_up()
    await is_settled(session_row, call)
    assert [request.status for request in provider_api.hang_ups(call.call_id)] == [200]


async def test_a_call_that_nobody_is_there_for(control: Control, provider_api: ProviderApi) -> None:
    call = control("nobody")
    with pytest.raises(CallRefused, match="rejected: USER_BUSY"):
        async with call:
            pass
    (request,) = provider_api.of(call.call_id, "reject")
    assert request.status == 200
    assert provider_api.of(call.call_id, "answer") == []
    assert events_of(call) == ["call.initiated", "call.hangup"]
    assert call.violations == []


async def test_events_that_are_not_signed(control: Control, provider_api: ProviderApi) -> None:
    call = control("ivr")
    event = call.event("call.initiated")
    old = call.sign(b"{}", timestamp=1_700_000_000)
    others = call.sign(b'{"data":{}}')
    for headers in ({}, old, others, {**others, "Telnyx-Timestamp": "1"}):
        assert (await call.send_event(event, headers=headers)).status == 403
    assert provider_api.of(call.call_id, "answer") == []


async def test_another_accounts_key_answers_nothing(
    control: Control, provider_api: ProviderApi, phone_server: Any
) -> None:
    account = account_options("telnyx", provider_api.url) | {"api_key": "KEY-another"}
    provider = create_provider("telnyx", "https://voice.example.com", account)
    call = CallControlCall(provider, phone_server.http_url, bot="ivr", api=provider_api)
    async with call:
        await call.wait_heard(0.1)
    assert "10009" in call.violations[0].rule
