"""Calls a bot from the terminal, as a telephony provider would."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from voicews.audio.pcm import Pcm
from voicews.audio.wav import read_wav, wrap_wav
from voicews.conf import settings
from voicews.exceptions import AudioFormatError, ConfigurationError
from voicews.locations import public_base, script_prefix
from voicews.telephony import Provider, create_provider
from voicews.testing import (
    CALLS,
    CallRefused,
    Event,
    ProviderApi,
    SimulatedCall,
    account_options,
    place_call,
)

#: The bot is heard out: the call ends when it has said nothing for so long (seconds).
QUIET_SECS = 2.0
KEY_PAUSE_SECS = 0.5


class Command(BaseCommand):
    help = "Calls a bot without a phone: simulates a provider's call to a server that runs."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", choices=sorted(CALLS))
        parser.add_argument(
            "--call-control",
            action="store_true",
            help="telnyx: a call of Call Control, not TeXML; the server answers at --api-port",
        )
        parser.add_argument("--wav", type=Path, help="what to say")
        parser.add_argument("--out", type=Path, help="where to write what was heard, as WAV")
        parser.add_argument(
            "--dtmf", default="", help='keys to press, such as "1,9": a comma waits'
        )
        parser.add_argument("--bot", default="", help="the bot to call; default: the number's")
        parser.add_argument("--from", default="+15550100001", dest="from_number")
        parser.add_argument("--to", default="+15550100002", dest="to_number")
        parser.add_argument(
            "--seconds", type=float, default=None, help="hang up after this many seconds"
        )
        parser.add_argument(
            "--url",
            default="http://localhost:8000",
            help="where the server is; default: %(default)s",
        )
        parser.add_argument(
            "--api-port",
            type=int,
            default=None,
            help="stand in for the provider's API on this port, where its api_url leads",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["call_control"] and options["api_port"] is None:
            raise CommandError(
                "--call-control: expected --api-port, where the server's answer comes"
            )
        provider = self._provider(options["provider"], options["url"])
        speech = self._speech(options["wav"])
        try:
            asyncio.run(self._call(provider, speech, options))
        except CallRefused as error:
            if provider.name not in settings.PROVIDERS:
                self.stderr.write(
                    f"{provider.name} is not in VOICEWS PROVIDERS here: this was a call from its "
                    "test account. Start the server with that account too:"
                )
                self._write_account(provider.name, options["url"])
            raise CommandError(f"{error}. {self._advice(provider, error)}") from None
        except ConfigurationError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"no answer at {options['url']}: {error}") from None

    def _speech(self, path: Path | None) -> Pcm | None:
        if path is None:
            return None
        try:
            return read_wav(path)
        except (OSError, AudioFormatError) as error:
            raise CommandError(f"{path}: {error}") from None

    # --- settings -------------------------------------------------------------------------------

    def _provider(self, name: str, url: str) -> Provider:
        public_url = public_base(re.sub("^ws", "http", settings.PUBLIC_URL or url), script_prefix())
        configured = settings.PROVIDERS.get(name)
        try:
            return create_provider(
                name, public_url, account_options(name) if configured is None else configured
            )
        except ConfigurationError as error:
            raise CommandError(str(error)) from None

    def _write_account(self, name: str, url: str) -> None:
        """What switches the test account on, in the demo project's environment."""
        self.stderr.write(f"  VOICEWS_PUBLIC_URL={settings.PUBLIC_URL or url}")
        for option, value in account_options(name).items():
            if "\n" not in value:
                self.stderr.write(f"  {name.upper()}_{option.upper()}={value}")

    def _advice(self, provider: Provider, error: CallRefused) -> str:
        if error.status == 404:
            return f"The server must have {provider.name} in VOICEWS PROVIDERS"
        if error.status == 403:
            return (
                "The server must have the same secrets and the same PUBLIC_URL "
                f"({provider.public_url}); its log says what is wrong"
            )
        return "The server's log says more"

    # --- the call -------------------------------------------------------------------------------

    async def _call(self, provider: Provider, speech: Pcm | None, options: dict[str, Any]) -> None:
        if options["api_port"] is None:
            await self._talk(provider, speech, options, None)
            return
        try:
            stand_in = ProviderApi(options["api_port"])
        except OSError as error:
            raise CommandError(f"--api-port {options['api_port']}: {error}") from None
        with stand_in as api:
            await self._talk(provider, speech, options, api)

    async def _talk(
        self,
        provider: Provider,
        speech: Pcm | None,
        options: dict[str, Any],
        api: ProviderApi | None,
    ) -> None:
        began_at = monotonic()

        def write(event: Event) -> None:
            self.stdout.write(
                f"{event.at - began_at:8.3f} s  {event.kind}  {event.detail}".rstrip()
            )

        call = place_call(
            provider,
            options["url"],
            call_control=options["call_control"],
            bot=options["bot"],
            from_number=options["from_number"],
            to_number=options["to_number"],
            api=api,
            on_event=write,
        )
        async with call:
            # The time that it was given is over, or the bot has hung up while we spoke.
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(options["seconds"]):
                    await self._converse(call, speech, options["dtmf"], options["seconds"])
        self._report(call, options["out"])

    async def _converse(
        self, call: SimulatedCall[Any], speech: Pcm | None, keys: str, seconds: float | None
    ) -> None:
        await call.wait_quiet(QUIET_SECS)
        for key in keys:
            if key == ",":
                await asyncio.sleep(KEY_PAUSE_SECS)
            else:
                await call.press(key)
        if speech is not None:
            await call.say(speech)
        if seconds is not None:
            await call.wait_over(seconds)
        await asyncio.sleep(QUIET_SECS)
        await call.wait_quiet(QUIET_SECS, timeout_secs=3600.0)

    def _report(self, call: SimulatedCall[Any], out: Path | None) -> None:
        heard = call.heard
        secs = len(heard.pcm) / 2 / heard.sample_rate
        self.stdout.write(f"heard {secs:.2f} s of audio, {len(call.played_marks)} marks")
        if out is not None:
            out.write_bytes(wrap_wav(heard.recording(call.began_at), heard.sample_rate))
            self.stdout.write(f"written to {out}")
        for violation in call.violations:
            self.stderr.write(f"against the documents: {violation.rule}: {violation.message}")
