"""One call from each provider, from its webhook to its end, to a real server process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from project.bots import Ivr, tone
from tests.phone.conftest import PlaceCall
from tests.phone.project.bots import Talker
from tests.polling import until
from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.testing import CALLS, ProviderApi, SimulatedCall, Trouble

#: The providers whose calls are hung up by a request, beside the end of their stream.
WITH_HANG_UP = frozenset(["twilio", "telnyx", "plivo", "vonage"])
LEAD_SECS = 0.2
#: How much audio (seconds) a provider wants in one message: an echo is late by that.
PACKET_SECS = {"exotel": 0.2, "genesys": 0.25}
CHUNK_SECS = {"exotel": 0.1}

ReadSession = Callable[[str], dict[str, Any]]


def on_the_phone(name: str, pcm: bytes) -> bytes:
    """What a provider's codec leaves of it."""
    return pcm if name in ("exotel", "vonage") else decode_ulaw(encode_ulaw(pcm))


def assert_heard(name: str, heard: bytes, said: bytes) -> None:
    """All of it was heard, to the last sample, and nothing but a packet's silence after it."""
    expected = on_the_phone(name, said)
    assert heard[: len(expected)] == expected
    rest = np.frombuffer(heard[len(expected) :], "<i2")
    assert not rest.any()
    assert len(rest) < 8000 * (PACKET_SECS.get(name, 0.02) + 0.02)


def is_heard(call: SimulatedCall[Any], since: float) -> bool:
    return call.heard.sound_from(since) is not None


def has_heard_bytes(call: SimulatedCall[Any], size: int) -> bool:
    return len(call.heard.pcm) > size


def is_cleared(call: SimulatedCall[Any], since: float) -> bool:
    return any(at > since for at in call.cleared_at)


async def echo_latency_secs(call: SimulatedCall[Any]) -> float:
    """How long a click takes to the bot and back: the best of three, as others use this machine."""
    found = []
    for _ in range(3):
        said_at = await call.start_saying(tone(1000, 100))
        await until(partial(is_heard, call, said_at))
        heard_at = call.heard.sound_from(said_at)
        assert heard_at is not None
        found.append(heard_at - said_at)
        await call.wait_quiet(0.3)
    return min(found)


async def barge_in_latency_secs(call: SimulatedCall[Any]) -> float:
    """How long the menu's ladder is heard after a key: the best of up to three, as above."""
    found: list[float] = []
    while len(found) < 3 and min(found, default=LEAD_SECS) >= LEAD_SECS:
        await call.press("2")
        heard_bytes = len(call.heard.pcm)
        await call.wait_until(partial(has_heard_bytes, call, heard_bytes + 4000))
        pressed_at = asyncio.get_running_loop().time()
        await call.press("4")
        await call.wait_until(partial(is_cleared, call, pressed_at))
        await call.wait_quiet(0.3)
        found.append(call.barge_in_latency_secs(pressed_at))
    return min(found)


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_ring_to_the_bots_goodbye(
    place: PlaceCall, provider_api: ProviderApi, session_row: ReadSession, name: str
) -> None:
    call = place(name, "ivr")
    async with call:
        await call.wait_heard(len(Ivr.greeting) / 16000)
        await call.wait_quiet(0.3)
        assert_heard(name, call.heard.pcm, Ivr.greeting)
        assert all(gap.duration_secs < 0.5 for gap in call.heard.gaps())

        await call.press("1")
        waits = PACKET_SECS.get(name, 0.0) + CHUNK_SECS.get(name, 0.0)
        assert await echo_latency_secs(call) < 0.1 + waits

        assert await barge_in_latency_secs(call) < LEAD_SECS

        heard_bytes = len(call.heard.pcm)
        await call.press("9")
        assert await call.wait_over() == 1000
        assert_heard(name, call.heard.pcm[heard_bytes:], Ivr.goodbye)
    if name in WITH_HANG_UP:
        await provider_api.wait_for(call.call_id, "hang up")
    await until(lambda: session_row(call.call_id)["hang_up"] not in ("", "requested"))
    assert len(provider_api.hang_ups(call.call_id)) == (name in WITH_HANG_UP)
    assert session_row(call.call_id)["state"] == "ended"
    assert call.violations == []


