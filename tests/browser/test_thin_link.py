"""A link of 64 kbit/s from the browser to the server: Opus, and a camera beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.chromium import camera, microphone
from tests.browser.conftest import OpenPage
from tests.browser.sound import Track, silence, tone, write_microphone
from tests.relay import relaying
from tests.server_processes import Server

BITS_PER_SEC = 64_000
BURST_SECS, PERIOD_SECS = 0.6, 1.0
#: A listener that has so much in its buffer hears no gap: a piece of a picture is on the link for
#: up to a third of a second, a picture in one piece would be there for nearly a second.
BUFFER_SECS = 0.6
#: The browser needs a moment to find the level of its microphone.
SETTLING_SECS = 2.0

#: Two seconds apart.
MAX_QUESTIONS = 20

_CALL = """async () => {
  const { OpusFrameSerializer, VoiceClient, WebSocketTransport } =
    await import("/static/voicews/index.js");
  globalThis.serializer = new OpusFrameSerializer();
  globalThis.client = new VoiceClient({ transport: new WebSocketTransport({ serializer }) });
  await client.connect({ endpoint: "/voice/connect/", requestData: { bot: "recorder" } });
  // What was said before the bot was there may wait in vain.
  globalThis.droppedBeforeMs = client.stats.droppedMicMs;
  await client.enableCam(true);
}"""


@pytest.fixture(scope="module")
def devices(sounds: Path) -> tuple[str, ...]:
    """A microphone that hears bursts of a tone, a camera that sees what JPEG finds hard."""
    bursts = (tone(523, BURST_SECS), silence(PERIOD_SECS - BURST_SECS))
    return (
        *microphone(write_microphone(sounds / "bursts.wav", *bursts)),
        *camera(sounds / "camera.y4m", (200, 40, 40), (40, 60, 200), speckles=True),
    )


@pytest.fixture(scope="module")
def thin_port(site: Server) -> Iterator[int]:
    """The port of the server behind the thin link."""
    with relaying(site.port, up_bits_per_sec=BITS_PER_SEC) as port:
        yield port


def lateness(arrivals: list[tuple[float, int]], sample_rate: int) -> list[float]:
    """How much later (seconds) each piece came than the fastest one, by the clock of its audio."""
    samples = np.cumsum([0, *(count for _, count in arrivals)])
    late = np.array([at for at, _ in arrivals]) - samples[1:] / sample_rate
    return [float(one) for one in late - late.min()]


def is_shrunk(pictures: list[dict[str, Any]]) -> bool:
    """Whether the last one is smaller than the first one, in pixels and in bytes."""
    first, last = pictures[0], pictures[-1]
    return bool(last["size"][0] < first["size"][0] and 2 * last["bytes"] < first["bytes"])


@pytest.mark.alone
def test_a_camera_does_not_disturb_the_audio(
    open_page: OpenPage, devices: tuple[str, ...], thin_port: int
) -> None:
    page = open_page(f"http://127.0.0.1:{thin_port}/two-buttons/", *devices)
    page.evaluate(_CALL)

    def ask(what: str) -> Any:
        return page.evaluate("what => client.sendClientRequest(what)", what)

    def pictures_until(enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        # A question costs time on the link too.
        for _ in range(MAX_QUESTIONS):
            page.wait_for_timeout(2000)
            pictures: list[dict[str, Any]] = ask("pictures")
            if enough(pictures):
                return pictures
        pytest.fail(f"waited in vain, found {pictures}")

    small = pictures_until(lambda found: len(found) > 1 and is_shrunk(found))
    pictures = pictures_until(lambda found: len(found) >= len(small) + 4)
    dropped_ms = page.evaluate("client.stats.droppedMicMs - droppedBeforeMs")
    heard = ask("heard")
    assert page.evaluate("serializer.isAgreed")
    assert pictures[0]["size"] == [640, 480]
    assert is_shrunk(pictures)

    assert dropped_ms == 0
    track = Track(heard["pcm"], heard["sample_rate"])
    bursts = [burst for burst in track.sounds() if burst.start > SETTLING_SECS][:-1]
    assert len(bursts) >= 5
    for burst in bursts:
        assert burst.seconds == pytest.approx(BURST_SECS, abs=0.03)
    for one, other in pairwise(bursts):
        assert other.start - one.start == pytest.approx(PERIOD_SECS, abs=0.015)
    assert max(lateness(heard["arrivals"], heard["sample_rate"])) < BUFFER_SECS
