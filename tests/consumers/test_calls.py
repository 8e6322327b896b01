"""Calls as they should go, over real sockets."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from tests.audio.signals import pcm, samples, speech, tone
from tests.consumers.client import RATE, audio_message, calling, json_message, rtvi_message
from tests.consumers.healthy import healthy_call
from tests.consumers.site import Site, parts, session_of
from tests.interop.signals import dominant_frequency
from tests.polling import until
from voicews.audio.pcm import silence
from voicews.audio.wav import wrap_wav


async def test_echo_returns_the_tone_whole(site: Site) -> None:
    async with site.call("echo") as client:
        await client.ready()
        said = pcm(tone(440, 1.5, RATE))
        await client.say(said, speed=1)
        # Resampling from 16 to 24 kHz holds back 2 ms at the most.
        expected_bytes = int(len(said) * 1.5) - 2 * 24 * 2
        await client.wait_until(lambda: len(client.pcm) >= expected_bytes)
        assert {(heard.sample_rate, heard.num_channels) for heard in client.audio} == {(24000, 1)}
        assert dominant_frequency(client.pcm, 24000) == pytest.approx(440, abs=2)
        middle = samples(client.pcm)[2400:33600].reshape(-1, 480)
        loudness = np.sqrt(np.mean(middle**2, axis=1))
        assert loudness.min() > 0.3, "a gap in the tone"
        position = 0
        for heard in client.audio:
            assert heard.pts == pytest.approx(position * 1e9 / 24000, abs=1000)
            position += len(heard.pcm) // 2


async def test_echo_is_exact_and_in_order(site: Site) -> None:
    async with healthy_call(site, at_least_secs=1.0):
        pass


async def test_a_message_may_hold_a_whole_wav_file(site: Site) -> None:
    said = pcm(tone(300, 0.1, RATE))
    async with site.call("exact_echo") as client:
        await client.ready()
        # The header decides, whatever the message says around it.
        await client.send(audio_message(wrap_wav(said, RATE, 1), 48000, 2))
        await client.wait_until(lambda: len(client.pcm) >= len(said))
        assert client.pcm == said


async def test_parrot_repeats_what_was_said(site: Site) -> None:
    said = pcm(speech(1.0, RATE))
    async with site.call("parrot") as client:
        await client.ready()
        await client.say(silence(0.5, RATE) + said + silence(1.5, RATE), speed=4)
        await client.wait_message("bot-stopped-speaking")
        kinds = [message["type"] for message in client.messages if "speaking" in message["type"]]
        assert kinds == [
            "user-started-speaking",
            "user-stopped-speaking",
            "bot-started-speaking",
            "bot-stopped-speaking",
        ]
        assert 0.9 < len(client.pcm) / 2 / 24000 < 2.0
        assert client.interruptions == []


async def test_barge_in_silences_the_bot_at_once(site: Site) -> None:
    said = pcm(speech(2.0, RATE))
    async with site.call("parrot") as client:
        await client.ready()
        await client.say(silence(0.5, RATE) + said + silence(1.2, RATE), speed=4)
        await client.wait_until(lambda: len(client.audio) > 2)
        since = time.monotonic()
        await client.say(said[: RATE * 2])
        await client.wait_until(lambda: client.interruptions)
        at, heard_before = client.interruptions[0]
        assert at - since < 0.3
        before = client.audio[:heard_before]
        sent_secs = sum(len(heard.pcm) for heard in before) / 2 / 24000
        # Of what had been sent by then, no more than the lead and one chunk lay ahead.
        assert sent_secs <= at - before[0].at + 0.2 + 0.04 + 0.05
        assert len(client.audio) == heard_before
        kinds = [message["type"] for message in client.messages]
        assert "bot-interrupted" in kinds
        assert kinds[-1] == "bot-stopped-speaking" or "bot-stopped-speaking" in kinds


async def test_handshake(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        ready = await client.ready()
        assert ready["version"] == "2.2.0"
        assert ready["about"]["library"] == "voicews"
        assert ready["capabilities"]["audio_in"] is True
        assert ready["voicews"]["session"] == session
        assert ready["voicews"]["resume_token"] not in (token, "")


async def test_messages_are_answered(site: Site) -> None:
    async with site.call("counter") as client:
        await client.ready()
        assert (await client.ask("count", 1))["messages"] == 1
        assert (await client.ask("count", 2))["messages"] == 2
        await client.send(rtvi_message("nonsense", {}, "x"))
        refusal = await client.wait_message("error-response", "x")
        assert refusal["data"] == {"error": "Unsupported type nonsense"}
        assert await client.ping() < 5


async def test_bots_that_take_no_messages_say_so(site: Site) -> None:
    async with site.call("talkative") as client:
        # A message may come before the handshake, and without it.
        await client.send(json_message({"label": "other", "type": "anything"}))
        await client.ready()
    async with calling(site.path("own-pipeline")) as client:
        await client.send(audio_message(bytes(640)))
        await client.wait_until(lambda: client.audio)


async def test_a_session_with_a_pipeline_of_ones_own_is_ready(site: Site) -> None:
    url, token, _session = parts(site.connect("echo"))
    async with calling(url.replace("/ws/voice/", "/ws/own-session/"), token) as client:
        await client.ready()
        await client.send(audio_message(bytes(640)))
        await client.wait_until(lambda: client.audio)


async def test_the_client_ends_the_call(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
        await client.send(rtvi_message("disconnect-bot", {}))
        assert await client.wait_closed() == 1000
    row = await site.wait_for_end(session)
    assert (row["close_code"], row["end_reason"]) == (1000, "client asked to end")


async def test_the_bot_ends_the_call(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
        await client.send(rtvi_message("client-message", {"t": "hang up"}))
        assert await client.wait_closed() == 1000
    row = await site.wait_for_end(session)
    assert (row["close_code"], row["end_reason"]) == (1000, "bot said good-bye")


async def test_session_timeout(site: Site) -> None:
    url, token, session = parts(site.connect("brief"))
    async with calling(url, token) as client:
        await client.ready()
        since = time.monotonic()
        assert await client.wait_closed() == 4000
        assert time.monotonic() - since > 0.5
    row = await site.wait_for_end(session)
    assert (row["close_code"], row["end_reason"]) == (4000, "session timeout")
    assert "on_session_timeout" in site.events(session)


async def test_rows_and_signals(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    created = site.row(session)
    assert (created["state"], created["started_at"]) == ("created", None)
    async with calling(url, token) as client:
        await client.ready()
        row = await site.wait_for_row(session, "active")
        assert row["started_at"] is not None
        assert row["ended_at"] is None
        await client.close(1000)
    row = await site.wait_for_end(session)
    assert row["ended_at"] > row["started_at"]
    assert (row["close_code"], row["end_reason"]) == (1000, "client left")
    assert await site.whole_timeline(session) == ["connected", "ended"]
    # Signals are told by a task of their own.
    await until(lambda: "session_ended" in site.events(session))
    notes = site.journal(session)
    events = [note["event"] for note in notes]
    assert [event for event in events if event.startswith("session")] == [
        "session_started",
        "session_ended",
    ]
    assert [event for event in events if event.startswith("on_") and event != "on_end"] == [
        "on_websocket_ready",
        "on_client_connected",
        "on_client_disconnected",
    ]
    assert [note["reason"] for note in notes if note["event"] == "on_end"] == ["client left"]
    for note in notes:
        if note["event"].startswith("on_client"):
            assert note["arguments"] == ["transport", "websocket"]
            assert note["websocket"] == "SessionConsumer"
            assert note["is_sender"]
        elif note["event"] == "on_websocket_ready":
            assert note["arguments"] == ["transport"]
    assert session == session_of(url)


@pytest.mark.parametrize("bot", ["failing", "failing_async"])
async def test_a_bot_that_fails_in_every_handler(site: Site, bot: str) -> None:
    url, token, session = parts(site.connect(bot))
    async with calling(url, token) as client:
        await client.ready()
        with pytest.raises(RuntimeError, match="the bot failed to answer"):
            await client.ask()
        await client.send(rtvi_message("send-text", {"content": "hello"}))
        await client.send(rtvi_message("dtmf", {"buttons": ["1"]}))
        await client.say(silence(0.3, RATE) + pcm(speech(0.6, RATE)) + silence(1.2, RATE), speed=6)
        await client.wait_message("user-stopped-speaking")
        with pytest.raises(RuntimeError, match="the bot failed to answer"):
            await client.ask()
        # It says so once a second at the most.
        await asyncio.sleep(1.1)
        await client.send(rtvi_message("dtmf", {"buttons": ["1"]}))
        error = await client.wait_message("error")
        name = "Failing" if bot == "failing" else "FailingAsync"
        assert error["data"] == {"error": f"{name} failed", "fatal": False}
        await client.close(1000)
    assert (await site.wait_for_end(session))["close_code"] == 1000


async def test_a_bot_that_never_returns(site: Site) -> None:
    url, token, session = parts(site.connect("stuck"))
    async with healthy_call(site), calling(url, token) as client:
        await client.ready()
        await client.send(rtvi_message("send-text", {"content": "hello"}))
        await client.send(rtvi_message("dtmf", {"buttons": ["1"]}))
        # It is still an echo.
        await client.send(audio_message(bytes(640)))
        await client.wait_until(lambda: client.audio)
        await client.send(rtvi_message("disconnect-bot", {}))
        assert await client.wait_closed() == 1000
    row = await site.wait_for_end(session)
    assert (row["close_code"], row["end_reason"]) == (1000, "client asked to end")


async def test_a_slow_handler_delays_no_audio(site: Site) -> None:
    async with healthy_call(site), site.call("slow") as client:
        await client.ready()
        await client.send(rtvi_message("send-text", {"content": "hello"}))
        asking = asyncio.create_task(client.ask("slow", "answer"))
        for count in range(1, 11):
            await client.send(audio_message(bytes(640)))
            await client.wait_until(lambda count=count: len(client.audio) >= count)  # type: ignore[misc]
        assert not asking.done()
        assert await asking == "answer"


@pytest.mark.parametrize("name", ["own-pipeline", "own-bot", "plain"])
async def test_consumers_of_a_projects_own(site: Site, name: str) -> None:
    said = pcm(tone(300, 0.4, RATE))
    async with calling(site.path(name)) as client:
        await client.say(said, speed=4)
        await client.wait_until(lambda: len(client.pcm) >= len(said))
        assert client.pcm == said
        await client.close(1000)
        assert client.close_code == 1000


async def test_a_bot_without_a_session(site: Site) -> None:
    async with calling(site.path("own-bot")) as client:
        ready = await client.ready()
        assert ready["voicews"] == {}
        await client.send(rtvi_message("disconnect-bot", {}))
        assert await client.wait_closed() == 1000
