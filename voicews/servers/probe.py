"""What voicews uses of the servers that is no public interface, and looks for before it does.

`PARTS` is all of it: each name with its purpose, and what is slower or missing without it. A
server of which something is gone is served by plain ASGI; a warning, once, says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

PLAIN_ASGI = (
    "its sockets are served by plain ASGI, which is slower, and floods of fragments or pings are"
    " limited by the server alone"
)


@dataclass(frozen=True, eq=False)
class Part:
    """Names of one object of a server that are used together.

    `of_instances` are those that its class does not have; `where` is the class, as
    `module:name`, or empty if there is none to look at when the server starts.
    """

    server: str
    without: str
    names: Mapping[str, str]
    of_instances: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    def is_in(self, found: Any) -> bool:
        """Whether an object has all the names; a warning, once, if not."""
        return not self._warn(self.missing(found, {**self.names, **self.of_instances}))

    @staticmethod
    def missing(found: Any, names: Mapping[str, str]) -> list[str]:
        return [name for name in names if not hasattr(found, name)]

    def look(self) -> None:
        """Look at the class, if its module is loaded; a warning, once, if names are missing."""
        module_name, _colon, name = self.where.partition(":")
        module = sys.modules.get(module_name)
        if module is None:
            return
        found = getattr(module, name, None)
        self._warn([name] if found is None else self.missing(found, self.names))

    def the_class(self) -> Any:
        """The class, if its module is loaded and has it; None otherwise."""
        module_name, _colon, name = self.where.partition(":")
        return getattr(sys.modules.get(module_name), name, None)

    def _warn(self, missing: list[str]) -> bool:
        if missing and self not in _warned:
            _warned.add(self)
            logger.warning(
                "this version of %s has no %s: %s", self.server, ", ".join(missing), self.without
            )
        return bool(missing)


_warned: set[Part] = set()

UVICORN_SEND = Part("uvicorn", PLAIN_ASGI, {"__self__": "leads from `send` to the connection"})
UVICORN_SOCKET = Part(
    "uvicorn",
    PLAIN_ASGI,
    {
        "data_received": "gets the handshake, closes, pings and pongs",
        "eof_received": "hears that the peer has sent its last",
        "connection_lost": "hears of the end",
        "pause_writing": "hears that the peer reads slowly",
        "resume_writing": "hears that it reads again",
    },
    {"transport": "what the frames come from and go to"},
)
UVICORN_FRAMES = Part(
    "uvicorn",
    "messages are sent through the server, which is slower",
    {},
    where="uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol",
)
#: Public in asyncio; other event loops have what they have.
ASYNCIO_TRANSPORT = Part(
    "the event loop",
    PLAIN_ASGI,
    {
        "abort": "resets a connection whose peer takes nothing",
        "close": "ends one whose peer doesn't answer a close",
        "get_protocol": "tells whether the protocol is the one that is stood before",
        "get_write_buffer_size": "tells whether the peer takes what was written",
        "is_closing": "tells that nothing can be written any more",
        "pause_reading": "lets a flood wait outside",
        "resume_reading": "lets it in again",
        "set_protocol": "stands before the server's protocol",
        "write": "sends frames",
    },
)
UVICORN_SERVER = Part(
    "uvicorn",
    "a server transport and `runvoice` can't listen by themselves",
    {
        "serve": "serves on sockets that are bound already",
        "startup": "ends when connections are taken",
        "capture_signals": "is kept from taking the program's signals",
    },
)
DAPHNE_SEND = Part("daphne", PLAIN_ASGI, {"args": "leads from `send` to the connection"})
DAPHNE_CLOSE = Part(
    "daphne",
    f"{PLAIN_ASGI}; a close has no reason, and in the place of 1008 and the codes from 1001 on it"
    " has 1000 and those from 3001 on",
    {
        "STATE_CONNECTING": "before the handshake a close is a refusal",
        "STATE_OPEN": "after it, a frame",
        "sendCloseFrame": "sends every code, and a reason",
    },
    {"state": "tells which"},
    where="daphne.ws_protocol:WebSocketProtocol",
)
DAPHNE_SOCKET = Part(
    "daphne",
    PLAIN_ASGI,
    {
        "STATE_CLOSED": "tells that nothing can be written any more",
        "connectionLost": "hears of the end",
        "dataReceived": "gets the handshake, closes, pings and pongs",
        "dropConnection": "is kept from resetting a connection that has closed in order",
    },
    {
        "transport": "what the frames come from and go to",
        "wasClean": "tells whether it has",
    },
    where="daphne.ws_protocol:WebSocketProtocol",
)
#: Public in Twisted.
TWISTED_TRANSPORT = Part(
    "Twisted",
    PLAIN_ASGI,
    {
        "abortConnection": "resets a connection whose peer takes nothing",
        "loseConnection": "ends one whose peer doesn't answer a close",
        "pauseProducing": "lets a flood wait outside",
        "registerProducer": "tells when the peer reads slowly",
        "resumeProducing": "lets a flood in again",
        "unregisterProducer": "takes the HTTP side's away, which can't be two",
        "write": "sends frames",
    },
)
DAPHNE_ACCESS = Part(
    "daphne",
    "its access log shows the tokens in URLs",
    {"write_entry": "writes a line of the access log, which has no logger"},
    where="daphne.access:AccessLogGenerator",
)
TWISTED_REACTOR = Part(
    "Twisted",
    "that the server is ready is known with its first connection only",
    {
        "callLater": "a turn later, its event loop runs",
        "callWhenRunning": "tells when it begins",
    },
)
CHANNELS_SESSIONS = Part(
    "channels",
    "sockets with its session middleware outside of everything are served by plain ASGI, which is"
    " slower",
    {},
    {"real_send": "leads past the middleware, which does nothing to a WebSocket's `send`"},
    where="channels.sessions:InstanceSessionWrapper",
)

PARTS = (
    UVICORN_SEND,
    UVICORN_SOCKET,
    UVICORN_FRAMES,
    ASYNCIO_TRANSPORT,
    UVICORN_SERVER,
    DAPHNE_SEND,
    DAPHNE_CLOSE,
    DAPHNE_SOCKET,
    TWISTED_TRANSPORT,
    DAPHNE_ACCESS,
    TWISTED_REACTOR,
    CHANNELS_SESSIONS,
)


def look_at_servers() -> None:
    """Look for what the classes of the servers in this process should have; called at the start.

    What only an instance has is looked for at the first socket.
    """
    for part in PARTS:
        part.look()
