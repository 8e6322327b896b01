"""Phone calls: what one costs here, in Pipecat and in a bare ASGI echo, all in one run.

``python -m tests.benchmarks.phone_calls``. A call is Twilio's: mu-law of 8 kHz, base64 in JSON
messages of 20 ms, 50 a second each way. Nobody resamples. Ours begins as a real one does: a signed
webhook asks for the socket, and the upgrade is signed too. The rest is as in browser_calls.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import load
from tests.benchmarks.browser_calls import (
    BARE,
    BUDGET_OF_BARE_ECHO,
    BUDGET_OF_PIPECAT,
    OURS,
    PIPECAT,
    Peer,
    measure,
    on_load_core,
    print_conditions,
    print_results,
    print_verdicts,
    read_options,
)
from tests.benchmarks.server_process import Server
from tests.interop.environment import PIPECAT_PYTHON, pipecat_environ
from voicews.telephony import Twilio
from voicews.testing import TwilioCall, account_options

PAIRS = ((OURS, PIPECAT), (OURS, BARE), (PIPECAT, BARE))
BUDGETS = ((OURS, PIPECAT, BUDGET_OF_PIPECAT), (OURS, BARE, BUDGET_OF_BARE_ECHO))
# Where Twilio believes our server to be: signatures cover it.
PUBLIC_URL = "https://voice.test"
TWILIO = Twilio(public_url=PUBLIC_URL, **account_options("twilio"))


@dataclass(frozen=True)
class PhonePeer(Peer):
    """A server that Twilio calls. ``path`` is its socket; without one, its webhook names it."""

    new_trace: Callable[[], load.Trace] = load.MediaTrace

    def address(self, server: Server) -> load.Address:
        """Begin a new call, as Twilio does before it connects."""

        async def address() -> load.Destination:
            origin = f"http://127.0.0.1:{server.port}"
            call = TwilioCall(TWILIO, origin)
            if not self.path:
                await call.ring()
            url = call.stream_url or f"{PUBLIC_URL}{self.path}".replace("http", "ws", 1)
            return load.Destination(
                call.reachable(url),
                headers={"X-Twilio-Signature": call.sign(url)},
                opening=load.start_of_stream(TWILIO.account_sid, call.call_id),
            )

        return address


PEERS = (
    PhonePeer(
        OURS,
        python=Path(sys.executable),
        application="project.asgi:application",
        environ={
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.phone_settings",
            "VOICEWS_PUBLIC_URL": PUBLIC_URL,
        },
        migrates=True,
    ),
    PhonePeer(
        PIPECAT,
        python=PIPECAT_PYTHON,
        application="tests.benchmarks.pipecat_twilio:app",
        path="/ws",
        environ=pipecat_environ(),
    ),
    PhonePeer(
        BARE, python=Path(sys.executable), application="tests.benchmarks.bare_asgi:app", path="/"
    ),
)


def main() -> None:
    options = read_options(__doc__)
    with on_load_core():
        print_conditions(options, "8 kHz mu-law as Twilio sends it")
        rows = load.run(measure(PEERS, options))
        if not options.profile:
            print_results(rows, PAIRS)
            print_verdicts(rows, BUDGETS)


if __name__ == "__main__":
    main()
