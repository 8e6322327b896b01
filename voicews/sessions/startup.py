"""What every server process of the app does on top of holding sessions."""

from __future__ import annotations

from voicews.sessions.drain import drain_with_sigterm
from voicews.sessions.listen_in import answer_listeners
from voicews.sessions.operators import answer_operators
from voicews.sessions.process import extend_processes


def connect() -> None:
    """Have processes answer operators and drain at SIGTERM; called when the app is ready."""
    for extend in (drain_with_sigterm, answer_operators, answer_listeners):
        extend_processes(extend)
