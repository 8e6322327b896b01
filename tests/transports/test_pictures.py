"""Pictures both ways, on the wire, with a client that acknowledges them; on the virtual clock."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes import FakeSocket, settle, virtual_time
from tests.transports.calls import Call
from tests.video.test_images import BLUE, RED, close, colours, halves
from voicews.exceptions import ConfigurationError
from voicews.frames import (
    ErrorFrame,
    ImagePieceFrame,
    ImagePieceReceivedFrame,
    ImageRefusedFrame,
    ImageRequestFrame,
    InputImageRawFrame,
    OutputImageRawFrame,
    SpriteFrame,
    UserImageRawFrame,
    UserImageRefusedFrame,
    UserImageRequestFrame,
)
from voicews.serializers import ProtobufFrameSerializer
from voicews.serializers.pcm import PCMSerializer
from voicews.serializers.protobuf import ProtobufFrameSerializer as Protobuf
from voicews.video import images

SIZE = (64, 48)
OUT: dict[str, Any] = {
    "video_out_enabled": True,
    "video_out_width": 64,
    "video_out_height": 48,
    "serializer": ProtobufFrameSerializer(),
}


class Inline(Executor):
    """Codes at once: a thread knows nothing of the virtual clock."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicews.transports.pictures._coders", Inline)


@dataclass
class Shown:
    """A picture as it arrived."""

    at: float
    name: str
    image: bytes
    size: tuple[int, int]
    format: str
    pieces: int


@dataclass
class Viewer:
    """A client that shows pictures, over a link of `bytes_per_sec`."""

    call: Call
    bytes_per_sec: float = float("inf")
    acknowledges: bool = True
    shown: list[Shown] = field(default_factory=list)
    pieces: list[ImagePieceFrame] = field(default_factory=list)
    _read: int = 0
    _socket: FakeSocket | None = None
    _parts: list[ImagePieceFrame] = field(default_factory=list)

    async def watch(self, secs: float) -> list[Shown]:
        """What is shown in the next `secs`."""
        loop = asyncio.get_running_loop()
        before = len(self.shown)
        until = loop.time() + secs
        while loop.time() < until:
            await self._take_new()
            await asyncio.sleep(0.001)
        await self._take_new()
        return self.shown[before:]

    async def _take_new(self) -> None:
        if self._socket is not self.call.socket:
            self._socket, self._read, self._parts = self.call.socket, 0, []
        await settle()
        while self._read < len(self._socket.sent):
            data = self._socket.sent[self._read]
            self._read += 1
            frame = Protobuf().deserialize(data)
            if isinstance(frame, ImagePieceFrame):
                await asyncio.sleep(len(data) / self.bytes_per_sec)
                await self._take(frame)

    async def _take(self, frame: ImagePieceFrame) -> None:
        self.pieces.append(frame)
        if frame.offset == 0:
            self._parts = []
        self._parts.append(frame)
        received = frame.offset + len(frame.piece)
        if received == frame.total:
            image = b"".join(part.piece for part in self._parts)
            now = asyncio.get_running_loop().time()
            self.shown.append(
                Shown(now, frame.name, image, frame.size, frame.format, len(self._parts))
            )
        if self.acknowledges:
            answer = ImagePieceReceivedFrame(frame.id, frame.name, received)
            await self.say(answer)

    async def say(self, frame: Any) -> None:
        data = Protobuf().serialize(frame)
        assert data is not None
        await self.call.connection.receive(data)


def picture(size: tuple[int, int] = SIZE, **options: Any) -> OutputImageRawFrame:
    return OutputImageRawFrame(halves(size), size, "RGB", **options)


def plain(colour: tuple[int, int, int]) -> OutputImageRawFrame:
    return OutputImageRawFrame(bytes(colour) * (SIZE[0] * SIZE[1]), SIZE, "RGB")


