"""Sockets of ours over a server of which something is gone.

`?without=3.state` takes that name of the fourth of `probe.PARTS` away for one socket, until it has
been looked for; then the server has it back, as it needs most of them itself. With `fresh=1` the
process has warned of nothing yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from voicews.consumers.base import SocketConsumer  # noqa: E402
from voicews.servers import fast_path, probe  # noqa: E402


class Echo(SocketConsumer):
    """Sends back what it gets; closes with the code that it is told."""

    async def connect(self) -> None:
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is not None and text_data.startswith("close "):
            self.drop(int(text_data.removeprefix("close ")), "as told")
        elif text_data == "path":
            await self.send(type(fast_path.connection_of(self.base_send)).__name__)
        else:
            await self.send(text_data, bytes_data)


@contextmanager
def without(found: Any, name: str) -> Iterator[None]:
    """An object that hasn't an attribute."""

    def gone(_self: object) -> None:
        raise AttributeError(name)

    whole = type(found)
    found.__class__ = type(whole.__name__, (whole,), {name: property(gone)})
    try:
        yield
    finally:
        found.__class__ = whole


def unbound(send: Any) -> Any:
    """A server's `send` as a plain function of that server's."""

    async def function(message: Any) -> None:
        await send(message)

    function.__module__ = getattr(send, "func", send).__module__
    return function


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    options = {name: one[-1] for name, one in parse_qs(scope["query_string"].decode()).items()}
    if "fresh" in options:
        probe._warned.clear()
    index, _dot, name = options.get("without", "").partition(".")
    part = probe.PARTS[int(index)] if index else None
    removed = ExitStack()
    if part in (probe.UVICORN_SEND, probe.DAPHNE_SEND):
        send = unbound(send)
    elif part is probe.UVICORN_FRAMES:
        from uvicorn.protocols.websockets import websockets_sansio_impl as module

        removed.enter_context(mock.patch.object(module, name))
        delattr(module, name)
        probe.look_at_servers()
    elif part is not None:
        protocol = send.args[0] if hasattr(send, "args") else send.__self__
        is_transport = part in (probe.ASYNCIO_TRANSPORT, probe.TWISTED_TRANSPORT)
        removed.enter_context(without(protocol.transport if is_transport else protocol, name))

    async def receive_restored() -> Any:
        removed.close()
        return await receive()

    if part is None:
        receive_restored = receive
    with removed:
        await Echo()(scope, receive_restored, send)
