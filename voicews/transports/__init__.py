"""Transports: the two ends of a pipeline, and the sockets behind them."""

from voicews.transports.channels import ChannelsWebsocketTransport
from voicews.transports.params import (
    ChannelsWebsocketParams,
    TransportParams,
    WebsocketServerParams,
)
from voicews.transports.server import WebsocketServerTransport

__all__ = [
    "ChannelsWebsocketParams",
    "ChannelsWebsocketTransport",
    "TransportParams",
    "WebsocketServerParams",
    "WebsocketServerTransport",
]
