"""Bus messages as JSON: what is known passes, whatever else a remote sends does not."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from voicews import frames
from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.frames import Direction
from voicews.workers import (
    BaseWorker,
    BusAddWorkerMessage,
    BusDataMessage,
    BusFrameMessage,
    BusJobRequestMessage,
    BusJobResponseMessage,
    BusMessage,
    BusSystemMessage,
    BusWorkerLocalErrorMessage,
    BusWorkerRegistryMessage,
    JobStatus,
    JSONMessageSerializer,
    WorkerRegistryEntry,
)
from voicews.workers.serializers import _FRAMES, _MESSAGES

REQUEST = "pipecat.bus.messages.BusJobRequestMessage"


def wire(kind: str = REQUEST, **data: Any) -> bytes:
    return json.dumps(
        {"__type__": kind, "__data__": {"source": "a", "target": "b", "job_id": "1", **data}}
    ).encode()


def request(**payload: Any) -> BusJobRequestMessage:
    return BusJobRequestMessage(source="a", target="b", job_id="1", payload=payload)


@pytest.mark.parametrize(
    "message",
    [
        request(text="grüße", none=None, yes=True, list=[1, 2.5, {"deep": b"\x00\xff"}]),
        BusJobResponseMessage(source="a", job_id="1", status=JobStatus.FAILED, response={}),
        BusWorkerRegistryMessage(
            source="a", runner="r", workers=[WorkerRegistryEntry(name="n", started_at=1.5)]
        ),
        BusFrameMessage(
            source="a",
            frame=frames.OutputAudioRawFrame(b"\x01\x02", 16000, 1, 7),
            direction=Direction.UPSTREAM,
            bridge="b",
        ),
        BusFrameMessage(source="a", frame=frames.TextFrame("hello")),
        BusFrameMessage(source="a", frame=frames.TranscriptionFrame("hello", "me", "now")),
        BusFrameMessage(source="a", frame=frames.InterruptionFrame()),
        BusFrameMessage(source="a", frame=frames.OutputTransportMessageFrame({"a": [1]})),
    ],
    ids=lambda message: type(message).__name__,
)
def test_there_and_back(message: BusMessage) -> None:
    serializer = JSONMessageSerializer()
    back = serializer.deserialize(serializer.serialize(message))
    assert back == message
    assert back.id == message.id


@pytest.mark.parametrize("cls", _MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_survives_with_what_it_needs(cls: Any) -> None:
    values: dict[str, Any] = {
        "source": "a",
        "job_id": "1",
        "status": JobStatus.COMPLETED,
        "error": "e",
        "text": "t",
        "runner": "r",
        "workers": [],
        "frame": frames.TextFrame("x"),
    }
    names = {field.name for field in dataclasses.fields(cls)}
    message = cls(**{name: value for name, value in values.items() if name in names})
    serializer = JSONMessageSerializer()
    assert serializer.deserialize(serializer.serialize(message)) == message


def test_the_frames_that_pass_are_written_down() -> None:
    assert [cls.__name__ for cls in _FRAMES] == [
        "TextFrame",
        "TranscriptionFrame",
        "InputAudioRawFrame",
        "OutputAudioRawFrame",
        "InterruptionFrame",
        "InputTransportMessageFrame",
        "OutputTransportMessageFrame",
        "OutputTransportMessageUrgentFrame",
    ]


def test_the_wire_is_pipecat_s() -> None:
    written = json.loads(JSONMessageSerializer().serialize(request(audio=b"ab", n=None)))
    assert written["__type__"] == REQUEST
    data = written["__data__"]
    assert data["payload"] == {"audio": {"__type__": "bytes", "__data__": "YWI="}, "n": None}
    assert "job_name" not in data
    assert isinstance(data["id"], int)
    response = BusJobResponseMessage(source="a", job_id="1", status=JobStatus.ERROR)
    assert json.loads(JSONMessageSerializer().serialize(response))["__data__"]["status"] == "error"


def test_what_another_version_adds_is_left_out() -> None:
    message = JSONMessageSerializer().deserialize(wire(name="X#1", colour={"a": 1}))
    assert message == BusJobRequestMessage(source="a", target="b", job_id="1")


# --- what must not pass -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "antigravity.fly_by",
        "voicews.workers.worker.BaseWorker",
        "voicews.workers.messages.BusAddWorkerMessage",
        "pipecat.bus.messages.BusAddWorkerMessage",
        "pipecat.bus.messages.BusWorkerLocalErrorMessage",
        "pipecat.bus.messages",
        "voicews.frames.EndFrame",
        "",
        "__main__",
        ["os.system"],
        {"__type__": "bytes", "__data__": ""},
        None,
        7,
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_no_type_but_a_registered_one(name: Any, inside: bool) -> None:
    modules = set(sys.modules)
    hostile = {"__type__": name, "__data__": {"args": "touch /pwned", "source": "a"}}
    data = json.dumps(hostile).encode() if not inside else wire(payload={"x": [hostile]})
    with pytest.raises(InvalidMessage, match="registered type"):
        JSONMessageSerializer().deserialize(data)
    assert set(sys.modules) - modules == set()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 5000,
        b'{"__type__":"bytes","__data__":"YWI="}',
        b'{"__type__":"bytes","__data__":"***"}',
        b'{"__type__":"bytes","__data__":7}',
        b'{"__type__":"pipecat.bus.messages.BusJobRequestMessage","__data__":7}',
        b'{"__type__":"pipecat.bus.messages.BusJobRequestMessage","__data__":{}}',
        b'{"__type__":"pipecat.processors.frame_processor.FrameDirection","__data__":"UP"}',
        b'{"__type__":"pipecat.processors.frame_processor.FrameDirection","__data__":["a"]}',
    ],
    ids=range(17),
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(InvalidMessage) as caught:
        JSONMessageSerializer().deserialize(data)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"job_id": 7},
        {"job_id": None},
        {"source": ["a"]},
        {"target": 1.5},
        {"payload": "text"},
        {"payload": []},
        {"id": "1"},
        {"id": True},
        {"job_name": {"a": 1}},
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match=f"BusJobRequestMessage.{next(iter(wrong))}"):
        JSONMessageSerializer().deserialize(wire(**wrong))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("BusJobResponseMessage", {"status": "great"}),
        ("BusJobResponseMessage", {"status": 1}),
        ("BusWorkerRegistryMessage", {"runner": "r", "workers": [{"name": "x"}]}),
        ("BusWorkerRegistryMessage", {"runner": "r", "workers": "abc"}),
        ("BusFrameMessage", {"frame": {"text": "x"}}),
        ("BusFrameMessage", {"frame": 7}),
    ],
)
def test_a_value_that_can_t_be_is_refused(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        JSONMessageSerializer().deserialize(wire(f"pipecat.bus.messages.{kind}", **wrong))


def test_nesting_has_an_end_both_ways() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    serializer = JSONMessageSerializer()
    with pytest.raises(InvalidMessage, match="64 levels"):
        serializer.deserialize(wire(payload={"x": deep}))
    with pytest.raises(InvalidMessage, match="64 levels"):
        serializer.serialize(request(x=deep))


@pytest.mark.parametrize(
    "value", [object(), BaseWorker, {1, 2}, {"__type__": "bytes", "__data__": "x"}, 1j]
)
def test_what_can_t_be_read_is_not_written(value: Any) -> None:
    with pytest.raises(InvalidMessage):
        JSONMessageSerializer().serialize(request(x=value))


def test_local_messages_are_not_written() -> None:
    serializer = JSONMessageSerializer()
    for message in (
        BusAddWorkerMessage(source="a", worker=BaseWorker("b")),
        BusWorkerLocalErrorMessage(source="a", error="e"),
    ):
        with pytest.raises(InvalidMessage, match="may leave"):
            serializer.serialize(message)


# --- what an app registers ----------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


@dataclass(kw_only=True)
class Painted(BusDataMessage):
    colour: Colour
    size: float = 1.0


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def read_money(data: Any) -> Money:
    return Money(int(data["cents"]))


def test_types_of_the_app() -> None:
    serializer = JSONMessageSerializer()
    painted = Painted(source="a", colour=Colour.RED, size=2)
    with pytest.raises(InvalidMessage, match="registered"):
        serializer.serialize(painted)
    serializer.register(Painted, "app.Painted")
    serializer.register(Colour)
    serializer.register(Money, encode=lambda money: {"cents": money.cents}, decode=read_money)
    data = serializer.serialize(painted)
    assert json.loads(data)["__type__"] == "app.Painted"
    assert serializer.deserialize(data) == painted
    back = serializer.deserialize(serializer.serialize(request(price=Money(7))))
    assert isinstance(back, BusJobRequestMessage)
    assert back.payload is not None
    assert back.payload["price"].cents == 7
    name = f"{__name__}.Money"
    for bad in ({"cents": "x"}, {}, 7):
        with pytest.raises(InvalidMessage, match=f"expected a {name}"):
            serializer.deserialize(wire(payload={"x": {"__type__": name, "__data__": bad}}))


@dataclass(kw_only=True)
class Counted(BusDataMessage):
    n: int
    doubled: int = field(init=False)
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.doubled = 2 * self.n


@dataclass(frozen=True)
class Point:
    x: int
    norm: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", float(self.x))


def test_fields_that_a_class_makes_itself_come_over_too() -> None:
    serializer = JSONMessageSerializer()
    serializer.register(Counted)
    serializer.register(Point)
    counted = Counted(source="a", n=2)
    counted.seen = 7
    back = serializer.deserialize(serializer.serialize(counted))
    assert isinstance(back, Counted)
    assert back == counted
    assert (back.doubled, back.seen) == (4, 7)
    again = serializer.deserialize(serializer.serialize(request(point=Point(3))))
    assert isinstance(again, BusJobRequestMessage)
    assert again.payload == {"point": Point(3)}
    bad = serializer.serialize(counted).replace(b'"seen":7', b'"seen":"7"')
    with pytest.raises(InvalidMessage, match="another type in Counted.seen"):
        serializer.deserialize(bad)


@pytest.mark.parametrize("kind", [BusDataMessage, BusSystemMessage])
def test_a_message_may_be_of_no_special_kind(kind: type[BusMessage]) -> None:
    serializer = JSONMessageSerializer()
    data = serializer.serialize(kind(source="a", target="b"))
    assert serializer.deserialize(data) == kind(source="a", target="b")
    assert json.loads(data)["__type__"] == f"pipecat.bus.messages.{kind.__name__}"


def test_a_name_stands_for_one_type() -> None:
    serializer = JSONMessageSerializer()
    serializer.register(Painted)
    serializer.register(Painted)
    with pytest.raises(ConfigurationError, match="a name of its own"):
        serializer.register(Colour, REQUEST)
    with pytest.raises(ConfigurationError, match="encode and decode"):
        serializer.register(Money)
