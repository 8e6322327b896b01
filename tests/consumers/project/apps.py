"""Writes signals into the journal."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from tests.consumers.project.journal import note
from voicews import signals

SESSION_SIGNALS = ("session_started", "session_resumed", "session_replaced", "session_ended")


class SocketsConfig(AppConfig):
    name = "tests.consumers.project"
    label = "sockets_project"

    def ready(self) -> None:
        for name, signal in signals.EVENTS.items():
            signal.connect(_transport_receiver(name), weak=False)
        for name in SESSION_SIGNALS:
            getattr(signals, name).connect(_session_receiver(name), weak=False)


def _transport_receiver(name: str) -> Any:
    async def receive(sender: Any, **kwargs: Any) -> None:
        del kwargs["signal"]
        note(
            name,
            sender.input().call_id,
            arguments=sorted(kwargs),
            is_sender=kwargs["transport"] is sender,
            websocket=type(kwargs.get("websocket")).__name__,
        )
        if name == "on_client_connected":
            raise RuntimeError("a receiver that fails harms nobody")

    return receive


def _session_receiver(name: str) -> Any:
    def receive(session: Any, **kwargs: Any) -> None:
        note(name, session.pk, state=session.state, sender=kwargs["sender"].__name__)

    return receive
