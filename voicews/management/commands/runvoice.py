"""Serve one bot, without a project around it."""

import asyncio
import ipaddress
import re
import signal
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from voicews.conf import settings
from voicews.exceptions import ConfigurationError
from voicews.servers.embedded import Listener

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8765
ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})")


class Command(BaseCommand):
    help = (
        "Serve one bot of VOICEWS BOTS on a port of its own, to voice clients at any path. Every "
        "client gets a call of its own; no authentication."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "address",
            nargs="?",
            default=f"{DEFAULT_HOST}:{DEFAULT_PORT}",
            metavar="[host:]port",
            help=f"where to listen (default: {DEFAULT_HOST}:{DEFAULT_PORT})",
        )
        parser.add_argument("--bot", help="its name in BOTS (default: DEFAULT_BOT)")

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = _parse(options["address"])
        bot = settings.bot(options["bot"])
        if bot is None:
            names = ", ".join(settings.BOTS) or "none"
            raise CommandError(f"--bot: expected one of {names}, found {options['bot']!r}")
        try:
            bot.load()
            asyncio.run(self._serve(bot.name, host, port))
        except ConfigurationError as error:
            raise CommandError(str(error)) from error

    async def _serve(self, bot: str, host: str, port: int) -> None:
        # Models can't be imported before the apps are ready.
        from voicews.consumers.standalone import bot_application

        asked_to_stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked_to_stop.set)
        listener = Listener(bot_application(bot), host, port)
        await listener.start()
        shown = f"[{host}]" if ":" in host else host
        self.stdout.write(f"{bot} on ws://{shown}:{listener.port}/ (quit with CONTROL-C)")
        if not _is_loopback(host):
            self.stderr.write(f"Every client that can reach {host} can talk with {bot}.")
        self.stdout.flush()
        await asked_to_stop.wait()
        await listener.stop()


def _parse(address: str) -> tuple[str, int]:
    match = ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise CommandError(f"expected [host:]port, such as 127.0.0.1:8765, found {address!r}")
    return (match["host"] or DEFAULT_HOST).strip("[]"), int(match["port"])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
