"""A bus over the channel layer: several buses, as several processes have them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.polling import until
from tests.sessions.cluster import Redis
from tests.workers.agents import Listener, Researcher
from voicews.exceptions import ConfigurationError
from voicews.workers import (
    BusJobRequestMessage,
    BusJobUpdateMessage,
    BusWorkerLocalErrorMessage,
    ChannelLayerBus,
    JobError,
    JobParams,
    WorkerRunner,
)


class BadLayer(InMemoryChannelLayer):
    """A channel layer that can be broken."""

    broken = False

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.broken:
            raise ConnectionError("Redis is away")
        await super().group_send(group, message)


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> BadLayer:
    layer = BadLayer()
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    return layer


async def started(*workers: Any, **options: Any) -> tuple[WorkerRunner, ChannelLayerBus]:
    bus = ChannelLayerBus(**options)
    runner = WorkerRunner(bus=bus)
    await runner.add_workers(*workers)
    await runner.start()
    return runner, bus


async def test_a_job_across_processes(layer: BadLayer) -> None:
    voice, research = Listener(), Researcher()
    here, _ = await started(voice)
    there, _ = await started(research)
    async with voice.job("research", params=JobParams(name="stream", payload={"n": 2})) as one:
        events = [event.type async for event in one]
    assert events == ["update", "stream_start", "stream_data", "stream_data", "stream_end"]
    assert one.response == {"sum": 1}
    assert here.registry.remote_workers == ["research"]
    assert there.registry.remote_workers == ["voice"]
    await there.stop()
    await until(lambda: "research" not in here.registry)
    await here.stop()


async def test_each_hears_a_message_once_and_local_ones_stay(layer: BadLayer) -> None:
    one, two = Listener("one"), Listener("two")
    here, _ = await started(one)
    there, _ = await started(two)
    here.bus.send(BusJobUpdateMessage(source="x", job_id="1"))
    here.bus.send(BusWorkerLocalErrorMessage(source="x", error="e"))
    here.bus.send(BusJobUpdateMessage(source="x", job_id="2"))
    await until(lambda: len(two.of(BusJobUpdateMessage)) == 2)
    assert [message.job_id for message in one.of(BusJobUpdateMessage)] == ["1", "2"]
    assert two.of(BusWorkerLocalErrorMessage) == []
    await here.stop()
    await there.stop()


async def test_groups_are_apart(layer: BadLayer) -> None:
    one, two = Listener("one"), Listener("two")
    here, _ = await started(one, group="blue")
    there, _ = await started(two, group="green")
    here.bus.send(BusJobUpdateMessage(source="x", job_id="1"))
    await asyncio.sleep(0.05)
    assert two.of(BusJobUpdateMessage) == []
    await here.stop()
    await there.stop()


async def test_a_layer_that_fails_costs_messages_that_are_counted(
    layer: BadLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicews.workers.bus.RETRY_SECS", 0.05)
    one, two = Listener("one"), Listener("two")
    here, bus = await started(one, max_queued_messages=3)
    there, _ = await started(two)
    await asyncio.sleep(0.02)
    layer.broken = True
    for n in range(5):
        here.bus.send(BusJobUpdateMessage(source="x", job_id=str(n)))
    assert bus.dropped_messages == 2
    assert len(one.heard) <= 5  # nobody waited
    await until(lambda: bus.dropped_messages > 2)
    layer.broken = False
    await until(lambda: len(two.of(BusJobUpdateMessage)) + bus.dropped_messages == 5)
    heard = [message.job_id for message in two.of(BusJobUpdateMessage)]
    assert len(heard) + bus.dropped_messages == 5
    await here.stop()
    await there.stop()


async def test_what_is_no_message_is_refused(layer: BadLayer) -> None:
    worker = Listener()
    runner, bus = await started(worker)
    for data in (b"{", b'{"__type__":"os.system","__data__":"true"}'):
        event = {"type": "voicews.worker", "origin": "x", "data": data}
        await layer.group_send("voicews.workers", event)
    runner_two, bus_two = await started(Listener("two"))
    bus_two.send(BusJobRequestMessage(source="two", target="voice", job_id="1"))
    await until(lambda: worker.of(BusJobRequestMessage))
    assert bus.refused_messages == 2
    await runner.stop()
    await runner_two.stop()


async def test_there_must_be_a_channel_layer(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    with pytest.raises(ConfigurationError, match="CHANNEL_LAYERS"):
        await started(layer="default")


@pytest.mark.program
async def test_over_redis_which_goes_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = Redis(tmp_path)
    aliases = ("here", "there")
    for alias in aliases:
        monkeypatch.setitem(
            channel_layers.backends, alias, RedisPubSubChannelLayer(hosts=[redis.url])
        )
    voice, research = Listener(), Researcher()
    here, bus = await started(voice, layer="here")
    there, _ = await started(research, layer="there")
    params = JobParams(name="double", payload={"n": 2}, timeout=10)

    async def ask() -> Any:
        async with voice.job("research", params=params) as one:
            pass
        return one.response

    try:
        assert await ask() == {"result": 4}
        redis.kill()
        here.bus.send(BusJobUpdateMessage(source="voice", target="research", job_id="lost"))
        await until(lambda: bus.dropped_messages == 1)
        redis.restart()
        async with asyncio.timeout(20):
            while True:
                try:
                    asked = JobParams(name="double", payload={"n": 2}, timeout=1)
                    async with voice.job("research", params=asked) as one:
                        pass
                except JobError:
                    continue
                assert one.response == {"result": 4}
                break
        await here.stop()
        await there.stop()
    finally:
        redis.kill()
        for alias in aliases:
            await channel_layers[alias].flush()
