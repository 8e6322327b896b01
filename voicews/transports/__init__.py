"""Transports: the two ends of a pipeline, and the sockets behind them."""

from voicews.transports.channels import ChannelsWebsocketTransport
from voicews.transports.client import (
    WebsocketClientCallbacks,
    WebsocketClientSession,
    WebsocketClientTransport,
)
from voicews.transports.client_ends import (
    WebsocketClientInputTransport,
    WebsocketClientOutputTransport,
)
from voicews.transports.params import (
    ChannelsWebsocketParams,
    TransportParams,
    WebsocketClientParams,
    WebsocketServerParams,
)
from voicews.transports.reconnect import ReconnectPolicy
from voicews.transports.server import WebsocketServerTransport
from voicews.transports.server_ends import (
    WebsocketServerInputTransport,
    WebsocketServerOutputTransport,
)

__all__ = [
    "ChannelsWebsocketParams",
    "ChannelsWebsocketTransport",
    "ReconnectPolicy",
    "TransportParams",
    "WebsocketClientCallbacks",
    "WebsocketClientInputTransport",
    "WebsocketClientOutputTransport",
    "WebsocketClientParams",
    "WebsocketClientSession",
    "WebsocketClientTransport",
    "WebsocketServerInputTransport",
    "WebsocketServerOutputTransport",
    "WebsocketServerParams",
    "WebsocketServerTransport",
]
