"""WebSocket close codes: RFC 6455, section 7.4.1, and the app's own from 4000 on.

`static/voicews/close-codes.js` has the same names; a test compares them.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "CLIENT_IS_DONE",
    "FINAL",
    "CloseCode",
]


class CloseCode(enum.IntEnum):
    """Why a socket was closed."""

    #: The bot ended the call.
    NORMAL = 1000
    #: The client left.
    GOING_AWAY = 1001
    #: What came was not WebSocket.
    PROTOCOL_ERROR = 1002
    #: The close frame had no code. Never sent.
    NO_STATUS = 1005
    #: The connection was lost without a close frame. Never sent.
    ABNORMAL = 1006
    BAD_DATA = 1007
    NOT_ALLOWED = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    SERVER_RESTARTING = 1012
    BUSY = 1013
    SESSION_TIMEOUT = 4000
    #: Another client took the session over.
    REPLACED = 4001
    ENDED_BY_OPERATOR = 4002


#: A client that closes with one of these does not come back.
CLIENT_IS_DONE: Final = frozenset([CloseCode.NORMAL, CloseCode.GOING_AWAY])
#: A client does not reconnect after one of these: the server meant it.
FINAL: Final = frozenset(
    [
        CloseCode.NORMAL,
        CloseCode.NOT_ALLOWED,
        CloseCode.SESSION_TIMEOUT,
        CloseCode.REPLACED,
        CloseCode.ENDED_BY_OPERATOR,
    ]
)
