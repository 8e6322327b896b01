"""One call from each provider, from its webhook to its end, to a real server process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from project.bots import tone
from tests.polling import until
from tests.telephony.simulators.conftest import BOTH_SERVERS, PlaceCall
from tests.telephony.simulators.project.bots import Menu, Talker
from voicews.audio.g711 import decode_ulaw, encode_ulaw
from voicews.testing import CALLS, ProviderApi, SimulatedCall, Trouble

#: The providers whose calls are hung up by a request, beside the end of their stream.
WITH_HANG_UP = frozenset(["twilio", "telnyx", "plivo", "vonage"])
#: How much audio (seconds) a provider wants in one message.
PACKET_SECS = {"exotel": 0.2, "genesys": 0.25}

ReadSession = Callable[[str], dict[str, Any]]
ReadTranscript = Callable[[str], list[str]]


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


async def clear_after(call: SimulatedCall[Any], since: float) -> float:
    """Wait until the provider is told to drop what it has not played; when it was."""
    await call.wait_until(lambda: any(at > since for at in call.cleared_at))
    return next(at for at in call.cleared_at if at > since)


def heard_after(call: SimulatedCall[Any], since: float) -> bytes:
    """The audio that came later."""
    return b"".join(piece.pcm for piece in call.heard.pieces if piece.received_at > since)


@BOTH_SERVERS
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_ring_to_the_bots_goodbye(
    place: PlaceCall,
    provider_api: ProviderApi,
    session_row: ReadSession,
    transcript: ReadTranscript,
    name: str,
) -> None:
    click = on_the_phone(name, tone(1000, 100))
    ladder = on_the_phone(name, Menu.ladder)
    call = place(name, "menu")
    async with call:
        await call.wait_heard(len(Menu.greeting) / 16000)
        assert_heard(name, call.heard.pcm, Menu.greeting)

        await call.press("1")
        await call.say(click)
        await call.wait_until(lambda: click in call.heard.pcm)

        await call.press("2")
        await call.wait_until(lambda: ladder[:4000] in call.heard.pcm)
        pressed_at = asyncio.get_running_loop().time()
        await call.press("4")
        cleared_at = await clear_after(call, pressed_at)
        assert ladder not in call.heard.pcm

        await call.press("9")
        assert await call.wait_over() == 1000
        # Of the ladder came nothing any more.
        assert_heard(name, heard_after(call, cleared_at), Menu.goodbye)
    if name in WITH_HANG_UP:
        await provider_api.wait_for(call.call_id, "hang up")
    await until(lambda: session_row(call.call_id)["hang_up"] not in ("", "requested"))
    assert len(provider_api.hang_ups(call.call_id)) == (name in WITH_HANG_UP)
    row = session_row(call.call_id)
    assert (row["state"], row["close_code"]) == ("ended", 1000)
    await until(lambda: transcript(call.call_id) == ["♪ hello", "♪ a ladder", "♪ goodbye"])
    assert call.violations == []


@BOTH_SERVERS
@pytest.mark.parametrize("name", CALLS)
async def test_the_caller_talks_over_the_bot_and_hangs_up(
    place: PlaceCall, provider_api: ProviderApi, session_row: ReadSession, name: str
) -> None:
    async with place(name, "talker") as call:
        await call.wait_heard(0.3)
        spoke_at = await call.start_saying(tone(700, 600))
        cleared_at = await clear_after(call, spoke_at)
        assert len(call.heard.pcm) < len(Talker.speech)
        await call.wait_quiet(0.3)
        assert heard_after(call, cleared_at) == b""
    await until(lambda: session_row(call.call_id)["state"] == "ended")
    assert session_row(call.call_id)["close_code"] == 1001
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
        await plivo.press("5")
        await telnyx.press("5")
        await plivo.wait_until(lambda: plivo.pressed_by_bot == "42#")
        (request,) = await provider_api.wait_for(telnyx.call_id, "send dtmf")
        assert request.fields["digits"] == "42#"
    assert plivo.violations == telnyx.violations == []


async def test_audio_out_of_order_with_jitter_is_heard_in_order(place: PlaceCall) -> None:
    trouble = Trouble(jitter_secs=0.015, reordered_chunks=4)
    said = decode_ulaw(bytes(range(256)) * 10)
    async with place("telnyx", "exact_echo", trouble=trouble) as call:
        await call.say(said)
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


@BOTH_SERVERS
async def test_a_line_that_stalls_loses_nothing(place: PlaceCall) -> None:
    said = decode_ulaw(bytes(range(256)) * 30)
    async with place("twilio", "exact_echo") as call:
        saying = asyncio.create_task(call.say(said))
        await call.wait_heard(0.2)
        await call.stall(0.4)
        await saying
        await call.wait_until(lambda: said in call.heard.pcm)
    assert call.violations == []


@BOTH_SERVERS
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


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("ends", ["caller", "bot"])
async def test_the_status_of_a_call_without_status_webhooks(
    place: PlaceCall, session_row: ReadSession, name: str, ends: str
) -> None:
    async with place(name, "ivr") as call:
        await call.wait_heard(0.2)
        assert session_row(call.call_id)["call_status"] == "in-progress"
        if ends == "bot":
            await call.press("9")
            await call.wait_over()
    await until(lambda: session_row(call.call_id)["call_status"] == "completed")
    assert call.close_code in (1000, 1001)
