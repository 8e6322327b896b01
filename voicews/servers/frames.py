"""WebSocket frames as bytes (RFC 6455), without any I/O: what a client sends, what a server writes.

A server's own parser makes several objects for each frame and has no limit to how many come, so
that a flood of fragments or pings is read at full speed. This one takes one frame at a time, and
its caller decides when it takes the next.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from voicews.close_codes import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiler where it was installed
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_FIN, _RSV, _RSV1, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x40, 0x0F, 0x80, 0x7F
#: A control frame's payload has at most so many bytes (RFC 6455, 5.5).
_MAX_CONTROL_BYTES = 125
#: What a compressed message leaves out at its end (RFC 7692, 7.2.2).
_DEFLATE_TAIL = b"\x00\x00\xff\xff"

_SIZE_16, _SIZE_64 = struct.Struct("!H"), struct.Struct("!Q")
_HEAD_16, _HEAD_64 = struct.Struct("!BBH"), struct.Struct("!BBQ")


class FrameError(Exception):
    """What the client sent is not allowed; the socket is to be closed with `code`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class Limits:
    """What one message may be: bytes (after decompression), and frames that it comes in."""

    max_message_bytes: int = 16 * 1024 * 1024
    max_fragments: int = 1024


class Control(NamedTuple):
    """A close, ping or pong: its opcode, its payload, and the masked frame as it came."""

    opcode: int
    payload: bytes
    frame: bytes


class Fragment(NamedTuple):
    """A frame that does not end its message; the message comes with the last."""

    size: int


def encode_message(message: str | bytes) -> bytes:
    """One message as one frame, neither masked nor compressed."""
    if isinstance(message, str):
        data, first = message.encode(), _FIN | TEXT
    else:
        data, first = message, _FIN | BINARY
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    if size < 65536:
        return _HEAD_16.pack(first, 126, size) + data
    return _HEAD_64.pack(first, 127, size) + data


class FrameReader:
    """Takes bytes as they come, gives one frame at a time.

    With `inflates`, the client has offered permessage-deflate and its compressed messages are
    taken. What parameters were agreed on does not matter to who decompresses: the largest window
    serves all, and a client that starts its window anew refers to nothing before.
    """

    def __init__(self, limits: Limits | None = None, *, inflates: bool = False) -> None:
        self.limits = limits or Limits()
        self._inflates = inflates
        self._inflater: zlib._Decompress | None = None
        # Bytes with whole frames in them, and how far they have been taken.
        self._data = b""
        self._offset = 0
        # The beginning of a frame that is not whole, and the size from which on it may be.
        self._partial = bytearray()
        self._needed = 0
        # The message that is not whole.
        self._opcode = CONTINUATION
        self._is_compressed = False
        self._fragments: list[bytes] = []
        self._message_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """What was fed and not yet given back, without the message that is not whole."""
        return len(self._data) - self._offset + len(self._partial)

    def feed(self, data: bytes) -> None:
        """Take what the socket brought."""
        if self._partial:
            self._partial += data
            if len(self._partial) >= self._needed:
                self._data, self._offset = bytes(self._partial), 0
                self._partial.clear()
        elif self._offset < len(self._data):
            self._data, self._offset = self._data[self._offset :] + data, 0
        else:
            self._data, self._offset = data, 0

    def next(self) -> str | bytes | Control | Fragment | None:
        """The next frame: a whole message as text or bytes; None if more must be fed first.

        Raises `FrameError`; nothing may be asked for after that.
        """
        data, start = self._data, self._offset
        available = len(data) - start
        if available < 2:
            self._wait_for(2)
            return None
        first, size = data[start], data[start + 1] & _LENGTH
        if not data[start + 1] & _MASKED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "expected a frame with a mask")
        head = 6
        if size == 126:
            head = 8
            if available < head:
                self._wait_for(head)
                return None
            (size,) = _SIZE_16.unpack_from(data, start + 2)
        elif size == 127:
            head = 14
            if available < head:
                self._wait_for(head)
                return None
            (size,) = _SIZE_64.unpack_from(data, start + 2)
        opcode = first & _OPCODE
        if opcode >= CLOSE:
            self._check_control(first, size)
        else:
            self._check_data(first, size)
        end = start + head + size
        if len(data) < end:
            self._wait_for(head + size)
            return None
        self._offset = end
        body = start + head
        payload = apply_mask(data[body:end], data[body - 4 : body])
        if opcode >= CLOSE:
            return Control(opcode, payload, data[start:end])
        return self._take_data(first, payload)

    def _take_data(self, first: int, payload: bytes) -> str | bytes | Fragment:
        if first & _OPCODE != CONTINUATION:
            self._opcode = first & _OPCODE
            self._is_compressed = bool(first & _RSV1)
        if not first & _FIN:
            self._fragments.append(payload)
            self._message_bytes += len(payload)
            return Fragment(len(payload))
        if self._fragments:
            payload = b"".join([*self._fragments, payload])
            self._fragments = []
            self._message_bytes = 0
        return self._message(payload)

    def _wait_for(self, needed: int) -> None:
        # Appended to rather than joined, because a message may come in a great many pieces.
        self._partial += self._data[self._offset :]
        self._data, self._offset = b"", 0
        self._needed = needed

    def _check_control(self, first: int, size: int) -> None:
        if not first & _FIN or size > _MAX_CONTROL_BYTES:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "expected a control frame in one piece")
        if first & _RSV or first & _OPCODE > PONG:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "unknown kind of control frame")

    def _check_data(self, first: int, size: int) -> None:
        opcode = first & _OPCODE
        if opcode > BINARY:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "unknown kind of frame")
        if (opcode == CONTINUATION) != bool(self._fragments):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments of two messages are mixed")
        allowed = _RSV1 if self._inflates and opcode != CONTINUATION else 0
        if first & _RSV & ~allowed:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "an extension that was not agreed on")
        if self._message_bytes + size > self.limits.max_message_bytes:
            raise self._too_big()
        if len(self._fragments) >= self.limits.max_fragments:
            raise FrameError(
                CloseCode.NOT_ALLOWED, f"more than {self.limits.max_fragments} frames in a message"
            )

    def _message(self, payload: bytes) -> str | bytes:
        if self._is_compressed:
            payload = self._inflate(payload)
        if self._opcode == BINARY:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise FrameError(CloseCode.BAD_DATA, "expected text in UTF-8") from None

    def _inflate(self, payload: bytes) -> bytes:
        if self._inflater is None or self._inflater.eof:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        limit = self.limits.max_message_bytes
        try:
            data = self._inflater.decompress(payload + _DEFLATE_TAIL, limit + 1)
        except zlib.error:
            raise FrameError(CloseCode.BAD_DATA, "expected a compressed message") from None
        if len(data) > limit:
            raise self._too_big()
        return data

    def _too_big(self) -> FrameError:
        return FrameError(
            CloseCode.TOO_BIG, f"more than {self.limits.max_message_bytes} bytes in a message"
        )
