"""A call that must not notice what others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np

from tests.consumers.client import Client, audio_message
from tests.consumers.site import Site

SAMPLES = 320
#: An echo that takes longer than this (seconds) has been held up, on whatever machine.
LATENCY_LIMIT_SECS = 1.5


class HealthyCall:
    """Sends numbered frames in real time to an exact echo."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent = bytearray()
        self.sent_at: list[float] = []

    async def talk(self) -> None:
        begun = time.monotonic()
        for number in range(32_000):
            await asyncio.sleep(begun + number * 0.02 - time.monotonic())
            pcm = np.full(SAMPLES, number + 1, "<i2").tobytes()
            self.sent += pcm
            self.sent_at.append(time.monotonic())
            await self.client.send(audio_message(pcm))

    async def check(self) -> None:
        """Everything came back, in order, in time, without a hole in the positions."""
        client = self.client
        await client.wait_until(lambda: len(client.pcm) >= len(self.sent))
        assert client.pcm == bytes(self.sent)
        positions = [heard.pts for heard in client.audio]
        assert positions == [number * 20_000_000 for number in range(len(positions))]
        latencies = [
            heard.at - sent_at for heard, sent_at in zip(client.audio, self.sent_at, strict=True)
        ]
        assert max(latencies) < LATENCY_LIMIT_SECS
        assert client.interruptions == []
        assert not client.is_closed


@asynccontextmanager
async def healthy_call(site: Site, *, at_least_secs: float = 0.5) -> AsyncIterator[HealthyCall]:
    """A call that runs meanwhile, and is looked at in the end."""
    async with site.call("exact_echo") as client:
        await client.ready()
        call = HealthyCall(client)
        talking = asyncio.create_task(call.talk())
        begun = time.monotonic()
        try:
            yield call
            await asyncio.sleep(max(0.0, begun + at_least_secs - time.monotonic()))
        finally:
            talking.cancel()
            with suppress(asyncio.CancelledError):
                await talking
        await call.check()
