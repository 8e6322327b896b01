"""Proxies: the two ends of a WebSocket that connects a worker here with one on another host."""

from voicews.workers.proxy.client import WebSocketProxyClient
from voicews.workers.proxy.server import WebSocketProxyServer

__all__ = ["WebSocketProxyClient", "WebSocketProxyServer"]