@pytest.mark.parametrize("name", CALLS)
async def test_the_caller_talks_over_the_bot_and_hangs_up(
    place: PlaceCall, provider_api: ProviderApi, session_row: ReadSession, name: str
) -> None:
    # Speech must be certain, then what it takes to silence the bot.
    limit_secs = 0.1 + CHUNK_SECS.get(name, 0.02) + LEAD_SECS
    for attempts_left in (2, 1, 0):
        async with place(name, "talker") as call:
            await call.wait_heard(0.8)
            spoke_at = await call.start_saying(tone(700, 600))
            await call.wait_until(partial(is_cleared, call, spoke_at))
            await call.wait_quiet(0.5)
            latency_secs = call.barge_in_latency_secs(spoke_at)
            assert len(call.heard.pcm) < len(Talker.speech) / 2
        if latency_secs < limit_secs or not attempts_left:
            break
    assert latency_secs < limit_secs
    await until(lambda: session_row(call.call_id)["state"] == "ended")
    # The provider has ended the call: there is nothing to hang up.
    assert provider_api.hang_ups(call.call_id) == []
    assert call.violations == []


@pytest.mark.parametrize("name", ["twilio", "telnyx", "plivo", "vonage"])
async def test_statuses_out_of_order_take_nothing_back(
    place: PlaceCall, session_row: ReadSession, name: str
) -> None:
    words = {"vonage": ("answered", "completed", "ringing")}
    in_progress, completed, ringing = words.get(name, ("in-progress", "completed", "ringing"))
    async with place(name, "ivr") as call:
        await call.wait_heard(0.2)
        assert (await call.send_status(in_progress)).status == 200
        assert (await call.send_status(ringing)).status == 200
        assert session_row(call.call_id)["call_status"] == "in-progress"
    assert (await call.send_status(completed)).status == 200
    assert (await call.send_status(in_progress)).status == 200
    row = session_row(call.call_id)
    assert row["call_status"] == "completed"


async def test_keys_that_the_bot_presses(place: PlaceCall, provider_api: ProviderApi) -> None:
    async with place("plivo", "listener") as plivo, place("telnyx", "listener") as telnyx:
        await asyncio.sleep(0.2)
        await plivo.press("5")
        await telnyx.press("5")
        await plivo.wait_until(lambda: plivo.pressed_by_bot == "42#")
        (request,) = await provider_api.wait_for(telnyx.call_id, "send dtmf")
        assert request.fields["digits"] == "42#"
    assert plivo.violations == telnyx.violations == []


async def test_audio_out_of_order_with_jitter_is_heard_in_order(place: PlaceCall) -> None:
    trouble = Trouble(jitter_secs=0.015, reordered_chunks=4)
    said = decode_ulaw(bytes(range(256)) * 25)
    async with place("telnyx", "exact_echo", trouble=trouble) as call:
        await asyncio.sleep(0.3)
        await call.say(said)
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


async def test_a_line_that_stalls_loses_nothing(place: PlaceCall) -> None:
    said = decode_ulaw(bytes(range(256)) * 50)
    async with place("twilio", "exact_echo") as call:
        saying = asyncio.create_task(call.say(said))
        await asyncio.sleep(0.4)
        await call.stall(0.8)
        await saying
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


@pytest.mark.parametrize("name", ["twilio", "vonage"])
async def test_a_connection_that_breaks_has_the_call_hung_up_once(
    place: PlaceCall, provider_api: ProviderApi, session_row: ReadSession, name: str
) -> None:
    async with place(name, "talker") as call:
        await call.wait_heard(0.2)
        call.abort()
        await provider_api.wait_for(call.call_id, "hang up")
    await until(lambda: session_row(call.call_id)["hang_up"] not in ("", "requested"))
    assert len(provider_api.hang_ups(call.call_id)) == 1


async def test_a_probe_of_genesys_reaches_no_bot(place: PlaceCall) -> None:
    call = place("genesys", is_probe=True)
    async with call:
        await call.wait_over()
    assert call.heard.pcm == b""
    assert call.violations == []
