"""What two proxies keep in mind about the link between them, without any I/O.

The wire is Pipecat's: each binary message is one bus message. Between two voicews proxies, which
find each other by a WebSocket subprotocol, there are two messages more: `Hello`, the first on each
socket, and `Received`, as a sign of life; both say how many messages have arrived. So a link that
is cut and comes back goes on where it was: nothing is lost, nothing is delivered twice. With any
other peer a message is delivered at most once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voicews.exceptions import InvalidMessage
from voicews.workers.messages import (
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusMessage,
    JobOver,
)
from voicews.workers.outbox import MAX_MESSAGE_BYTES, Outbox
from voicews.workers.serializers import DATA, TYPE

#: The subprotocol by which two voicews proxies know each other, and the header that names a link.
SUBPROTOCOL = "voicews.workers.1"
LINK_HEADER = "x-voicews-link"
HELLO = "voicews.workers.Hello"
RECEIVED = "voicews.workers.Received"
_CONTROL_PREFIX = b'{"__type__":"voicews.workers.'

#: What a client of `websockets`, and so Pipecat's, takes in a message unless it is told otherwise.
PLAIN_CLIENT_MAX_MESSAGE_BYTES = 1024 * 1024
#: So many messages (or a sign of life, if that comes first) are confirmed at once.
CONFIRM_MESSAGES = 64
#: The longest pause between two signs of life that a peer may ask for.
MAX_HEARTBEAT_SECS = 60.0
#: A peer that has confirmed nothing for so many signs of life is gone.
MISSED_SIGNS = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """The peer says where it is, and if it accepted the socket, whether the link goes on."""

    received: int
    heartbeat_secs: float
    resumed: bool
    #: The longest message that it takes.
    max_message_bytes: int = MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Lost:
    """What goes down with a link: messages to the peer, and the jobs under way over it."""

    messages: list[BusMessage]
    #: Jobs whose answers will not come, and the ids of those whose answers are not awaited.
    asked: list[BusJobRequestMessage]
    doing: set[str]


class Link:
    """One end of a link, over however many sockets.

    The end that dials greets first, and asks; the one that is dialled knows whether the link is
    `resumed`.
    """

    def __init__(
        self,
        outbox: Outbox,
        heartbeat_secs: float,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outbox = outbox
        #: The longest message (bytes) that the peer takes, as far as is known.
        self.peer_max_message_bytes = max_message_bytes
        self._max_message_bytes = max_message_bytes
        #: Whether the peer speaks our additions, and has said where it is on this socket.
        self.confirms = False
        self.is_greeted = False
        #: Bus messages given out to be written, those that are sent again included.
        self.sent_messages = 0
        self._heartbeat_secs = self._peer_heartbeat_secs = heartbeat_secs
        self._resumed: bool | None = None
        self._hello: bytes | None = None
        self._says_received = False
        self._received = 0
        self._told_received = 0
        self._asked: dict[str, BusJobRequestMessage] = {}
        self._clock = clock
        self._asked_at: dict[str, float] = {}
        self._doing: set[str] = set()

    @property
    def patience_secs(self) -> float:
        """A peer that has been silent for longer is gone."""
        return MISSED_SIGNS * max(self._heartbeat_secs, self._peer_heartbeat_secs)

    def attach(self, *, confirms: bool, resumed: bool | None = None) -> None:
        """A socket is there; `resumed` is None at the end that has dialled."""
        self.confirms = self.outbox.confirmed = confirms
        self.is_greeted = not confirms
        self._resumed = resumed
        self._hello = None
        self._says_received = False
        if confirms and resumed is None:
            self._hello = self._greeting()

    # --- out ------------------------------------------------------------------------------------

    def next(self) -> bytes | None:
        """What is to be written next; None if nothing is for now."""
        if self._hello is not None:
            data, self._hello = self._hello, None
            return data
        if self._says_received:
            self._says_received = False
            return self._control(RECEIVED)
        entry = self.outbox.take() if self.is_greeted else None
        if entry is None:
            return None
        message, data = entry
        self.sent_messages += 1
        if isinstance(message, BusJobRequestMessage):
            self._asked[message.job_id] = message
            self._asked_at[message.job_id] = self._clock()
        elif isinstance(message, BusJobCancelMessage):
            self._forget_asked(message.job_id)
        elif isinstance(message, JobOver):
            self._doing.discard(message.job_id)
        return data

    def asked_secs_ago(self, job_id: str) -> float:
        """How long ago the request of a job that is under way left."""
        return self._clock() - self._asked_at.get(job_id, float("-inf"))

    def _forget_asked(self, job_id: str) -> None:
        self._asked.pop(job_id, None)
        self._asked_at.pop(job_id, None)

    def say_received(self) -> None:
        """Give a sign of life, which confirms what has arrived."""
        self._says_received = True
        self._told_received = self._received

    def _greeting(self, **data: Any) -> bytes:
        if self._max_message_bytes != MAX_MESSAGE_BYTES:
            data["max_message_bytes"] = self._max_message_bytes
        return self._control(HELLO, heartbeat_secs=self._heartbeat_secs, **data)

    def _control(self, name: str, **data: Any) -> bytes:
        self._told_received = self._received
        control = {TYPE: name, DATA: {"received": self._received, **data}}
        return json.dumps(control, separators=(",", ":")).encode()

    # --- in -------------------------------------------------------------------------------------

    def is_control(self, data: bytes) -> bool:
        """Whether this is a message about the link, not one for the bus."""
        return self.confirms and data.startswith(_CONTROL_PREFIX)

    def count(self) -> bool:
        """A bus message has arrived, valid or not; True when it is time to `say_received`."""
        self._received += 1
        return self.confirms and self._received - self._told_received >= CONFIRM_MESSAGES

    def admit(self, message: BusMessage) -> None:
        """A message that has arrived goes on to the bus."""
        if isinstance(message, BusJobRequestMessage):
            self._doing.add(message.job_id)
        elif isinstance(message, JobOver):
            self._forget_asked(message.job_id)

    def take_control(self, data: bytes) -> Hello | None:
        """Take a message about the link; returns a `Hello`, which is to be answered by `greet`.

        Raises `InvalidMessage`.
        """
        try:
            control = json.loads(data)
            name, content = control[TYPE], control[DATA]
            received = content["received"]
            heartbeat_secs = content.get("heartbeat_secs", 0)
            max_message_bytes = content.get("max_message_bytes", MAX_MESSAGE_BYTES)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise InvalidMessage("expected a Hello or Received") from None
        if type(received) is not int or type(heartbeat_secs) not in (int, float):
            raise InvalidMessage("expected a number of messages received")
        if type(max_message_bytes) is not int or max_message_bytes < 1:
            raise InvalidMessage("expected a number of bytes that a message may have")
        if name == HELLO and not self.is_greeted:
            resumed = content.get("resumed") is True
            return Hello(received, heartbeat_secs, resumed, max_message_bytes)
        if name != RECEIVED or not self.is_greeted:
            raise InvalidMessage("expected one Hello, then Received")
        self.outbox.confirm(received)
        return None

    def greet(self, hello: Hello) -> Lost | None:
        """Go on from where both are, or else begin anew: then it returns what is lost.

        Raises `InvalidMessage` if the two don't agree on what was sent.
        """
        self._peer_heartbeat_secs = min(hello.heartbeat_secs, MAX_HEARTBEAT_SECS)
        self.peer_max_message_bytes = hello.max_message_bytes
        resumed = hello.resumed
        if self._resumed is not None:
            resumed = self._resumed
            self._hello = self._greeting(resumed=resumed)
        lost = None
        if resumed:
            self.outbox.confirm(hello.received)
            self.outbox.rewind()
        else:
            lost = self.restart()
        self.is_greeted = True
        return lost

    # --- the end --------------------------------------------------------------------------------

    def restart(self) -> Lost:
        """Count from the beginning: whatever was under way is lost."""
        self._received = self._told_received = 0
        lost = Lost(self.outbox.restart(), list(self._asked.values()), self._doing)
        self._asked, self._asked_at, self._doing = {}, {}, set()
        return lost

    def give_up(self) -> Lost:
        """The link will not come back: what still waits is lost too."""
        for message in self.outbox.clear():
            if isinstance(message, BusJobRequestMessage):
                self._asked[message.job_id] = message
        return self.restart()
