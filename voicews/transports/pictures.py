"""Pictures on a transport: what the bot shows, and what comes from the client's camera."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from voicews.exceptions import ImageFormatError, InvalidMessage
from voicews.frames import (
    Frame,
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
from voicews.transports.params import TransportParams
from voicews.video import images
from voicews.video.link import LOST_SECS, PictureLink, PictureReceiver

logger = logging.getLogger(__name__)

#: A still picture that is not live is sent again so often (seconds): the client keeps it anyway.
STILL_REPEAT_SECS = 1.0
#: Pictures per second that the quality is chosen for, if the link or the ceiling is narrow.
NARROW_FRAMERATE = 5.0
#: JPEG and WEBP quality at its worst, and the smallest share of the size.
WORST_QUALITY, SMALLEST_SHARE = 20, 0.25
#: Pictures that may be asked for at a time.
MAX_REQUESTS = 16


@cache
def _coders() -> ThreadPoolExecutor:
    """Pillow gives up the interpreter's lock while it codes: one thread keeps one core."""
    return ThreadPoolExecutor(1, thread_name_prefix="voicews-pictures")


class Send(Protocol):
    """Writes a frame past the play queue, urgent ones before audio."""

    def __call__(self, frame: Frame, *, urgent: bool = True) -> None: ...


@dataclass(slots=True)
class _Quality:
    """How well pictures are coded: what has to fit follows the link and `video_out_bitrate`."""

    quality: int = images.BEST_QUALITY
    share: float = 1.0

    def fit(self, num_bytes: int, wanted_bytes: float) -> None:
        """The last picture had `num_bytes`; the next ones should have `wanted_bytes`."""
        ratio = wanted_bytes / max(num_bytes, 1)
        if ratio < 1.0:
            if self.quality > WORST_QUALITY:
                self.quality = max(WORST_QUALITY, int(self.quality * ratio**0.7))
            else:
                self.share = max(SMALLEST_SHARE, self.share * max(ratio**0.5, 0.5))
        elif ratio > 1.5:
            if self.share < 1.0:
                self.share = min(1.0, self.share * 1.2)
            else:
                self.quality = min(images.BEST_QUALITY, self.quality + 5)

    def size(self, width: int, height: int) -> tuple[int, int]:
        return max(1, round(width * self.share)), max(1, round(height * self.share))


