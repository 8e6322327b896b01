"""This process's end of the channel layer: short messages between server processes, no media.

The layer is a convenience: whatever it fails to carry, the database delivers a little later.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from time import monotonic
from typing import Any

from channels.layers import get_channel_layer

from voicews.backoff import Backoff, BackoffPolicy

logger = logging.getLogger(__name__)

TYPE = "voicews.control"
SEND_TIMEOUT_SECS = 2.0
FIRST_BACKOFF_SECS, LONGEST_BACKOFF_SECS = 0.1, 1.0
LOG_INTERVAL_SECS = 1.0

Message = dict[str, Any]


class ControlChannel:
    """One subscription for the whole process: a steady call costs the layer nothing.

    `handle` is called for each message that is no answer, on the event loop, and must not block;
    `opened` when other processes can reach this one from now on.
    """

    def __init__(
        self, handle: Callable[[Message], None], opened: Callable[[], None] = lambda: None
    ) -> None:
        self._handle = handle
        self._opened = opened
        self._tried = asyncio.Event()
        #: Where other processes reach this one; empty while there is no layer or it is away.
        self.name = ""
        self._answers: dict[str, asyncio.Future[Message]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._logged_at = float("-inf")

    def start(self) -> None:
        """Listen; needs a running event loop."""
        if get_channel_layer() is not None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def stop(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    async def wait_open(self) -> None:
        """Wait until it has a name, or can't get one now."""
        if self._listener is not None:
            await self._tried.wait()

    async def send(self, channel: str, op: str, **data: Any) -> bool:
        """Send a message to another process; False if the layer failed."""
        layer = get_channel_layer()
        if layer is None or not channel:
            return False
        message = {"type": TYPE, "op": op, "reply_to": self.name, **data}
        try:
            await asyncio.wait_for(layer.send(channel, message), SEND_TIMEOUT_SECS)
        except Exception as error:  # noqa: BLE001 - each layer has its own
            self._log("the channel layer did not take a message: %r", error)
            return False
        return True

    def post(self, channel: str, op: str, **data: Any) -> None:
        """Send a message without waiting for it."""
        task = asyncio.get_running_loop().create_task(self.send(channel, op, **data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def request(
        self, channel: str, op: str, timeout_secs: float, **data: Any
    ) -> Message | None:
        """Send a message that is answered with `answer`; None if no answer came in time."""
        if not self.name:
            return None
        request_id = uuid.uuid4().hex
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            async with asyncio.timeout(timeout_secs):
                if not await self.send(channel, op, request=request_id, **data):
                    return None
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._answers[request_id]

    def answer(self, request: Message, **data: Any) -> None:
        """Answer a message that was sent with `request`."""
        self.post(request["reply_to"], "answer", request=request.get("request", ""), **data)

    async def _listen(self) -> None:
        backoff = Backoff(
            BackoffPolicy(first_delay_secs=FIRST_BACKOFF_SECS, max_delay_secs=LONGEST_BACKOFF_SECS)
        )
        while True:
            layer = get_channel_layer()
            assert layer is not None
            try:
                if not self.name:
                    self.name = await asyncio.wait_for(layer.new_channel(), SEND_TIMEOUT_SECS)
                    self._opened()
                self._tried.set()
                message = await layer.receive(self.name)
            except (ValueError, TypeError) as error:
                # Not the layer: a message on the channel can't be decoded.
                self._log("a message on the control channel is ignored: %s", type(error).__name__)
                await asyncio.sleep(0)
            except Exception as error:  # noqa: BLE001 - each layer has its own
                self._tried.set()
                self._log("the channel layer is away: %r", error)
                await asyncio.sleep(backoff.next_delay() or 0.0)
            else:
                backoff.reset()
                self._received(message)

    def _received(self, message: object) -> None:
        """Take what has come. Whatever it is, the next one is listened to."""
        try:
            if not isinstance(message, dict):
                raise TypeError(f"expected a dict, found {type(message).__name__}")
            if message.get("op") == "answer":
                answer = self._answers.get(message.get("request", ""))
                if answer is not None and not answer.done():
                    answer.set_result(message)
            else:
                self._handle(message)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self._log("a message on the control channel is ignored: %r", error)
        except Exception:
            logger.exception("a message of another server process could not be handled")

    def _log(self, text: str, error: object) -> None:
        now = monotonic()
        if now - self._logged_at >= LOG_INTERVAL_SECS:
            self._logged_at = now
            logger.warning(text, error)
