"""Opening a WebSocket to another server, and when to try again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from voicews.backoff import Backoff, BackoffPolicy
from voicews.exceptions import ConfigurationError, ConnectFailed

__all__ = ["Backoff", "ReconnectPolicy", "check_websocket_url", "dial", "public_url"]

#: HTTP statuses that may be different next time, among those that blame the client.
_TEMPORARY_STATUSES = frozenset([408, 425, 429])


@dataclass(frozen=True, kw_only=True)
class ReconnectPolicy(BackoffPolicy):
    """When to connect again after a failure, and when to give up.

    The delay doubles with each failure in a row, from `first_delay_secs` to `max_delay_secs`, and
    is then shortened by up to a half at random, so that a server that comes back is not met by
    all its clients at once. After `max_failures` in a row it is over; None never gives up.

    A connection ends the row only if it lasted `useful_secs`: a peer that accepts and closes again
    and again is failing too.
    """

    max_failures: int | None = 8
    useful_secs: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.first_delay_secs <= self.max_delay_secs:
            raise ConfigurationError(
                "expected 0 < first_delay_secs <= max_delay_secs, "
                f"found {self.first_delay_secs} and {self.max_delay_secs}"
            )
        if self.max_failures is not None and self.max_failures < 1:
            raise ConfigurationError(f"expected max_failures >= 1, found {self.max_failures}")
        if self.useful_secs < 0:
            raise ConfigurationError(f"expected useful_secs >= 0, found {self.useful_secs}")


def check_websocket_url(url: str, name: str) -> str:
    """The URL, if it is one; raises `ConfigurationError` that calls it `name`."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, an IPv6 address that is none
        valid = False
    if not valid:
        raise ConfigurationError(f"expected {name} to be a ws:// or wss:// URL, found {url!r}")
    return url


def public_url(url: str) -> str:
    """The URL without user and query, which may hold secrets: for messages and logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def dial(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    open_timeout_secs: float,
    close_timeout_secs: float,
    ping_interval_secs: float | None,
    max_message_bytes: int,
) -> ClientConnection:
    """Open a WebSocket.

    The server is pinged every `ping_interval_secs` and taken for lost when a pong takes longer
    than that. Nothing is compressed: it costs more CPU than audio can save bytes. Raises
    `ConnectFailed`.
    """
    where = public_url(url)
    try:
        return await connect(
            url,
            additional_headers=dict(headers or {}),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            compression=None,
            open_timeout=open_timeout_secs,
            close_timeout=close_timeout_secs,
            ping_interval=ping_interval_secs,
            ping_timeout=ping_interval_secs,
            max_size=max_message_bytes,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise ConnectFailed(
            f"{where} refused the connection with HTTP {status}",
            status=status,
            permanent=400 <= status < 500 and status not in _TEMPORARY_STATUSES,
        ) from error
    except TimeoutError as error:
        raise ConnectFailed(f"{where} did not answer within {open_timeout_secs:g} s") from error
    except InvalidURI as error:
        raise ConnectFailed(f"{where} leads to no WebSocket", permanent=True) from error
    except InvalidHandshake as error:
        raise ConnectFailed(f"{where} does not speak WebSocket: {error}") from error
    except (OSError, EOFError) as error:
        raise ConnectFailed(f"{where} can't be reached: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
