"""Fifty calls at once: nothing is lost, nothing is late."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.phone.conftest import PlaceCall
from tests.servers import Server
from voicews.audio.g711 import decode_ulaw
from voicews.testing import SimulatedCall

NUM_CALLS = 50
TALK_SECS = 15
LATE_SECS = 0.06
#: An echo passes both processes, so a share of them may wait for the callers' own work.
MAX_LATE = 0.01
#: What came while a process waited for a core, and what queued up behind it, is late too.
CATCH_UP = 3


def speech(seed: int) -> bytes:
    """Audio of which every chunk is another one, and none is silence."""
    samples = bytearray(random.Random(seed).randbytes(8000 * TALK_SECS))
    # Both zeros of mu-law.
    return decode_ulaw(bytes(samples.replace(b"\xff", b"\x01").replace(b"\x7f", b"\x02")))


async def talk(call: SimulatedCall[Any], said: bytes, all_there: asyncio.Barrier) -> list[float]:
    """Say it; all of it must come back. How late each chunk was (seconds)."""
    async with call:
        await all_there.wait()
        await call.say(said)
        await call.wait_until(lambda: said[-320:] in call.heard.pcm[-16_000:])
    assert call.violations == []
    pcm = call.heard.pcm
    begin = pcm.index(said[:320])
    assert pcm[begin : begin + len(said)] == said
    sizes = np.array([len(piece.pcm) for piece in call.heard.pieces])
    ends = np.cumsum(sizes) - begin
    heard_at = [piece.received_at for piece in call.heard.pieces]
    return [
        heard_at[int(np.searchsorted(ends, (number + 1) * 320))] - said_at
        for number, (said_at, _) in enumerate(call.said)
    ]


@dataclass(frozen=True)
class Share:
    """What a process's main thread got of the machine, and what it waited for (seconds)."""

    ran_secs: float
    waited_secs: float

    @classmethod
    def of(cls, pid: int) -> Share:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return cls(int(ran) / 1e9, int(waited) / 1e9)

    def __sub__(self, other: Share) -> Share:
        return Share(self.ran_secs - other.ran_secs, self.waited_secs - other.waited_secs)


async def test_fifty_calls_at_once(place: PlaceCall, phone_server: Server) -> None:
    async def one(number: int) -> list[float]:
        # Spread over the 20 ms of a packet and more, as calls are.
        await asyncio.sleep(number * 0.0204)
        return await talk(place("twilio", "exact_echo"), speech(number), all_there)

    all_there = asyncio.Barrier(NUM_CALLS)
    pids = (phone_server.process.pid, os.getpid())
    before = [Share.of(pid) for pid in pids]
    latencies = np.sort(np.concatenate(await asyncio.gather(*map(one, range(NUM_CALLS)))))
    server, ours = (Share.of(pid) - then for pid, then in zip(pids, before, strict=True))
    late = float((latencies > LATE_SECS).mean())
    median, nearly_all = np.percentile(latencies, [50, 99])
    figures = (
        f"echo: median {median:.3f} s, 99% {nearly_all:.3f} s, longest {latencies[-1]:.3f} s, "
        f"later than {LATE_SECS} s: {late:.2%}; server {server}, callers {ours}"
    )
    print(figures)
    # The calls fit on one core, however busy the machine is with other things.
    assert server.ran_secs < 0.9 * TALK_SECS, figures
    # What neither process could do because others held the cores is nobody's lateness.
    waited = (server.waited_secs + ours.waited_secs) / TALK_SECS
    assert late < MAX_LATE + CATCH_UP * waited, figures
