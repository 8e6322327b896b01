"""Run the demo: a database, an administrator, a server."""

import os
import secrets
import socket
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command

ADMIN = "admin"
HOST = "127.0.0.1"


class Command(BaseCommand):
    help = "Migrate, make an administrator, say which page to open, and serve on $PORT (8000)."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        port = os.environ.get("PORT") or "8000"
        if not (port.isdecimal() and 0 < int(port) < 65536):
            raise CommandError(f"PORT: expected a port number, found {port!r}")
        self._check_free(int(port))
        call_command("migrate", verbosity=0, interactive=False)
        self.stdout.write(
            f"\n  Open   http://localhost:{port}/\n"
            f"  Admin  http://localhost:{port}/admin/  {self._administrator()}\n\n"
        )
        self.stdout.flush()
        call_command("runserver", f"{HOST}:{port}", use_reloader=False)

    @staticmethod
    def _check_free(port: int) -> None:
        with socket.socket() as probe:
            # As the server does, so that a port which an earlier run has just left counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise CommandError(f"{error.strerror}: {port}. Try: make demo PORT=8001") from error

    @staticmethod
    def _administrator() -> str:
        users = get_user_model().objects
        if users.filter(username=ADMIN).exists():
            return (
                f"user {ADMIN}, password as printed when it was made "
                f"(new one: .venv/bin/python manage.py changepassword {ADMIN})"
            )
        password = secrets.token_urlsafe(9)
        users.create_superuser(ADMIN, password=password)
        return f"user {ADMIN}, password {password}"