class TestOut:
    @virtual_time
    async def test_a_picture_is_coded_scaled_and_repeated(self) -> None:
        call = Call(**OUT).start()
        viewer = Viewer(call)
        call.tap.push_frame(picture((640, 480)))
        shown = await viewer.watch(3.5)

        # At once, and once a second: the client keeps a still picture anyway.
        assert 4 <= len(shown) <= 5
        assert {(one.size, one.format, one.name) for one in shown} == {(SIZE, "JPEG", "")}
        left, right = colours(shown[0].image)
        assert close(left, RED)
        assert close(right, BLUE)
        await call.finish()

    @virtual_time
    async def test_a_live_picture_is_sent_once(self) -> None:
        call = Call(**{**OUT, "video_out_is_live": True}).start()
        viewer = Viewer(call)
        call.tap.push_frame(picture())
        assert len(await viewer.watch(3.0)) == 1
        call.tap.push_frame(picture())
        assert len(await viewer.watch(3.0)) == 1
        await call.finish()

    @virtual_time
    async def test_a_file_of_the_right_size_is_left_alone(self) -> None:
        call = Call(**{**OUT, "video_out_is_live": True}).start()
        viewer = Viewer(call)
        file = images.encode(halves(SIZE), SIZE, "RGB", out_size=SIZE)
        call.tap.push_frame(OutputImageRawFrame(file, SIZE, "JPEG"))
        [shown] = await viewer.watch(1.0)
        assert shown.image == file
        await call.finish()

    @pytest.mark.parametrize("codec", ["PNG", "WEBP", "JPEG", None])
    def test_codecs(self, codec: str | None) -> None:
        @virtual_time
        async def test() -> None:
            call = Call(**{**OUT, "video_out_codec": codec}).start()
            viewer = Viewer(call)
            call.tap.push_frame(picture())
            shown = await viewer.watch(0.5)
            assert images.identify(shown[0].image) == shown[0].format == (codec or "JPEG")
            await call.finish()

        test()

    @virtual_time
    async def test_the_colour_format_of_raw_pixels(self) -> None:
        call = Call(**{**OUT, "video_out_color_format": "BGR"}).start()
        viewer = Viewer(call)
        call.tap.push_frame(OutputImageRawFrame(halves(SIZE, "BGR"), SIZE))
        shown = await viewer.watch(0.5)
        assert close(colours(shown[0].image)[0], RED)
        await call.finish()

    @virtual_time
    async def test_no_more_than_the_framerate_and_the_newest(self) -> None:
        call = Call(**{**OUT, "video_out_is_live": True, "video_out_framerate": 10}).start()
        viewer = Viewer(call)

        async def push() -> None:
            for number in range(100):
                call.tap.push_frame(plain((number * 2, 0, 0)))
                await asyncio.sleep(0.02)

        pushing = asyncio.create_task(push())
        shown = await viewer.watch(2.5)
        await pushing
        assert 19 <= len(shown) <= 22
        gaps = [b.at - a.at for a, b in pairwise(shown)]
        assert min(gaps) >= 0.099
        assert colours(shown[-1].image)[0][0] > 190
        await call.finish()

    @virtual_time
    async def test_a_sprite_goes_round(self) -> None:
        call = Call(**{**OUT, "video_out_framerate": 5}).start()
        viewer = Viewer(call)
        call.tap.push_frame(SpriteFrame([plain(RED), plain(BLUE)]))
        shown = await viewer.watch(2.0)
        assert 9 <= len(shown) <= 11
        for number, one in enumerate(shown):
            assert close(colours(one.image)[0], BLUE if number % 2 else RED)
        # Another picture ends it.
        call.tap.push_frame(plain(RED))
        shown = (await viewer.watch(2.0))[1:]
        assert all(close(colours(one.image)[0], RED) for one in shown)
        await call.finish()

    @virtual_time
    async def test_destinations_are_apart(self) -> None:
        call = Call(**{**OUT, "video_out_destinations": ["door"]}).start()
        viewer = Viewer(call)
        call.tap.push_frame(plain(RED))
        frame = plain(BLUE)
        frame.transport_destination = "door"
        call.tap.push_frame(frame)
        shown = await viewer.watch(1.5)
        by_name = {one.name: colours(one.image)[0] for one in shown}
        assert set(by_name) == {"", "door"}
        assert close(by_name["door"], BLUE)
        assert close(by_name[""], RED)
        await call.finish()

    @virtual_time
    async def test_a_destination_that_is_none(self) -> None:
        call = Call(**OUT).start()
        frame = plain(BLUE)
        frame.transport_destination = "window"
        call.tap.push_frame(frame)
        [error] = call.tap.up(ErrorFrame)
        assert "output" in error.error or "picture" in error.error
        assert await Viewer(call).watch(1.0) == []
        await call.finish()

    @virtual_time
    async def test_the_bitrate_is_a_ceiling(self) -> None:
        noise = bytes((i * i * 7919 >> 3) % 256 for i in range(320 * 240 * 3))
        options = {
            **OUT,
            "video_out_width": 320,
            "video_out_height": 240,
            "video_out_is_live": True,
            "video_out_bitrate": 200_000,
        }
        call = Call(**options).start()
        viewer = Viewer(call)

        async def push() -> None:
            for _ in range(300):
                call.tap.push_frame(OutputImageRawFrame(noise, (320, 240), "RGB"))
                await asyncio.sleep(1 / 30)

        pushing = asyncio.create_task(push())
        shown = await viewer.watch(10.0)
        await pushing
        settled = [one for one in shown if one.at > shown[0].at + 3]
        total = sum(len(one.image) for one in settled)
        assert total * 8 <= 200_000 * 7 * 1.05
        # What doesn't fit becomes worse and smaller before it becomes rare.
        assert len(settled) >= 15
        assert settled[-1].size < (320, 240)
        await call.finish()

    @virtual_time
    async def test_on_a_thin_link_pictures_shrink_and_audio_is_not_held_up(self) -> None:
        noise = bytes((i * i * 7919 >> 3) % 256 for i in range(320 * 240 * 3))
        options = {
            **OUT,
            "video_out_width": 320,
            "video_out_height": 240,
            "video_out_is_live": True,
        }
        call = Call(**options).start()
        viewer = Viewer(call, bytes_per_sec=8000)

        async def push() -> None:
            for _ in range(600):
                call.tap.push_frame(OutputImageRawFrame(noise, (320, 240), "RGB"))
                await asyncio.sleep(1 / 30)

        pushing = asyncio.create_task(push())
        shown = await viewer.watch(20.0)
        await pushing
        assert shown[-1].size < shown[0].size
        assert len(shown[-1].image) < len(shown[0].image) / 4
        # 64 kbit/s: nothing that is written behind a piece waits longer than a quarter of a second.
        assert max(len(piece.piece) for piece in viewer.pieces) <= 2048
        await call.finish()

    @virtual_time
    async def test_a_client_that_shows_no_pictures_gets_one_piece(self) -> None:
        call = Call(**OUT).start()
        viewer = Viewer(call, acknowledges=False)
        call.tap.push_frame(picture())
        await viewer.watch(9.0)
        assert len(viewer.pieces) == 1
        await call.finish()

    @virtual_time
    async def test_the_next_client_sees_the_last_picture(self) -> None:
        call = Call(**{**OUT, "video_out_is_live": True}).start()
        viewer = Viewer(call)
        call.tap.push_frame(picture())
        assert len(await viewer.watch(1.0)) == 1
        call.connection.disconnect(1006)
        call.reconnect()
        assert len(await viewer.watch(1.0)) == 1
        await call.finish()

    @virtual_time
    async def test_a_picture_that_keeps_its_place(self) -> None:
        call = Call(**{**OUT, "audio_out_lead_secs": 0.1}).start()
        viewer = Viewer(call)
        started = asyncio.get_running_loop().time()
        call.say(1.0)
        call.tap.push_frame(picture(sync_with_audio=True))
        shown = await viewer.watch(2.0)
        assert 0.85 <= shown[0].at - started <= 1.1
        await call.finish()

    @virtual_time
    async def test_off(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        viewer = Viewer(call)
        call.tap.push_frame(picture())
        assert await viewer.watch(2.0) == []
        await call.finish()

    @virtual_time
    async def test_a_picture_that_is_none_costs_the_next_nothing(self) -> None:
        call = Call(**OUT).start()
        viewer = Viewer(call)
        call.tap.push_frame(OutputImageRawFrame(b"xyz", SIZE, "RGB"))
        assert await viewer.watch(0.5) == []
        assert len(call.tap.up(ErrorFrame)) == 1
        call.tap.push_frame(picture())
        assert len(await viewer.watch(0.5)) == 1
        await call.finish()

    def test_a_protocol_without_pictures(self) -> None:
        with pytest.raises(ConfigurationError, match="PCMSerializer"):
            Call(video_out_enabled=True, serializer=PCMSerializer(16000))


def file(size: tuple[int, int] = SIZE) -> bytes:
    return images.encode(halves(size), size, "RGB", out_size=size)


def whole(number: int, image: bytes, name: str = "camera", **options: Any) -> ImagePieceFrame:
    return ImagePieceFrame(number, name, image, 0, len(image), SIZE, "JPEG", **options)


IN: dict[str, Any] = {"video_in_enabled": True, "serializer": ProtobufFrameSerializer()}


class TestIn:
    @virtual_time
    async def test_a_picture_in_pieces(self) -> None:
        call = Call(**IN).start()
        viewer = Viewer(call)
        image = file()
        half = len(image) // 2
        for offset, piece in ((0, image[:half]), (half, image[half:])):
            await viewer.say(
                ImagePieceFrame(1, "camera", piece, offset, len(image), SIZE, "JPEG", pts=5)
            )
        await settle()
        [frame] = call.tap.down(InputImageRawFrame)
        assert frame == InputImageRawFrame(image, SIZE, "JPEG", pts=5, source="camera")
        received = [
            one["data"] for one in call.socket.messages() if one["type"] == "image-received"
        ]
        assert [one["bytes"] for one in received] == [half, len(image)]
        await call.finish()

    @virtual_time
    async def test_no_more_than_asked_for(self) -> None:
        call = Call(**{**IN, "video_in_framerate": 2}).start()
        viewer = Viewer(call)
        for number in range(100):
            await viewer.say(whole(number, file()))
            await asyncio.sleep(0.01)
        assert 2 <= len(call.tap.down(InputImageRawFrame)) <= 5
        await call.finish()

    def test_the_client_is_told_what_to_send(self) -> None:
        wanted = {
            "video_in_sources": ("screen",),
            "video_in_width": 320,
            "video_in_height": 240,
            "video_in_framerate": 3,
            "video_in_quality": 50,
            "video_in_max_bytes": 9000,
        }
        extras = Call(**{**IN, **wanted}).transport.bot_ready_extras({"more": 1})
        assert extras["more"] == 1
        asked = {f"video_in_{name}": value for name, value in extras["voicews"]["video_in"].items()}
        assert asked == {**wanted, "video_in_sources": ["screen"]}

    @virtual_time
    async def test_only_the_sources_that_are_wanted(self) -> None:
        call = Call(**IN, video_in_sources=("screen",)).start()
        viewer = Viewer(call)
        await viewer.say(whole(1, file(), name="camera"))
        await viewer.say(whole(2, file(), name="screen"))
        await settle()
        assert [frame.source for frame in call.tap.down(InputImageRawFrame)] == ["screen"]
        await call.finish()

    @virtual_time
    async def test_off(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        await Viewer(call).say(whole(1, file()))
        assert call.tap.down(InputImageRawFrame) == []
        assert call.transport.invalid_messages == 0
        await call.finish()

    @pytest.mark.parametrize(
        "frame",
        [
            whole(1, b"no picture"),
            whole(1, b"x" * 2000),
            whole(1, file(), name="microphone"),
            ImagePieceFrame(1, "camera", file(), 0, len(file()), (9000, 48), "JPEG"),
            ImagePieceFrame(1, "camera", file(), 0, len(file()), SIZE, "PNG"),
            ImagePieceFrame(1, "camera", file(), 0, len(file()), SIZE, "H264"),
            ImagePieceFrame(1, "camera", b"abc", 7, 100, SIZE, "JPEG"),
        ],
    )
    def test_what_is_no_picture_is_counted(self, frame: ImagePieceFrame) -> None:
        @virtual_time
        async def test() -> None:
            call = Call(**{**IN, "video_in_max_bytes": len(file()) + 100}).start()
            await Viewer(call).say(frame)
            assert call.tap.down(InputImageRawFrame) == []
            assert call.transport.invalid_messages == 1
            await call.finish()

        test()


class TestRequests:
    @virtual_time
    async def test_one_picture_is_asked_for(self) -> None:
        call = Call(**IN).start()
        viewer = Viewer(call)
        request = UserImageRequestFrame(video_source="screen")
        call.ask(request)
        await settle()
        [asked] = call.socket.messages()
        assert asked == {
            "label": "voicews",
            "type": "image-request",
            "data": {"id": 1, "source": "screen"},
        }
        await viewer.say(whole(1, file(), name="screen", request=1))
        await settle()
        [frame] = call.tap.down(UserImageRawFrame)
        assert frame.request is request
        assert frame.image == file()
        await call.finish()

    @virtual_time
    async def test_the_client_has_none(self) -> None:
        call = Call(**IN).start()
        request = UserImageRequestFrame()
        call.ask(request)
        await Viewer(call).say(ImageRefusedFrame(1, "the camera is off"))
        [frame] = call.tap.down(UserImageRefusedFrame)
        assert (frame.request, frame.reason) == (request, "the camera is off")
        await call.finish()

    @virtual_time
    async def test_the_client_is_lost(self) -> None:
        call = Call(**IN).start()
        call.ask(UserImageRequestFrame())
        call.connection.disconnect(1006)
        call.reconnect()
        [frame] = call.tap.down(UserImageRefusedFrame)
        assert frame.reason == "the client was lost"
        await call.finish()

    @virtual_time
    async def test_video_in_is_off(self) -> None:
        call = Call(serializer=ProtobufFrameSerializer()).start()
        call.ask(UserImageRequestFrame())
        [frame] = call.tap.down(UserImageRefusedFrame)
        assert frame.reason == "video_in_enabled is off"
        await call.finish()

    @virtual_time
    async def test_too_many_at_a_time(self) -> None:
        call = Call(**IN).start()
        for _ in range(17):
            call.ask(UserImageRequestFrame())
        assert len(call.tap.down(UserImageRefusedFrame)) == 1
        await call.finish()

    @virtual_time
    async def test_the_peer_asks_us(self) -> None:
        call = Call(**IN).start()
        await Viewer(call).say(ImageRequestFrame(4, "camera"))
        await settle()
        [refusal] = call.socket.messages()
        assert refusal["type"] == "image-refused"
        assert refusal["data"]["id"] == 4
        await call.finish()
