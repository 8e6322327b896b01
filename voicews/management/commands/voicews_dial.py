"""Place a phone call."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from voicews.exceptions import VoicewsError
from voicews.telephony.calls import dial


class Command(BaseCommand):
    help = "Place a call that a bot answers. A server must run at VOICEWS['PUBLIC_URL']."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="the telephony provider: twilio, telnyx, plivo, ...")
        parser.add_argument("to", help="the number to call, such as +15551234567")
        parser.add_argument(
            "--from", dest="from_number", default="", help="your number; default: the only one"
        )
        parser.add_argument("--bot", default="", help="the bot; default: the number's")

    def handle(self, *args: Any, **options: Any) -> None:
        call = dial(
            options["provider"],
            options["to"],
            from_number=options["from_number"],
            bot=options["bot"],
        )
        try:
            session = asyncio.run(call)
        except (VoicewsError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{session.call_id or 'accepted'}, session {session.pk}")
