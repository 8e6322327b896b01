"""Clients that send what they shouldn't. Another call runs meanwhile, and doesn't notice."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.consumers.client import RATE, audio_message, calling, json_message
from tests.consumers.healthy import healthy_call
from tests.consumers.site import Site, parts
from voicews.serializers.frames_pb2 import Frame

GOOD = audio_message(bytes(640))


def random_bytes(count: int) -> list[bytes | str]:
    """Messages of random bytes, none of which is a frame by accident."""
    chance = random.Random(1)
    # A wire type that doesn't exist, in front: 0xff is field 31 of type 7.
    return [b"\xff" + chance.randbytes(chance.randrange(400)) for _ in range(count)]


def truncated(count: int) -> list[bytes | str]:
    whole = audio_message(b"\1\2" * 320)
    return [whole[: 5 + index * 20] for index in range(count)]


def raw_audio(pcm: bytes, rate: int, channels: int) -> bytes:
    """An audio message with any numbers at all."""

    def varint(value: int) -> bytes:
        digits = b""
        while value > 127:
            digits += bytes([value & 127 | 128])
            value >>= 7
        return digits + bytes([value])

    audio = b"\x1a" + varint(len(pcm)) + pcm + b"\x20" + varint(rate) + b"\x28" + varint(channels)
    return b"\x12" + varint(len(audio)) + audio


NONSENSE: list[Any] = [None, [], {}, 1, "x"]
NONSENSE += [{"pts": pts} for pts in (None, "1", -1, 2**63, "nan")]
BAD: dict[str, list[bytes | str]] = {
    "random bytes": random_bytes(10),
    "truncated protobuf": truncated(10),
    "text": ["hello", "{}", "", "\u00e4", "\0", "a", "b", "c", "d", "e"],
    "an empty frame": [b""] * 10,
    "an unknown frame": [b"\x7a\x00"] * 10,
    "odd-length PCM": [audio_message(bytes(641))] * 10,
    "half a stereo sample": [audio_message(bytes(642), RATE, 2)] * 10,
    "absurd sample rates": [
        raw_audio(bytes(640), rate, 1)
        for rate in (0, 1, 7, 3_999, 192_001, 2**31, 4_000_000_000, 2**32 - 1, 2**33, 2**63)
    ],
    "absurd channels": [
        raw_audio(bytes(640), RATE, channels)
        for channels in (9, 100, 255, 256, 65_536, 2**31, 4_000_000_000, 2**32 - 1, 9, 2**31)
    ],
    "a WAV header that lies": [
        audio_message(
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0"
            + struct.pack("<HHIIHH", code, channels, rate, 1, 2, bits)
            + b"data\xff\xff\xff\xff\0\0"
        )
        for code, channels, rate, bits in [
            (1, 0, RATE, 16),
            (1, 1, 0, 16),
            (1, 1, 1, 16),
            (1, 65_535, RATE, 16),
            (1, 1, 4_000_000_000, 16),
            (1, 1, RATE, 0),
            (1, 1, RATE, 40),
            (3, 1, RATE, 16),
            (65_535, 1, RATE, 16),
            (0, 1, RATE, 16),
        ]
    ],
    "broken JSON": [
        Frame(message={"data": text}).SerializeToString()
        for text in ("", "{", "[]", "1", '"x"', "null", "[" * 5000, "nan", "{'a': 1}", "\0")
    ],
    "a playback report without sense": [
        json_message({"label": "voicews", "type": "playback", "data": data}) for data in NONSENSE
    ],
}


async def test_ten_bad_messages_in_a_row_are_too_many(site: Site) -> None:
    async def send_ten(bad: list[bytes | str]) -> tuple[int, int | None, str | None]:
        assert len(bad) == 10
        async with site.call("exact_echo") as client:
            for message in bad[:9]:
                await client.send(message)
            # A good one in between, and the count starts anew.
            await client.send(GOOD)
            for message in bad:
                await client.send(message)
            await client.wait_closed()
            return len(client.audio), client.close_code, client.close_reason

    async with healthy_call(site):
        results = {kind: await send_ten(bad) for kind, bad in BAD.items()}
    assert results == dict.fromkeys(BAD, (1, 1007, "too many invalid messages"))


async def test_the_session_of_who_sent_bad_data_waits_for_a_better_client(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with calling(url, token) as client:
        await client.ready()
        await client.ask()
        for _ in range(10):
            await client.send(b"\xff")
        assert await client.wait_closed() == 1007
    async with calling(url, token) as client:
        await client.ready()
        assert (await client.ask())["messages"] == 2
    row = await site.wait_for_end(session)
    assert row["end_reason"] == "client did not come back"


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192_000])
async def test_unusual_sample_rates_are_converted(site: Site, rate: int) -> None:
    async with site.call("exact_echo") as client:
        await client.send(audio_message(bytes(rate // 50 * 2), rate))
        await client.wait_until(lambda: client.audio)
        assert client.audio[0].sample_rate == RATE


async def test_a_message_that_is_too_big(uvicorn_site: Site) -> None:
    url, token, session = parts(uvicorn_site.connect("exact_echo"))
    async with healthy_call(uvicorn_site), calling(url, token) as client:
        await client.ready()
        await client.send(audio_message(bytes(10_000_000)))
        assert await client.wait_closed() == 1009
    await uvicorn_site.wait_for_end(session)


async def test_a_message_that_is_too_big_for_daphne(daphne_site: Site) -> None:
    url, token, session = parts(daphne_site.connect("exact_echo"))
    async with healthy_call(daphne_site), calling(url, token) as client:
        await client.ready()
        # Daphne drops the connection itself, in the middle of the message.
        with suppress(ConnectionClosed):
            await client.send(audio_message(bytes(10_000_000)))
        assert await client.wait_closed() in (1006, 1009)
    await daphne_site.wait_for_end(session)


async def test_a_message_just_below_the_limit(site: Site) -> None:
    async with healthy_call(site), site.call("counter") as client:
        await client.ready()
        await client.send(audio_message(bytes(1_000_000)))
        assert (await client.ask())["bytes_heard"] == 1_000_000


async def test_a_flood_of_messages(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    async with healthy_call(site), calling(url, token) as client:
        await client.ready()
        with suppress(ConnectionClosed):
            for count in range(20_000):
                await client.send(GOOD)
                if count % 100 == 0:
                    # Both clients live in this process.
                    await asyncio.sleep(0)
        assert await client.wait_closed() == 1008
        assert client.close_reason == "more than 200 messages a second"
    await site.wait_for_end(session)


async def test_a_flood_of_bad_messages_before_anything_else(site: Site) -> None:
    url, token, _ = parts(site.connect("counter"))
    async with healthy_call(site), calling(url, token) as client:
        with suppress(ConnectionClosed):
            for _ in range(5000):
                await client.send(b"\xff")
        assert await client.wait_closed() == 1007


async def test_bytes_that_are_no_websocket(site: Site) -> None:
    async def send_raw(data: bytes) -> None:
        url, token, session = parts(site.connect("counter"))
        async with calling(url, token) as client:
            await client.ready()
            client.websocket.transport.write(data)
            with suppress(OSError):  # the server may have reset the connection already
                client.websocket.transport.write_eof()
            await client.wait_closed()
        await site.wait_for_end(session)

    bad = [b"", b"\x81", b"\x00" * 64, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n"]
    async with healthy_call(site):
        await asyncio.gather(*map(send_raw, bad))


async def test_a_client_that_is_gone_before_it_was_let_in(site: Site) -> None:
    url, token, session = parts(site.connect("counter"))
    path = url.removeprefix(site.ws_url)
    request = (
        f"GET {path}?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", site.port)) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            own.sendall(request.encode())
    async with asyncio.timeout(20):
        # Whether it was let in or not, nothing is left over.
        await asyncio.sleep(1.5)
        if site.row(session)["state"] != "created":
            await site.wait_for_end(session)
