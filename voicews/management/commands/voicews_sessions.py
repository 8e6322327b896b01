"""Sessions and server processes from a shell: list, end, drain."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.utils.duration import duration_string

from voicews.exceptions import NotAllowed
from voicews.models import ServerProcess, VoiceSession
from voicews.sessions.operators import drain_process, end_session


class Command(BaseCommand):
    help = "Lists live sessions and server processes, ends a session, drains a process."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="live sessions and server processes")
        end = actions.add_parser("end", help="end a session with close code 4002")
        end.add_argument("session", type=UUID)
        end.add_argument(
            "--reason", default="ended by an operator", help="the close reason that the client gets"
        )
        drain = actions.add_parser(
            "drain", help="make a process refuse new calls; running calls go on"
        )
        drain.add_argument("process", type=UUID)

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "list":
            self._list()
        elif action == "end":
            self._end(options["session"], options["reason"])
        else:
            self._drain(options["process"])

    def _list(self) -> None:
        live = VoiceSession.objects.filter(state=VoiceSession.State.ACTIVE)
        clients = Count("connections", filter=Q(connections__until=None))
        for session in live.select_related("user", "process").annotate(clients=clients):
            length = duration_string(session.duration).partition(".")[0] if session.duration else ""
            where = session.process or "no process"
            client = "connected" if session.clients else "waits for its client"
            user = session.user or "-"
            self.stdout.write(f"{session.pk}  {session.bot}  {user}  {length}  {where}  {client}")
        for process in ServerProcess.objects.annotate(is_alive=Q(lease_until__gt=Now())):
            state = "draining" if process.draining else "serves"
            capacity = process.capacity or "no limit"
            self.stdout.write(
                f"{process.pk}  {process}  {state if process.is_alive else 'gone'}  "
                f"{process.live_sessions} of {capacity}"
            )

    def _end(self, session_id: UUID, reason: str) -> None:
        try:
            end_session(session_id, reason)
        except NotAllowed as error:
            raise CommandError(str(error)) from None
        self.stdout.write("ended, or about to")

    def _drain(self, process_id: UUID) -> None:
        if not async_to_sync(drain_process)(process_id):
            raise CommandError("there is no such process, or it is gone")
        self.stdout.write("drains")
