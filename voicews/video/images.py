"""Coding pictures, with Pillow: the extra `voicews[video]`.

These functions take milliseconds: call them in a thread, as the transport does.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from voicews.exceptions import ConfigurationError, ImageFormatError

if TYPE_CHECKING:
    from PIL import Image

#: How a picture can be coded on the wire.
CODECS: Final = ("JPEG", "PNG", "WEBP")
#: How raw pixels can be ordered: what Pillow calls it, and the mode that it becomes.
COLOR_FORMATS: Final = {
    "RGB": ("RGB", "RGB", 3),
    "BGR": ("RGB", "BGR", 3),
    "RGBA": ("RGBA", "RGBA", 4),
    "BGRA": ("RGBA", "BGRA", 4),
    "L": ("L", "L", 1),
}
#: A picture may have so many pixels to a side.
MAX_SIDE: Final = 4096
#: JPEG and WEBP quality, at its best.
BEST_QUALITY: Final = 75


def needs_pillow() -> None:
    """Raise `ConfigurationError` if Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "expected Pillow to code pictures: pip install 'voicews[video]'"
        ) from None


def identify(image: bytes) -> str | None:
    """How an image file is coded, by its first bytes: one of `CODECS`; None if it is none."""
    if image.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "WEBP"
    return None


def read_size(image: bytes) -> tuple[int, int]:
    """Width and height of an image file, without decoding it. Raises `ImageFormatError`."""
    return _open(image).size


def decode(
    image: bytes, color_format: str = "RGB", *, max_size: tuple[int, int] | None = None
) -> tuple[bytes, tuple[int, int]]:
    """The pixels and the size of an image file; smaller than `max_size`, if that is given.

    Raises `ImageFormatError` for what is no JPEG, PNG or WEBP, or too large.
    """
    picture = _open(image)
    if max_size is not None:
        # The decoder leaves out what a smaller picture doesn't need, which costs half.
        picture.draft(None, max_size)
    picture = _shrunk(_loaded(picture), max_size)
    mode, raw, _channels = COLOR_FORMATS[color_format]
    return picture.convert(mode).tobytes("raw", raw), picture.size


def encode(
    image: bytes,
    size: tuple[int, int],
    image_format: str,
    *,
    codec: str = "JPEG",
    quality: int = BEST_QUALITY,
    out_size: tuple[int, int],
) -> bytes:
    """An image file of `out_size` pixels from raw pixels, or from another image file.

    Raises `ImageFormatError` if `image` is not what `image_format` and `size` say.
    """
    picture = _picture(image, size, image_format, out_size)
    if picture.size != out_size:
        picture = _resized(picture, out_size)
    if codec == "JPEG" and picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    out = io.BytesIO()
    if codec == "PNG":
        picture.save(out, "PNG", compress_level=1)
    elif codec == "WEBP":
        picture.save(out, "WEBP", quality=quality, method=0)
    else:
        picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def check_raw(image: bytes, size: tuple[int, int], color_format: str) -> None:
    """Raise `ImageFormatError` if raw pixels are not as many as `size` says."""
    if color_format not in COLOR_FORMATS:
        known = ", ".join([*CODECS, *COLOR_FORMATS])
        raise ImageFormatError(f"expected a picture's format to be one of {known}")
    width, height = size
    expected = width * height * COLOR_FORMATS[color_format][2]
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE or len(image) != expected:
        raise ImageFormatError(
            f"expected {width} x {height} pixels of {color_format}, {expected} bytes, "
            f"found {len(image)} bytes"
        )


def _picture(
    image: bytes, size: tuple[int, int], image_format: str, out_size: tuple[int, int]
) -> Image.Image:
    if image_format in CODECS:
        picture = _open(image)
        picture.draft(None, out_size)
        return _loaded(picture)
    check_raw(image, size, image_format)
    import PIL.Image

    mode, raw, _channels = COLOR_FORMATS[image_format]
    return PIL.Image.frombytes(mode, size, image, "raw", raw)


def _open(image: bytes) -> Image.Image:
    needs_pillow()
    import PIL.Image

    try:
        picture = PIL.Image.open(io.BytesIO(image), formats=CODECS)
    except Exception as error:  # noqa: BLE001 - Pillow has many for what is broken
        raise ImageFormatError(f"expected a JPEG, PNG or WEBP: {type(error).__name__}") from None
    # Before anything is decoded: a small file may say that it is huge.
    if max(picture.size) > MAX_SIDE:
        raise ImageFormatError(f"expected at most {MAX_SIDE} pixels a side, found {picture.size}")
    return picture


def _loaded(picture: Image.Image) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # noqa: BLE001 - Pillow has many for what is broken
        raise ImageFormatError(f"expected a whole picture: {type(error).__name__}") from None
    return picture


def _shrunk(picture: Image.Image, max_size: tuple[int, int] | None) -> Image.Image:
    if max_size is None:
        return picture
    share = min(max_size[0] / picture.width, max_size[1] / picture.height, 1.0)
    if share == 1.0:
        return picture
    return _resized(
        picture, (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
    )


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    # Averaging whole blocks first costs a seventh of what resizing from the full size costs.
    factor = min(picture.width // size[0], picture.height // size[1])
    if factor >= 2:
        picture = picture.reduce(factor)
    return picture if picture.size == size else picture.resize(size)