class PictureStream:
    """The pictures for one destination: the newest one is coded, and sent when the link is free.

    Audio comes first: one piece of a picture is on its way at a time, and a picture that is not
    sent when a newer one comes is dropped.
    """

    def __init__(
        self,
        params: TransportParams,
        destination: str | None,
        send: Send,
        on_sent: Callable[[Frame], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._params = params
        self._on_sent = on_sent
        self._name = destination or ""
        self._send = send
        self._on_error = on_error
        self._picture = (0, (0, 0), "")
        self._codec = params.video_out_codec or "JPEG"
        self._link = PictureLink()
        self._quality = _Quality()
        self._pictures: list[OutputImageRawFrame] = []
        self._coded: dict[int, tuple[tuple[int, float], bytes, tuple[int, int], str]] = {}
        self._index = 0
        self._is_shown = False
        self._version = 0
        self._due_at = 0.0
        self._connected = False
        self._coding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Pictures that were replaced by a newer one before they were sent.
        self.dropped = 0

    def show(self, pictures: list[OutputImageRawFrame]) -> None:
        """Show one picture, or several as a sprite, instead of those before."""
        if self._pictures and not self._is_shown:
            self.dropped += 1
        self._pictures = pictures
        self._coded.clear()
        self._version += 1
        self._index = 0
        self._is_shown = False
        self._pump()

    def connect(self) -> None:
        self._connected = True
        self._link.reset()
        self._is_shown = False
        self._due_at = 0.0
        self._pump()

    def disconnect(self) -> None:
        self._connected = False
        self._link.reset()
        self._stop_timer()

    def stop(self) -> None:
        """The call is over."""
        self.disconnect()
        self._pictures = []

    def acknowledge(self, frame: ImagePieceReceivedFrame) -> None:
        """The client has received a piece."""
        loop = asyncio.get_running_loop()
        piece = self._link.acknowledge(frame.id, frame.num_bytes, loop.time())
        if piece is not None:
            self._send_piece(*piece)
        elif not self._link.is_busy:
            self._pump()

    # --- the machinery --------------------------------------------------------------------------

    @property
    def _repeats(self) -> bool:
        return not self._params.video_out_is_live or len(self._pictures) > 1

    def _pump(self) -> None:
        """Code and send what is due."""
        if not self._connected or not self._pictures or self._coding is not None:
            return
        if self._is_shown and not self._repeats:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._link.give_up_if_lost(now)
        if self._link.is_busy:
            self._call_at(now + LOST_SECS)
            return
        due_at = self._due_at
        if self._is_shown and len(self._pictures) == 1:
            due_at = max(due_at, self._due_at + STILL_REPEAT_SECS)
        if due_at > now:
            self._call_at(due_at)
            return
        self._coding = loop.create_task(self._code_and_send())

    async def _code_and_send(self) -> None:
        version, index = self._version, self._index
        try:
            image, size, image_format = await self._code(self._pictures[index], index)
        except Exception as error:  # noqa: BLE001 - a project's own picture
            self._on_error(error)
            if version == self._version:
                self._pictures = []
            return
        finally:
            self._coding = None
        if version == self._version:
            self._index = (index + 1) % len(self._pictures)
            self._is_shown = True
        else:
            # Coded in vain: what came meanwhile is newer.
            self.dropped += 1
            self._pump()
            return
        if self._connected and not self._link.is_busy:
            self._begin(image, size, image_format)
        self._pump()

    async def _code(
        self, picture: OutputImageRawFrame, index: int
    ) -> tuple[bytes, tuple[int, int], str]:
        params, quality = self._params, self._quality
        size = quality.size(params.video_out_width, params.video_out_height)
        image_format = picture.format or params.video_out_color_format
        if image_format == self._codec and picture.size == size and quality.share == 1.0:
            return picture.image, size, image_format
        settings = (quality.quality, quality.share)
        coded = self._coded.get(index)
        if coded is not None and coded[0] == settings:
            return coded[1:]
        job = partial(
            images.encode,
            picture.image,
            picture.size,
            image_format,
            codec=self._codec,
            quality=quality.quality,
            out_size=size,
        )
        version = self._version
        image = await asyncio.get_running_loop().run_in_executor(_coders(), job)
        if version == self._version:
            self._coded[index] = (settings, image, size, self._codec)
        return image, size, self._codec

    def _begin(self, image: bytes, size: tuple[int, int], image_format: str) -> None:
        now = asyncio.get_running_loop().time()
        params = self._params
        gap_secs = 1 / params.video_out_framerate
        widest = float("inf") if self._link.throughput is None else self._link.throughput
        if params.video_out_bitrate is not None:
            bytes_per_sec = params.video_out_bitrate / 8
            gap_secs = max(gap_secs, len(image) / bytes_per_sec)
            widest = min(widest, bytes_per_sec)
        self._due_at = now + gap_secs
        if widest != float("inf"):
            framerate = min(params.video_out_framerate, NARROW_FRAMERATE)
            self._quality.fit(len(image), widest / framerate)
        self._picture = (len(image), size, image_format)
        self._send_piece(*self._link.start(image, now))
        self._on_sent(
            OutputImageRawFrame(image, size, image_format, transport_destination=self._name or None)
        )

    def _send_piece(self, offset: int, piece: bytes) -> None:
        total, size, image_format = self._picture
        self._send(
            ImagePieceFrame(
                self._link.picture_id, self._name, piece, offset, total, size, image_format
            ),
            urgent=False,
        )

    def _call_at(self, when: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PictureOutput:
    """What the bot shows: one stream of pictures for each destination.

    `on_sent` gets each picture as it was coded for the client.
    """

    def __init__(
        self,
        params: TransportParams,
        send: Send,
        on_sent: Callable[[Frame], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._params = params
        self._on_error = on_error
        self._is_off_logged = False
        if not params.video_out_enabled:
            self._streams: dict[str | None, PictureStream] = {}
            return
        destinations = [None, *params.video_out_destinations]
        self._streams = {
            destination: PictureStream(params, destination, send, on_sent, on_error)
            for destination in destinations
        }

    def show(self, frame: OutputImageRawFrame | SpriteFrame) -> None:
        """Show a picture or a sprite, if pictures are enabled. Does not wait."""
        if not self._params.video_out_enabled:
            if not self._is_off_logged:
                self._is_off_logged = True
                logger.info("a picture was not shown: video_out_enabled is off")
            return
        stream = self._streams.get(frame.transport_destination)
        if stream is None:
            known = ", ".join(self._params.video_out_destinations) or "none"
            self._on_error(
                ImageFormatError(
                    f"expected one of the video_out_destinations ({known}), "
                    f"found {frame.transport_destination!r}"
                )
            )
            return
        pictures = frame.images if isinstance(frame, SpriteFrame) else [frame]
        if pictures:
            stream.show(list(pictures))

    def connect(self) -> None:
        for stream in self._streams.values():
            stream.connect()

    def disconnect(self) -> None:
        for stream in self._streams.values():
            stream.disconnect()

    def stop(self) -> None:
        for stream in self._streams.values():
            stream.stop()

    def acknowledge(self, frame: ImagePieceReceivedFrame) -> None:
        stream = self._streams.get(frame.name or None)
        if stream is not None:
            stream.acknowledge(frame)


class PictureInput:
    """Pictures from the client: put together, acknowledged, and no more of them than asked for."""

    def __init__(
        self, params: TransportParams, send: Send, on_picture: Callable[[Frame], None]
    ) -> None:
        self._params = params
        self._send = send
        self._on_picture = on_picture
        self._receivers: dict[str, PictureReceiver] = {}
        self._taken_at: dict[str, float] = {}
        self._requests: dict[int, UserImageRequestFrame] = {}
        self._request_id = 0

    def new_client(self) -> None:
        """What the client before was asked for does not come."""
        self._receivers.clear()
        requests, self._requests = self._requests, {}
        for request in requests.values():
            self._on_picture(UserImageRefusedFrame(request, "the client was lost"))

    def request(self, frame: UserImageRequestFrame) -> None:
        """Ask the client for one picture."""
        if not self._params.video_in_enabled:
            self._on_picture(UserImageRefusedFrame(frame, "video_in_enabled is off"))
            return
        if len(self._requests) >= MAX_REQUESTS:
            oldest = next(iter(self._requests))
            self._on_picture(UserImageRefusedFrame(self._requests.pop(oldest), "not answered"))
        self._request_id += 1
        self._requests[self._request_id] = frame
        self._send(ImageRequestFrame(self._request_id, frame.video_source))

    def refused(self, frame: ImageRefusedFrame) -> None:
        """The client has no picture."""
        request = self._requests.pop(frame.id, None)
        if request is not None:
            self._on_picture(UserImageRefusedFrame(request, frame.reason))

    def receive(self, frame: ImagePieceFrame) -> Frame | None:
        """Take one piece: the picture for the pipeline, if it is complete and wanted.

        Raises `InvalidMessage` if it is no piece of a picture.
        """
        params = self._params
        if frame.name not in params.video_in_sources or frame.format not in images.CODECS:
            sources = ", ".join(params.video_in_sources)
            raise InvalidMessage(
                f"expected a picture from one of {sources}, coded as one of "
                f"{', '.join(images.CODECS)}"
            )
        if max(frame.size) > images.MAX_SIDE:
            raise InvalidMessage(f"expected at most {images.MAX_SIDE} pixels a side")
        receiver = self._receivers.get(frame.name)
        if receiver is None:
            receiver = self._receivers[frame.name] = PictureReceiver(params.video_in_max_bytes)
        try:
            image = receiver.add(frame.id, frame.offset, frame.total, frame.piece)
        except ValueError as error:
            raise InvalidMessage(str(error)) from None
        self._send(ImagePieceReceivedFrame(frame.id, frame.name, frame.offset + len(frame.piece)))
        return None if image is None or not params.video_in_enabled else self._take(frame, image)

    def _take(self, frame: ImagePieceFrame, image: bytes) -> Frame | None:
        params = self._params
        request = self._requests.pop(frame.request, None) if frame.request else None
        if images.identify(image) != frame.format:
            raise InvalidMessage(f"expected a {frame.format} file, found none")
        if request is not None:
            return UserImageRawFrame(
                image, frame.size, frame.format, pts=frame.pts, source=frame.name, request=request
            )
        now = asyncio.get_running_loop().time()
        # Half the time between two: a client's timer is not exact.
        if now - self._taken_at.get(frame.name, float("-inf")) < 0.5 / params.video_in_framerate:
            return None
        self._taken_at[frame.name] = now
        return InputImageRawFrame(image, frame.size, frame.format, pts=frame.pts, source=frame.name)
