"""Frames as bytes: bytes in, messages and refusals out."""

from __future__ import annotations

import itertools
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol, State

from voicews.servers.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Control,
    Fragment,
    FrameError,
    FrameReader,
    Limits,
    encode_message,
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A frame as another library writes it for a client."""
    written = Frame(Opcode(opcode), payload, fin=fin).serialize(mask=True, extensions=[])
    return bytes((written[0] | 0x40 * rsv1,)) + written[1:]


def read(reader: FrameReader, *pieces: bytes) -> list[object]:
    found: list[object] = []
    for piece in pieces:
        reader.feed(piece)
        while (one := reader.next()) is not None:
            found.append(one)
    return found


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


SIZES = [0, 1, 125, 126, 65535, 65536]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_every_size(size: int) -> None:
    data = os.urandom(size)
    text = "x" * size
    assert read(FrameReader(), frame(BINARY, data) + frame(TEXT, text.encode())) == [data, text]
    client = Protocol(CLIENT, state=State.OPEN, max_size=None)
    client.receive_data(encode_message(data) + encode_message(text))
    events = client.events_received()
    assert [event.data for event in events if isinstance(event, Frame)] == [data, text.encode()]


@given(st.data())
def test_frames_cut_anywhere(draw: st.DataObject) -> None:
    messages = draw.draw(st.lists(st.binary(max_size=300), max_size=5))
    stream = b"".join(frame(BINARY, one) for one in messages)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(FrameReader(), *pieces) == messages


def test_bytes_that_are_fed_before_all_is_taken() -> None:
    reader = FrameReader()
    third = frame(BINARY, b"3")
    reader.feed(frame(BINARY, b"1") + frame(BINARY, b"2") + third[:4])
    assert reader.next() == b"1"
    reader.feed(third[4:])
    assert [reader.next(), reader.next(), reader.next()] == [b"2", b"3", None]
    assert reader.waiting_bytes == 0


def test_fragments_with_a_ping_between_them() -> None:
    found = read(
        FrameReader(),
        frame(TEXT, b"\xc3", fin=False),
        frame(PING, b"there?"),
        frame(CONTINUATION, b"\xbc"),
    )
    assert found[0] == Fragment(1)
    assert isinstance(found[1], Control)
    assert found[1][:2] == (PING, b"there?")
    assert found[2] == "ü"


def test_a_control_frame_is_handed_on_as_it_came() -> None:
    raw = frame(CLOSE, b"\x03\xe8bye")
    assert read(FrameReader(), raw) == [Control(CLOSE, b"\x03\xe8bye", raw)]


def test_compressed_messages() -> None:
    data = b"the same again " * 1000
    reader = FrameReader(inflates=True)
    first, second = deflated(data), deflated(b"other")
    found = read(
        reader,
        frame(BINARY, first, rsv1=True),
        frame(TEXT, second[:2], fin=False, rsv1=True),
        frame(CONTINUATION, second[2:]),
        frame(BINARY, b"plain"),
    )
    assert found == [data, Fragment(2), "other", b"plain"]


def masked(*head: int) -> bytes:
    return bytes(head) + bytes(4)


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\x82\x01a", 1002),  # no mask
        (frame(CONTINUATION, b"a"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (masked(0x83, 0x80), 1002),  # an opcode that there isn't
        (masked(0x8B, 0x80), 1002),
        (masked(0x09, 0x80), 1002),  # a ping in fragments
        (bytes((0x89, 0xFE, 0, 126)) + bytes(4), 1002),  # a long ping
        (frame(BINARY, b"a", rsv1=True), 1002),  # compressed, and nobody agreed
        (masked(0xA2, 0x80), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (bytes((0x82, 0xFF)) + (1 << 40).to_bytes(8, "big"), 1009),  # told by its head alone
        (frame(BINARY, bytes(600), fin=False) + frame(CONTINUATION, bytes(600)), 1009),
        (frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 10, 1008),
    ],
    ids=itertools.count(),
)
def test_what_is_refused(stream: bytes, code: int) -> None:
    reader = FrameReader(Limits(max_message_bytes=1000, max_fragments=10))
    # The size of a frame is known before it has come.
    head = stream + bytes(8)
    with pytest.raises(FrameError) as error:
        read(reader, head)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [(deflated(bytes(1_000_000)), 1009), (b"\xff\xff\xff", 1007)],
    ids=["bomb", "junk"],
)
def test_compressed_messages_that_are_refused(payload: bytes, code: int) -> None:
    reader = FrameReader(Limits(max_message_bytes=1000), inflates=True)
    with pytest.raises(FrameError) as error:
        read(reader, frame(BINARY, payload, rsv1=True))
    assert error.value.code == code
