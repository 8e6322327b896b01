"""A consumer's messages from the channel layer, as in Channels: groups, and handlers by type."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from channels.exceptions import InvalidChannelLayerError, StopConsumer

logger = logging.getLogger(__name__)

#: So long (seconds) nothing is asked of a channel layer that has failed.
RETRY_SECS = 1.0
#: So long (seconds) a wait for messages may take to be cancelled.
CANCEL_SECS = 0.2
#: Where no handlers are looked for.
FRAMEWORKS = ("voicews", "channels", "builtins")

Handler = Callable[[Any], Awaitable[object]]


def handler_names(kind: type) -> frozenset[str]:
    """The methods of a consumer class that can take one message of the channel layer.

    They are a project's own: coroutine functions with one argument, that override nothing.
    """
    ours = [one for one in kind.__mro__ if one.__module__.partition(".")[0] in FRAMEWORKS]
    return frozenset(
        name
        for base in kind.__mro__
        if base not in ours
        for name in vars(base)
        if not name.startswith("_")
        and _takes_one(getattr(kind, name))
        and not any(name in vars(one) for one in ours)
    )


def _takes_one(method: Any) -> bool:
    if not inspect.iscoroutinefunction(method):
        return False
    try:
        inspect.signature(method).bind(None, None)
    except TypeError:
        return False
    return True


class LayerMessages:
    """What the channel layer has for one consumer, from `join` to `leave`.

    Handlers run one after the other, beside the messages of the socket. One that fails is logged,
    and ends no call.
    """

    def __init__(
        self,
        layer: Any,
        groups: list[str],
        handlers: Mapping[str, Handler],
        stop: Callable[[], object],
    ) -> None:
        if layer is None or (groups and not hasattr(layer, "group_add")):
            raise InvalidChannelLayerError("BACKEND is unconfigured or doesn't support groups")
        self.channel_name = ""
        self._layer = layer
        self._groups = groups
        self._handlers = handlers
        self._stop = stop
        self._joined: list[str] = []
        self._is_open = asyncio.Event()
        self._receiving: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Have messages kept from now on; they are handled after `open`."""
        self.channel_name = await self._layer.new_channel()
        self._receiving = asyncio.get_running_loop().create_task(self._receive())
        # It must have begun to wait: layers give a channel up when a wait is cancelled.
        await asyncio.sleep(0)
        for group in self._groups:
            await self._layer.group_add(group, self.channel_name)
            self._joined.append(group)

    def open(self) -> None:
        """The socket is open: handle what has come and comes."""
        self._is_open.set()

    async def leave(self) -> None:
        """Nothing is handled any more."""
        receiving = self._receiving
        while receiving is not None and not receiving.done():
            # Again, because Redis' client may make a timeout of it.
            receiving.cancel()
            await asyncio.wait([receiving], timeout=CANCEL_SECS)
        for group in self._joined:
            try:
                await self._layer.group_discard(group, self.channel_name)
            except Exception as error:  # noqa: BLE001 - the group forgets dead channels by itself
                logger.warning("could not leave the group %s: %s", group, error)

    async def _receive(self) -> None:
        is_failing = False
        while True:
            try:
                message = await self._layer.receive(self.channel_name)
            except Exception as error:  # noqa: BLE001 - each channel layer has its own
                if not is_failing:
                    logger.warning("can't receive from the channel layer: %s", error)
                is_failing = True
                await asyncio.sleep(RETRY_SECS)
                continue
            is_failing = False
            await self._is_open.wait()
            kind = str(message.get("type"))
            handler = self._handlers.get(kind.replace(".", "_"))
            if handler is None:
                logger.warning("a message of the channel layer has no handler: %s", kind)
                continue
            try:
                await handler(message)
            except StopConsumer:
                self._stop()
            except Exception:
                logger.exception("the handler of %s failed", kind)
