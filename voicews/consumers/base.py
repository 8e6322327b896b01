"""What every consumer of ours does with its socket, whatever goes through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from voicews.close_codes import CloseCode
from voicews.consumers.layer import LayerMessages, handler_names
from voicews.exceptions import Busy, NotAllowed
from voicews.security.addresses import valid_address
from voicews.security.origins import handshake_host, origin_allowed, origin_refusal
from voicews.servers import fast_path
from voicews.servers.connection import TURN_FRAMES, Allowance
from voicews.servers.frames import Limits

logger = logging.getLogger(__name__)

#: A client that is turned away gets so long (seconds) to close its side.
DROP_TIMEOUT_SECS = 1.0


class SocketConsumer(AsyncWebsocketConsumer):
    """Opens or refuses a socket, and reads from it, within limits, until it is gone.

    It has a receive loop of its own: Channels' `dispatch` goes through a thread for every message,
    which costs more than all that voicews does with one. `connect`, `receive` and `disconnect` are
    what they are in Channels; `connect` raises `NotAllowed` or `Busy` to refuse the socket.
    """

    #: A longer message closes the socket with 1009.
    max_message_bytes: ClassVar[int] = 1024 * 1024
    #: Messages (and fragments, pings, pongs) that a client may send in the long run, and in one go:
    #: more is closed with 1008.
    max_messages_per_sec: ClassVar[int] = 200
    max_messages_burst: ClassVar[int] = 3000
    #: The same for bytes, after decompression.
    max_bytes_per_sec: ClassVar[int] = 1024 * 1024
    max_bytes_burst: ClassVar[int] = 8 * 1024 * 1024

    #: Whether `receive_now` is asked before `receive`. A subclass that overrides `receive` alone
    #: says no, unless it sets this itself.
    takes_now: ClassVar[bool] = False

    #: Whether there is a `channel_name`, with handlers for messages that are sent to it or to one
    #: of its `groups`. None: if there are groups, or handlers, which are methods
    #: `async def room_news(self, event)` of a project's own classes.
    uses_channel_layer: ClassVar[bool | None] = None
    _handler_names: ClassVar[frozenset[str]] = frozenset()

    channel_name: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "takes_now" not in own and ("receive" in own or "receive_now" in own):
            cls.takes_now = "receive_now" in own
        cls._handler_names = handler_names(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._serving: asyncio.Task[Any] | None = None
        self._aborted = False
        self._is_accepted = False
        self._dropping: asyncio.Task[None] | None = None
        self._layer_messages: LayerMessages | None = None

    @cached_property
    def channel_layer(self) -> Any:  # type: ignore[override]
        """The channel layer `channel_layer_alias` of the settings; None if there is none."""
        return get_channel_layer(self.channel_layer_alias)

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters in the socket's URL."""
        return parse_qs(self.scope.get("query_string", b"").decode("latin-1"))

    def header(self, name: str) -> str:
        """A header of the handshake, by its name in lower case; empty if there is none."""
        value: bytes = dict(self.scope["headers"]).get(name.encode("latin-1"), b"")
        return value.decode("latin-1")

    @property
    def client_address(self) -> str | None:
        """The client's IP address from the ASGI scope; None if the server gives none."""
        return valid_address((self.scope.get("client") or [None])[0])

    def check_origin(self, allowed_origins: Sequence[str] | None) -> None:
        """Raise `NotAllowed` if a web page that may not connect opens this socket."""
        has_origin = any(name == b"origin" for name, _value in self.scope["headers"])
        origin = self.header("origin") if has_origin else None
        host = handshake_host(self.scope)
        if not origin_allowed(origin, host, allowed_origins):
            raise NotAllowed(origin_refusal(origin, host, allowed_origins))

    async def accept(self, *args: Any, **kwargs: Any) -> None:
        """Let the client in."""
        await super().accept(*args, **kwargs)
        self._is_accepted = True

    def receive_now(self, data: str | bytes) -> bool:
        """Take one message without waiting, if that can be done; `receive` gets what it declines.

        It is asked where `takes_now` is true. The default declines.
        """
        return False

    def drop(self, code: int, reason: str) -> None:
        """Close the socket; what comes from it until then is ignored. Does not wait."""
        if self._dropping is None:
            self._dropping = asyncio.get_running_loop().create_task(self._drop(code, reason))

    def abort(self) -> None:
        """Stop reading from the socket and release it."""
        if self._serving is not None and not self._aborted:
            self._aborted = True
            # A project's middleware may hide the server.
            scope: Any = self.scope
            fast_path.abort_if_blocked(scope.get("voicews.send", self.base_send))
            self._serving.cancel()

    async def _drop(self, code: int, reason: str) -> None:
        with suppress(Exception):  # each server has its own for "the peer is gone"
            async with asyncio.timeout(DROP_TIMEOUT_SECS):
                await self.close(int(code), reason)
        # The peer's answer ends the reading, and normally does so before this.
        asyncio.get_running_loop().call_later(DROP_TIMEOUT_SECS, self.abort)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.base_send = fast_path.wrap_send(send, scope)
        receive = fast_path.wrap_receive(receive, self.base_send)
        # A project's middleware may hide the server.
        connection = fast_path.connection_of(scope.get("voicews.send", self.base_send))
        allowance = Allowance(
            self.max_messages_per_sec,
            self.max_messages_burst,
            self.max_bytes_per_sec,
            self.max_bytes_burst,
        )
        code: int = CloseCode.ABNORMAL
        try:
            await receive()  # websocket.connect
            if connection is not None:
                connection.limit(Limits(self.max_message_bytes), allowance, self.drop)
            if await self._open():
                self._serving = asyncio.current_task()
                if connection is None:
                    receive = self._limited(receive, allowance)
                elif self.takes_now:
                    fast_path.enable_direct_delivery(receive, self.base_send, self.receive_now)
                code = await self._receive_messages(receive)
        except asyncio.CancelledError:
            if not self._aborted or self._serving is None:
                raise
            self._serving.uncancel()
        finally:
            self._serving = None
            if connection is not None:
                connection.release()
            try:
                if self._layer_messages is not None:
                    await self._layer_messages.leave()
            finally:
                await self.disconnect(code)

    async def _open(self) -> bool:
        try:
            await self._join_groups()
            await self.connect()
        except NotAllowed as error:
            logger.info("socket refused: %s", error)
            await self._refuse(CloseCode.NOT_ALLOWED, str(error))
        except Busy as error:
            logger.warning("socket refused: %s", error)
            await self._refuse(error.close_code, str(error))
        except Exception:
            logger.exception("socket refused: it could not be opened")
            await self._refuse(CloseCode.SERVER_ERROR, "server error")
        else:
            if self._layer_messages is not None:
                self._layer_messages.open()
            return True
        return False

    async def _join_groups(self) -> None:
        uses = self.uses_channel_layer
        if uses is False or not (uses or self.groups or self._handler_names):
            return
        handlers = {name: getattr(self, name) for name in self._handler_names}
        self._layer_messages = messages = LayerMessages(
            self.channel_layer, list(self.groups or ()), handlers, self.abort
        )
        await messages.join()
        self.channel_name = messages.channel_name

    async def _refuse(self, code: int, reason: str) -> None:
        # A page can't see why a handshake failed: our own client's socket is accepted, then closed.
        # Pipecat's client would wait endlessly after an accepted handshake: it takes the HTTP 403.
        if not self._is_accepted and self.query.get("client") == ["voicews"]:
            await self.accept()
        await self.close(int(code), reason)

    async def _receive_messages(self, receive: Any) -> int:
        """Take messages until the socket is gone; returns its close code."""
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return int(message.get("code") or CloseCode.NO_STATUS)
            await self.receive(message.get("text"), message.get("bytes"))

    def _limited(self, receive: Any, allowance: Allowance) -> Any:
        """The `receive` of a server that is not known, within the limits all the same."""
        count = 0

        async def receive_within_limits() -> Any:
            nonlocal count
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return message
                count += 1
                if not count % TURN_FRAMES:
                    # Servers don't pause while messages wait: a flood would starve the others.
                    await asyncio.sleep(0)
                data = message.get("bytes")
                size = len(message["text"] if data is None else data)
                excess = allowance.excess(size)
                if size > self.max_message_bytes:
                    self.drop(
                        CloseCode.TOO_BIG, f"more than {self.max_message_bytes} bytes in a message"
                    )
                elif excess is not None:
                    self.drop(CloseCode.NOT_ALLOWED, excess)
                else:
                    return message

        return receive_within_limits
