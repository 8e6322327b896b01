"""What the ASGI servers' `send` lacks, put right from the connection behind it.

Daphne's `send` never waits for the peer, so what a peer doesn't read piles up without a limit; and
a close may have no reason and no other codes than 1000 and 3000 to 4999. No server lets go of a
peer that doesn't read: each waits for it to take what was written before the close.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

#: What a close frame has room for (RFC 6455, 5.5: 125 bytes with the code).
MAX_REASON_BYTES = 123


class DaphneSend:
    """Daphne's `send` for one accepted WebSocket, with back-pressure and with every close code."""

    def __init__(self, send: Any, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._writable = asyncio.Event()
        self._writable.set()
        # The transport calls these when its buffer is fuller than 64 KiB, and when it is empty
        # again. Until the upgrade it told the HTTP side, which has nothing to do with it any more.
        protocol.transport.unregisterProducer()
        producer = SimpleNamespace(
            pauseProducing=self._writable.clear,
            resumeProducing=self._writable.set,
            stopProducing=self._writable.set,
        )
        protocol.transport.registerProducer(producer, True)

    async def __call__(self, message: dict[str, Any]) -> None:
        await self._writable.wait()
        protocol = self._protocol
        if message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
            reason = (message.get("reason") or "").encode()[:MAX_REASON_BYTES]
            protocol.sendCloseFrame(
                code=message.get("code", 1000),
                # Never half a character.
                reasonUtf8=reason.decode(errors="ignore").encode(),
                isReply=False,
            )
        else:
            await self._send(message)

    def break_off(self) -> None:
        """Reset the connection if its peer doesn't read."""
        if not self._writable.is_set():
            self._protocol.transport.abortConnection()


def complete(send: Any) -> Any:
    """The `send` of an ASGI WebSocket application, with what the server's own lacks."""
    if isinstance(send, partial) and hasattr(send.args[0] if send.args else None, "sendCloseFrame"):
        return DaphneSend(send, send.args[0])
    return send


def break_off(send: Any) -> None:
    """Reset the connection behind a server's `send` if its peer doesn't take what was written."""
    if isinstance(send, DaphneSend):
        send.break_off()
        return
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)  # uvicorn
    if hasattr(transport, "get_write_buffer_size") and transport.get_write_buffer_size():
        transport.abort()
