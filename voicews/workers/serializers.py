"""Bus messages as JSON, as Pipecat 1.14 writes it.

Values that JSON doesn't have are `{"__type__": name, "__data__": ...}`. A name stands for what was
registered under it and for nothing else: nothing is imported because a remote asks for it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from voicews import frames
from voicews.exceptions import ConfigurationError, InvalidMessage, UnknownMessage
from voicews.workers import messages
from voicews.workers.messages import BusLocalMessage, BusMessage

TYPE, DATA = "__type__", "__data__"
BYTES = "bytes"
#: Nesting of objects; deeper is an attack on the stack.
MAX_DEPTH = 64


@dataclass(frozen=True)
class _Type:
    cls: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class MessageSerializer(Protocol):
    """What a bus or a proxy asks of a serializer: a class of your own needs no more."""

    def serialize(self, message: BusMessage) -> bytes:
        """The message for the wire. Raises `InvalidMessage` for one that can't be written."""

    def deserialize(self, data: bytes) -> BusMessage | None:
        """The message in the data; None if it holds none for the bus.

        Raises `InvalidMessage`, or `UnknownMessage` for a good one of a type that isn't known.
        """


class JSONMessageSerializer:
    """Writes and reads the messages of `voicews.workers.messages`, and what an app registers.

    Of frames it knows text, transcription, audio, interruption and transport messages.
    """

    def __init__(self) -> None:
        self._by_class: dict[type, _Type] = {}
        self._by_name: dict[str, _Type] = {}
        for cls in _MESSAGES:
            self.register(cls, f"pipecat.bus.messages.{cls.__name__}")
        self.register(messages.WorkerRegistryEntry, "pipecat.registry.types.WorkerRegistryEntry")
        self.register(frames.Direction, "pipecat.processors.frame_processor.FrameDirection")
        for cls in _FRAMES:
            self.register(cls, f"pipecat.frames.frames.{cls.__name__}")

    def register(
        self,
        cls: type,
        name: str | None = None,
        *,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Let values of this class pass, under this name (default: its dotted path).

        A dataclass or an enum needs no more: its fields are checked against their annotations.
        For another class, `encode` gives what JSON can say, and `decode` makes a value of that;
        it gets what a remote has sent, and raises `ValueError` for what it can't take.
        """
        name = name or f"{cls.__module__}.{cls.__qualname__}"
        if encode is None or decode is None:
            if issubclass(cls, enum.Enum):
                encode, decode = _enum_codec(cls)
            elif dataclasses.is_dataclass(cls):
                encode, decode = _dataclass_codec(cls)
            else:
                raise ConfigurationError(
                    f"expected a dataclass, an enum, or encode and decode for {name}"
                )
        known = self._by_name.get(name)
        if known is not None and known.cls is not cls:
            raise ConfigurationError(f"expected a name of its own for {cls}, found {name!r}")
        self._by_class[cls] = self._by_name[name] = _Type(cls, name, encode, decode)

    def serialize(self, message: BusMessage) -> bytes:
        """UTF-8 JSON. Raises `InvalidMessage` for what the other side could not read."""
        if isinstance(message, BusLocalMessage):
            raise InvalidMessage(f"expected a message that may leave, found {type(message)}")
        return json.dumps(self._encode(message, 0), separators=(",", ":")).encode()

    def deserialize(self, data: bytes) -> BusMessage:
        """The message in UTF-8 JSON. Raises `InvalidMessage`, and `UnknownMessage` for a type."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise InvalidMessage(f"expected JSON in {len(data)} bytes") from None
        message = self._decode(value, 0)
        if not isinstance(message, BusMessage):
            raise InvalidMessage(f"expected a bus message, found {type(message).__name__}")
        return message

    def _encode(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise InvalidMessage(f"expected at most {MAX_DEPTH} levels")
        if value is None or isinstance(value, str | int | float):  # a StrEnum too
            return value
        if isinstance(value, Mapping):
            if TYPE in value and DATA in value:
                raise InvalidMessage(f"expected data without the keys {TYPE} and {DATA}")
            return {str(key): self._encode(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._encode(item, depth + 1) for item in value]
        if isinstance(value, bytes | bytearray):
            return {TYPE: BYTES, DATA: base64.b64encode(value).decode("ascii")}
        known = self._by_class.get(type(value))
        if known is None:
            raise InvalidMessage(f"expected a registered type, found {type(value).__name__}")
        encoded = known.encode(value)
        if isinstance(encoded, dict):
            # Pipecat leaves out what is None, and takes what is missing for None.
            encoded = {
                key: self._encode(item, depth + 1)
                for key, item in encoded.items()
                if item is not None
            }
        return {TYPE: known.name, DATA: encoded}

    def _decode(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise InvalidMessage(f"expected at most {MAX_DEPTH} levels")
        if isinstance(value, list):
            return [self._decode(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        if TYPE in value and DATA in value:
            return self._decode_typed(value[TYPE], value[DATA], depth + 1)
        return {key: self._decode(item, depth + 1) for key, item in value.items()}

    def _decode_typed(self, name: object, data: Any, depth: int) -> Any:
        if name == BYTES:
            try:
                return base64.b64decode(data, validate=True)
            except (TypeError, ValueError, binascii.Error):
                raise InvalidMessage("expected base64") from None
        known = self._by_name.get(name) if isinstance(name, str) else None
        if known is None:
            shown = str(name)[:100]
            raise UnknownMessage(f"expected a registered type, found {shown!r}", shown)
        if isinstance(data, dict):
            data = {key: self._decode(item, depth) for key, item in data.items()}
        try:
            return known.decode(data)
        except InvalidMessage:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidMessage(f"expected a {known.name}: {type(error).__name__}") from None


def _enum_codec(cls: type[enum.Enum]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return lambda value: value.name, lambda name: cls[name]


def _dataclass_codec(cls: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    fields = dataclasses.fields(cls)
    hints = typing.get_type_hints(cls)
    checks = {one.name: _check(hints[one.name], f"{cls.__name__}.{one.name}") for one in fields}
    #: Fields that the class makes itself: the peer's value takes their place.
    made_later = {one.name for one in fields if not one.init}
    required = {
        one.name
        for one in fields
        if one.init
        and one.default is dataclasses.MISSING
        and one.default_factory is dataclasses.MISSING
    }

    def encode(value: Any) -> dict[str, Any]:
        return {one.name: getattr(value, one.name) for one in fields}

    def decode(data: Any) -> Any:
        if not isinstance(data, dict):
            raise InvalidMessage(f"expected an object for {cls.__name__}")
        # What is not among the fields is another version's, or Pipecat's own bookkeeping.
        values = {key: checks[key](item) for key, item in data.items() if key in checks}
        set_later = {key: values.pop(key) for key in made_later & values.keys()}
        for name in required - values.keys():
            values[name] = checks[name](None)
        made = cls(**values)
        for key, item in set_later.items():
            # Past a frozen dataclass's own, which refuses.
            object.__setattr__(made, key, item)
        return made

    return encode, decode


def _check(hint: Any, where: str) -> Callable[[Any], Any]:
    """A function that returns a value of this type as it is, and refuses any other."""
    if hint is Any:
        return lambda value: value
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    accepted: list[type] = []
    items: type | None = None
    convert: type[enum.Enum] | None = None
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is list:
            (argument,) = typing.get_args(option) or (object,)
            items = argument if isinstance(argument, type) else object
        if isinstance(origin, type) and issubclass(origin, enum.StrEnum):
            convert = origin
        accepted += [float, int] if origin is float else [origin]

    def check(value: Any) -> Any:
        if convert is not None and isinstance(value, str):
            return convert(value)
        if not isinstance(value, tuple(accepted)) or (
            isinstance(value, bool) and bool not in accepted
        ):
            raise InvalidMessage(f"expected another type in {where}, found {type(value).__name__}")
        if items is not None and not all(isinstance(item, items) for item in _items(value)):
            raise InvalidMessage(f"expected items of another type in {where}")
        return value

    return check


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


_MESSAGES: tuple[type, ...] = (
    messages.BusDataMessage,
    messages.BusSystemMessage,
    messages.BusFrameMessage,
    messages.BusTTSSpeakMessage,
    messages.BusActivateWorkerMessage,
    messages.BusDeactivateWorkerMessage,
    messages.BusEndMessage,
    messages.BusEndWorkerMessage,
    messages.BusCancelMessage,
    messages.BusCancelWorkerMessage,
    messages.BusWorkerRegistryMessage,
    messages.BusWorkerReadyMessage,
    messages.BusWorkerErrorMessage,
    messages.BusJobRequestMessage,
    messages.BusJobResponseMessage,
    messages.BusJobResponseUrgentMessage,
    messages.BusJobUpdateMessage,
    messages.BusJobUpdateUrgentMessage,
    messages.BusJobUpdateRequestMessage,
    messages.BusJobCancelMessage,
    messages.BusJobStreamStartMessage,
    messages.BusJobStreamDataMessage,
    messages.BusJobStreamEndMessage,
)
_FRAMES: tuple[type, ...] = (
    frames.TextFrame,
    frames.TranscriptionFrame,
    frames.InputAudioRawFrame,
    frames.OutputAudioRawFrame,
    frames.InterruptionFrame,
    frames.InputTransportMessageFrame,
    frames.OutputTransportMessageFrame,
    frames.OutputTransportMessageUrgentFrame,
)
