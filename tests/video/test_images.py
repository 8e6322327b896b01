"""Coding pictures with Pillow: colours, sizes, what is broken."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from voicews.exceptions import ImageFormatError
from voicews.video import images

RED, BLUE = (220, 30, 20), (20, 40, 210)


def halves(size: tuple[int, int], order: str = "RGB") -> bytes:
    """Raw pixels: the left half is red, the right one blue."""
    picture = PIL.Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.convert("RGBA" if "A" in order else "RGB").tobytes("raw", order)


def colours(image: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pixels, (width, height) = images.decode(image)
    picture = PIL.Image.frombytes("RGB", (width, height), pixels)
    left = picture.getpixel((width // 4, height // 2))
    right = picture.getpixel((width * 3 // 4, height // 2))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    return left, right


def close(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 12 for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("order", ["RGB", "BGR", "RGBA", "BGRA"])
@pytest.mark.parametrize("codec", images.CODECS)
def test_colours_survive(codec: str, order: str) -> None:
    size = (64, 48)
    coded = images.encode(halves(size, order), size, order, codec=codec, out_size=size)

    assert images.identify(coded) == codec
    assert images.read_size(coded) == size
    left, right = colours(coded)
    assert close(left, RED)
    assert close(right, BLUE)


@pytest.mark.parametrize("out_size", [(64, 48), (32, 24), (15, 11), (128, 96), (10, 40)])
def test_pictures_are_scaled(out_size: tuple[int, int]) -> None:
    raw = images.encode(halves((64, 48)), (64, 48), "RGB", out_size=out_size)
    again = images.encode(raw, (0, 0), "JPEG", out_size=(20, 20))

    assert images.read_size(raw) == out_size
    assert images.read_size(again) == (20, 20)
    assert close(colours(raw)[0], RED)
    assert close(colours(again)[1], BLUE)


def test_grey() -> None:
    coded = images.encode(bytes([128]) * 12, (4, 3), "L", codec="PNG", out_size=(4, 3))
    assert images.decode(coded, "L") == (bytes([128]) * 12, (4, 3))


def test_a_picture_is_decoded_as_small_as_it_may_be() -> None:
    coded = images.encode(halves((640, 480)), (640, 480), "RGB", out_size=(640, 480))
    pixels, size = images.decode(coded, max_size=(100, 100))
    assert size == (100, 75)
    assert len(pixels) == 100 * 75 * 3


def test_quality_makes_it_smaller() -> None:
    noise = PIL.Image.effect_noise((320, 240), 60).convert("RGB").tobytes()
    best, worst = (
        images.encode(noise, (320, 240), "RGB", quality=quality, out_size=(320, 240))
        for quality in (75, 20)
    )
    assert len(worst) < len(best) / 2


def bomb() -> bytes:
    out = io.BytesIO()
    PIL.Image.new("1", (5000, 10)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "image", [b"", b"GIF89a", b"\xff\xd8\xff\xe0broken", b"RIFF\0\0\0\0WEBPjunk", bomb()]
)
def test_what_is_no_picture(image: bytes) -> None:
    with pytest.raises(ImageFormatError):
        images.decode(image)


def test_half_a_picture() -> None:
    coded = images.encode(halves((64, 48)), (64, 48), "RGB", codec="PNG", out_size=(64, 48))
    with pytest.raises(ImageFormatError, match="expected a whole picture"):
        images.decode(coded[: len(coded) // 2])


@pytest.mark.parametrize(
    ("image", "size", "order", "error"),
    [
        (bytes(10), (4, 3), "RGB", "expected 4 x 3 pixels of RGB, 36 bytes, found 10 bytes"),
        (b"", (0, 3), "RGB", "expected 0 x 3 pixels"),
        (bytes(12), (4, 3), "YUV", "expected a picture's format to be one of JPEG"),
    ],
)
def test_raw_pixels_that_are_none(
    image: bytes, size: tuple[int, int], order: str, error: str
) -> None:
    with pytest.raises(ImageFormatError, match=error):
        images.encode(image, size, order, out_size=(4, 3))
