"""Bus messages on their way to another process."""

from __future__ import annotations

from collections import deque

from voicews.exceptions import ConfigurationError, InvalidMessage
from voicews.workers.messages import (
    BusJobCancelMessage,
    BusJobRequestMessage,
    BusMessage,
    BusSystemMessage,
)

Entry = tuple[BusMessage, bytes]

#: The longest message (bytes) that the ends of a link take. Pipecat's server takes 16 MiB, its
#: client 1 MiB.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024


class Outbox:
    """A bounded queue, system messages first; it remembers what the peer has yet to confirm.

    A cancel that would overtake the request of its job takes it out of the queue instead: neither
    is sent. When it is full, the oldest data message makes room; system messages go only when
    nothing else waits, the oldest first. Every message that goes this way, or is lost with its
    connection, counts in `dropped_messages`.

    With `confirmed`, messages that were taken are kept until the peer says that it has them, and
    no more are given out than fit in the bounds: a peer that confirms nothing gets nothing new.
    """

    def __init__(self, max_messages: int = 1000, max_bytes: int = 2 * MAX_MESSAGE_BYTES) -> None:
        if max_messages < 1 or max_bytes < 1:
            raise ConfigurationError(
                f"expected room for one message and one byte, found {max_messages}, {max_bytes}"
            )
        self.confirmed = False
        self.dropped_messages = 0
        #: How many messages were given out since the numbering began.
        self.taken = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._system: deque[Entry] = deque()
        self._data: deque[Entry] = deque()
        self._resend: deque[Entry] = deque()
        self._bytes = 0
        self._unconfirmed: deque[Entry] = deque()
        self._unconfirmed_bytes = 0

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._system) + len(self._data) + len(self._resend)

    @property
    def unconfirmed(self) -> int:
        """How many messages the peer has yet to confirm."""
        return len(self._unconfirmed)

    def put(self, message: BusMessage, data: bytes) -> list[BusMessage]:
        """Add a message; returns those that had to make room."""
        if isinstance(message, BusJobCancelMessage) and self._withdraw(message):
            return []
        queue = self._system if isinstance(message, BusSystemMessage) else self._data
        queue.append((message, data))
        self._bytes += len(data)
        dropped = []
        while (self._data or self._system) and self._is_full():
            # Never what is sent again: it has its number, and a gap would shift the rest.
            oldest, oldest_data = (self._data or self._system).popleft()
            self._bytes -= len(oldest_data)
            dropped.append(oldest)
        self.dropped_messages += len(dropped)
        return dropped

    def _withdraw(self, cancel: BusJobCancelMessage) -> bool:
        """Take the request that a cancel is about out of the queue, if it waits there."""
        for index, (message, data) in enumerate(self._data):
            if (
                isinstance(message, BusJobRequestMessage)
                and (message.job_id, message.target) == (cancel.job_id, cancel.target)
                and message.source == cancel.source
            ):
                del self._data[index]
                self._bytes -= len(data)
                return True
        return False

    def _is_full(self) -> bool:
        return len(self) > self._max_messages or self._bytes > self._max_bytes

    def take(self) -> Entry | None:
        """The next message to send; None if none waits, or too many are unconfirmed."""
        if self.confirmed and (
            len(self._unconfirmed) >= self._max_messages
            or self._unconfirmed_bytes > self._max_bytes
        ):
            return None
        queue = self._resend or self._system or self._data
        if not queue:
            return None
        entry = queue.popleft()
        self._bytes -= len(entry[1])
        self.taken += 1
        if self.confirmed:
            self._unconfirmed.append(entry)
            self._unconfirmed_bytes += len(entry[1])
        return entry

    def drop_longer(self, max_bytes: int) -> list[BusMessage]:
        """Drop the messages that the peer refuses; returns them."""
        dropped = []
        for queue in (self._resend, self._system, self._data):
            long = [entry for entry in queue if len(entry[1]) > max_bytes]
            for entry in long:
                queue.remove(entry)
                self._bytes -= len(entry[1])
                dropped.append(entry[0])
        self.dropped_messages += len(dropped)
        return dropped

    def confirm(self, received: int) -> None:
        """The peer has the first `received` messages of this numbering.

        Raises `InvalidMessage` for a number that can't be.
        """
        if not self.taken - len(self._unconfirmed) <= received <= self.taken:
            raise InvalidMessage(
                f"expected {self.taken - len(self._unconfirmed)} to {self.taken} messages to be "
                f"confirmed, found {received}"
            )
        while self._unconfirmed and self.taken - len(self._unconfirmed) < received:
            self._unconfirmed_bytes -= len(self._unconfirmed.popleft()[1])

    def rewind(self) -> None:
        """Send what is not confirmed again, before everything else."""
        self.taken -= len(self._unconfirmed)
        self._bytes += self._unconfirmed_bytes
        self._resend.extendleft(reversed(self._unconfirmed))
        self._unconfirmed.clear()
        self._unconfirmed_bytes = 0

    def restart(self) -> list[BusMessage]:
        """Begin a new numbering; returns what was not confirmed, and now is dropped."""
        lost = [message for message, _data in [*self._resend, *self._unconfirmed]]
        self._bytes -= sum(len(data) for _message, data in self._resend)
        self._resend.clear()
        self._unconfirmed.clear()
        self._unconfirmed_bytes = 0
        self.taken = 0
        self.dropped_messages += len(lost)
        return lost

    def clear(self) -> list[BusMessage]:
        """Drop everything; returns it."""
        lost = self.restart()
        waiting = [message for message, _data in [*self._system, *self._data]]
        self._system.clear()
        self._data.clear()
        self._bytes = 0
        self.dropped_messages += len(waiting)
        return lost + waiting
