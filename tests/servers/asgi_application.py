"""An ASGI application that does to its sockets what a test tells it to; run by real servers.

A socket's path says what it does, its query gives it a name and options. What became of the sockets
is asked, and those that wait are told to go on, over `/control`, with one JSON object a message.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from voicews.servers import fast_path


@dataclass
class State:
    """What became of one socket; `sizes` are those of the messages that came."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    sent_bytes: int = 0
    sizes: list[int] = field(default_factory=list)
    code: int | None = None
    error: str | None = None


@dataclass
class Socket:
    """One socket, past `fast_path.wrap_send` and `fast_path.wrap_receive`."""

    receive: Callable[[], Awaitable[dict[str, Any]]]
    send: Callable[[dict[str, Any]], Awaitable[None]]
    options: dict[str, str]
    state: State

    async def read(self, answer: bool = False) -> None:
        """Take messages to the end; `answer` sends them back, and a word for empty ones."""
        while (message := await self.receive())["type"] == "websocket.receive":
            text, data = message.get("text"), message.get("bytes")
            found = (data if text is None else text) or b""
            self.state.sizes.append(len(found))
            if answer:
                text = text if text is None else text or "empty"
                data = data if data is None else data or b"empty"
                await self.send({"type": "websocket.send", "text": text, "bytes": data})
        self.state.code = message.get("code")

    async def close(self) -> None:
        reason = self.options.get("reason", "")
        code = int(self.options.get("code", 1000))
        await self.send({"type": "websocket.close", "code": code, "reason": reason})


async def echo(socket: Socket) -> None:
    await socket.read(answer=True)


async def stuck(socket: Socket) -> None:
    """Takes nothing until it is told to."""
    await socket.state.go_on.wait()
    await socket.read()


async def closes(socket: Socket) -> None:
    """Takes nothing, and closes when it is told to."""
    await socket.state.go_on.wait()
    await socket.close()
    await socket.read()


async def closes_late(socket: Socket) -> None:
    """Closes after a message; until then the process does nothing else."""
    await socket.receive()
    time.sleep(0.3)  # noqa: ASYNC251 - meanwhile the peer closes as well
    await socket.close()
    await socket.read()


async def pours(socket: Socket) -> None:
    """Sends messages whose first four bytes count them, and closes."""
    size = int(socket.options["size"])
    noise = os.urandom(size)  # doesn't get smaller by compression
    for number in range(int(socket.options["count"])):
        data = (number.to_bytes(4, "big") + noise)[:size]
        await socket.send({"type": "websocket.send", "bytes": data, "text": None})
        socket.state.sent_bytes += size
    await socket.close()
    await socket.read()


async def pours_and_reads(socket: Socket) -> None:
    """Takes messages while it sends."""
    reading = asyncio.create_task(socket.read())
    try:
        await pours(socket)
    finally:
        reading.cancel()


async def outlives(socket: Socket) -> None:
    """Sends to who has left, and reads what the server says to that."""
    await socket.read()
    message: dict[str, Any]
    for message in (
        {"type": "websocket.send", "bytes": b"still there?", "text": None},
        {"type": "websocket.send", "text": "still there?", "bytes": None},
    ):
        await socket.send(message)


async def breaks_off(socket: Socket) -> None:
    """Gives a peer up that doesn't take what is sent."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await pours(socket)
    fast_path.abort_if_blocked(socket.send)
    await socket.read()


KINDS: dict[str, Callable[[Socket], Awaitable[None]]] = {
    f"/{kind.__name__}": kind
    for kind in (echo, stuck, closes, closes_late, pours, pours_and_reads, outlives, breaks_off)
}
_states: dict[str, State] = {}


async def control(receive: Any, send: Any) -> None:
    """Answers each name with what became of that socket; the others go on after `!`."""
    while (message := await receive())["type"] == "websocket.receive":
        name = message["text"]
        state = _states.setdefault(name.removeprefix("!"), State())
        if name.startswith("!"):
            state.go_on.set()
        answer = {key: value for key, value in vars(state).items() if key != "go_on"}
        await send({"type": "websocket.send", "text": json.dumps(answer)})


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    completed = fast_path.wrap_send(send, scope)
    completed_receive = fast_path.wrap_receive(receive, completed)
    await completed_receive()
    await completed({"type": "websocket.accept"})
    if scope["path"] == "/control":
        await control(completed_receive, completed)
        return
    query = parse_qs(scope["query_string"].decode())
    options = {name: values[-1] for name, values in query.items()}
    state = _states.setdefault(options["name"], State())
    try:
        await KINDS[scope["path"]](Socket(completed_receive, completed, options, state))
    except Exception as error:
        state.error = type(error).__name__
        raise
    finally:
        connection = fast_path.connection_of(completed)
        if connection is not None:
            connection.release()
