"""What pictures both ways cost the audio of the same calls: the echo's latency with and without.

``python -m tests.benchmarks.pictures``. The calls speak all the time, 16 kHz mono in messages of
20 ms, each at a moment of its own. They take turns between audio alone and audio with pictures: the
client sends a JPEG of 640 x 480, as our browser client does in pieces that are acknowledged, and
the bot shows it again at half the size, so that the server decodes, reduces and encodes each one.
"""

import argparse
import asyncio
import dataclasses
import io
import json
import math
import random
import sys
import time
from dataclasses import dataclass, field

from PIL import Image

from tests.benchmarks import load
from tests.benchmarks.browser_calls import PEERS, on_load_core
from tests.benchmarks.server_process import Server
from voicews.serializers import frames_pb2 as pb
from voicews.video.link import PictureLink

SIZE = (640, 480)
#: Spots of so many pixels: a JPEG of them is as large as one of a room with a face.
SPOT = 16
QUALITY = 75
#: `Frame.image` begins so.
IMAGE_KEY = 6 << 3 | 2
MIRROR = dataclasses.replace(PEERS[0], request={"bot": "mirror16k"})
#: Pictures that are on their way when a turn ends have so long to arrive.
SETTLE_SECS = 0.5
WITHOUT, WITH = "audio alone", "with pictures"


