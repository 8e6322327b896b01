"""Sockets of ours without sessions, for real servers: an echo; at `/closes` one that hangs up."""

from __future__ import annotations

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from voicews.consumers.base import SocketConsumer  # noqa: E402


class Echo(SocketConsumer):
    """Sends back what it gets."""

    async def connect(self) -> None:
        await self.accept()
        if self.scope["path"] == "/closes":
            await self.close(4002)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await Echo()(scope, receive, send)