def picture() -> bytes:
    """A JPEG file."""
    width, height = SIZE
    spots = random.Random(1).randbytes(3 * (width // SPOT) * (height // SPOT))
    small = Image.frombytes("RGB", (width // SPOT, height // SPOT), spots)
    file = io.BytesIO()
    small.resize(SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


class PictureCall(load.Call):
    """A call that also sends pictures while `sends` is set, and takes those of the bot."""

    def __init__(self, destination: load.Destination, image: bytes) -> None:
        super().__init__(destination, load.NumberTrace())
        self.sends = False
        self.sent = 0
        self.received = 0
        self._image = image
        self._link = PictureLink()

    def send_picture(self) -> None:
        """Send one, unless the one before is still on its way."""
        if self.sends and self.is_alive and not self._link.is_busy:
            self.sent += 1
            self._send_piece(*self._link.start(self._image, time.perf_counter()))

    def frame_received(self, first: int, payload: bytes, now: float) -> None:
        if first == 0x80 | load.BINARY and payload[:1] == bytes([IMAGE_KEY]):
            self._take(pb.Frame.FromString(payload).image)
        elif first == 0x80 | load.BINARY and b"image-received" in payload:
            data = json.loads(pb.Frame.FromString(payload).message.data)["data"]
            piece = self._link.acknowledge(data["id"], data["bytes"], now)
            if piece is not None:
                self._send_piece(*piece)
        else:
            super().frame_received(first, payload, now)

    def _send_piece(self, offset: int, piece: bytes) -> None:
        image = pb.ImageRawFrame(
            id=self._link.picture_id,
            name="camera",
            image=piece,
            width=SIZE[0],
            height=SIZE[1],
            format="JPEG",
            offset=offset,
            total=len(self._image),
        )
        self._send(pb.Frame(image=image))

    def _take(self, image: pb.ImageRawFrame) -> None:
        until = image.offset + len(image.image)
        self.received += until == (image.total or until)
        message = {
            "label": "voicews",
            "type": "image-received",
            "data": {"id": image.id, "name": image.name, "bytes": until},
        }
        self._send(pb.Frame(message=pb.MessageFrame(data=json.dumps(message))))

    def _send(self, frame: pb.Frame) -> None:
        self.transport.write(load.client_frame(load.BINARY, frame.SerializeToString()))


@dataclass
class Turns:
    """What was measured in all turns of one kind. Times in seconds."""

    latencies: list[float] = field(default_factory=list)
    lost: int = 0
    measured_secs: float = 0.0
    server_cpu_secs: float = 0.0
    sent: int = 0
    received: int = 0
    windows: list[tuple[float, float]] = field(default_factory=list)

    def latency(self, quantile: float) -> float:
        return load.quantile_of(self.latencies, quantile)

    def print(self, name: str, calls: int) -> None:
        per_call = calls * self.measured_secs
        print(
            f"{name:15}"
            f"{self.latency(0.5) * 1e3:9.1f}{self.latency(0.99) * 1e3:9.1f}"
            f"{max(self.latencies, default=math.nan) * 1e3:9.1f}{self.lost:9}"
            f"{self.sent / per_call:9.1f}{self.received / per_call:9.1f}"
            f"{self.server_cpu_secs / self.measured_secs:9.0%}"
        )


async def _measure_turn(
    calls: list[PictureCall], server: Server, turns: Turns, secs: float, framerate: float
) -> None:
    """One turn; `framerate` 0 is without pictures."""
    sent, received = (sum(getattr(one, name) for one in calls) for name in ("sent", "received"))
    start, cpu = time.perf_counter(), server.cpu_seconds()
    for call in calls:
        call.sends = framerate > 0
    number = 0
    while (now := time.perf_counter()) < start + secs:
        if framerate == 0:
            await asyncio.sleep(start + secs - now)
            continue
        # One call after the other: their cameras know nothing of each other.
        calls[number % len(calls)].send_picture()
        number += 1
        await asyncio.sleep(max(0.0, start + number / (framerate * len(calls)) - now))
    turns.windows.append((start, time.perf_counter()))
    turns.measured_secs += time.perf_counter() - start
    turns.server_cpu_secs += server.cpu_seconds() - cpu
    turns.sent += sum(call.sent for call in calls) - sent
    turns.received += sum(call.received for call in calls) - received
    for call in calls:
        call.sends = False
    await asyncio.sleep(SETTLE_SECS)


async def measure(server: Server, options: argparse.Namespace) -> dict[str, Turns]:
    """Hold the calls through all turns."""
    image = picture()
    found = {WITHOUT: Turns(), WITH: Turns()}
    address = MIRROR.address(server)
    calls = [
        await load.connect(address, lambda destination: PictureCall(destination, image))
        for _ in range(options.calls)
    ]
    ticking = asyncio.create_task(load.tick(calls, len(calls), math.inf))
    try:
        # The first turns of both kinds warm up what has just started.
        for turns, framerate in ((Turns(), 0), (Turns(), options.framerate)):
            await _measure_turn(calls, server, turns, options.warm_up, framerate)
        for _ in range(options.rounds):
            await _measure_turn(calls, server, found[WITHOUT], options.seconds, 0)
            await _measure_turn(calls, server, found[WITH], options.seconds, options.framerate)
        await asyncio.sleep(load.DRAIN_SECS)
    finally:
        ticking.cancel()
    dropped = sum(not call.is_alive for call in calls)
    if dropped:
        raise load.CallError(f"the server dropped {dropped} of {len(calls)} calls")
    for turns in found.values():
        for call in calls:
            for window in turns.windows:
                latencies = call.trace.latencies(*window)
                turns.latencies += [one for one in latencies if one is not None]
                turns.lost += latencies.count(None)
    for call in calls:
        call.hang_up()
    await asyncio.sleep(SETTLE_SECS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--framerate", type=float, default=5, help="pictures a second of a call")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind")
    parser.add_argument("--seconds", type=float, default=10, help="measured time of each turn")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before that, each kind")
    options = parser.parse_args()
    if min(options.calls, options.rounds) < 1 or min(options.framerate, options.seconds) <= 0:
        sys.exit("expected calls, rounds, framerate and seconds above 0")
    print(
        f"{options.calls} calls, {options.framerate:g} pictures a second each, "
        f"{SIZE[0]} x {SIZE[1]}, {len(picture()) / 1e3:.0f} kB; latencies of the audio's echo in ms"
    )
    with on_load_core(), MIRROR.running() as server:
        found = load.run(measure(server, options))
    headings = ("p50", "p99", "worst", "lost", "sent/s", "shown/s", "core")
    print(" " * 15 + "".join(f"{heading:>9}" for heading in headings))
    for name, turns in found.items():
        turns.print(name, options.calls)
    added = found[WITH].latency(0.99) - found[WITHOUT].latency(0.99)
    print(f"pictures add {added * 1e3:.1f} ms to the p99 of the echo")


if __name__ == "__main__":
    main()
