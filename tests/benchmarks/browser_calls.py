"""Browser calls: what one costs here, in Pipecat and in a bare ASGI echo, all in one run.

``python -m tests.benchmarks.browser_calls``. A call is 16 kHz mono in protobuf messages of 20 ms,
50 a second each way. The server has one core, the load generator another.

The calls send in two ways. "Together": all at the same moment, so that the server wakes once for
all of them, as a server near its limit does; what is left is the cost of the code. "Spread": each
at a moment of its own, so that a nearly idle server wakes for each message; that costs every
server the same on top, on a virtual machine more than an echo itself.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import load, profiling
from tests.benchmarks.server_process import Server, serve
from tests.interop.environment import PIPECAT_PYTHON, pipecat_environ
from tests.servers import migrate

SERVER_CORE, LOAD_CORE = 0, 1
# Above this share of its core the load generator itself would delay what it measures.
LOAD_LIMIT = 0.7
# A server above this share drops or delays audio, and its cost per call looks smaller than it is.
SERVER_LIMIT = 0.95
TOGETHER, SPREAD = "together", "spread"
BUDGET_OF_PIPECAT = 1 / 6
BUDGET_OF_BARE_ECHO = 1.3
# A Pipecat pipeline on our transport, next to the same one on Pipecat's.
BUDGET_OF_CONTRIB = 1.0
BUDGET_IDLE_BYTES = 60_000

OURS, RESAMPLED = "voicews", "voicews, 24 kHz out"
PIPECAT, CONTRIB = "Pipecat 1.14", "Pipecat in voicews"
BARE = "bare ASGI echo"
PAIRS = (
    *((OURS, PIPECAT), (OURS, BARE), (RESAMPLED, BARE)),
    *((PIPECAT, BARE), (CONTRIB, PIPECAT)),
)


@dataclass(frozen=True)
class Peer:
    """A server to measure. ``connect`` is the path that answers a POST with ``ws_url``."""

    name: str
    python: Path
    application: str
    path: str = ""
    connect: str = ""
    request: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    migrates: bool = False
    new_trace: Callable[[], load.Trace] = load.NumberTrace

    def address(self, server: Server) -> load.Address:
        """Ask for the address of a new call, as a browser does before it connects."""

        def ask() -> str:
            if not self.connect:
                return f"ws://127.0.0.1:{server.port}{self.path}"
            origin = f"http://127.0.0.1:{server.port}"
            request = urllib.request.Request(
                origin + self.connect,
                data=json.dumps(self.request).encode(),
                headers={"Content-Type": "application/json", "Origin": origin},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
            url: str = answer["ws_url"]
            return f"{url}?token={answer['token']}" if "token" in answer else url

        async def address() -> load.Destination:
            url = await asyncio.to_thread(ask)
            return load.rtvi_destination(url) if self.connect else load.Destination(url)

        return address

    @contextmanager
    def running(self) -> Iterator[Server]:
        """A fresh process of this server, with a database of its own if it has one."""
        with tempfile.TemporaryDirectory() as directory:
            environ = dict(self.environ)
            if self.migrates:
                database = Path(directory) / "calls.sqlite3"
                environ["DATABASE_URL"] = f"sqlite:///{database}"
                migrate(database)
            with serve(self.python, self.application, environ, SERVER_CORE) as server:
                yield server


def _ours(name: str, bot: str, new_trace: Callable[[], load.Trace]) -> Peer:
    return Peer(
        name,
        python=Path(sys.executable),
        application="project.asgi:application",
        connect="/voice/connect/",
        request={"bot": bot},
        environ={"DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings"},
        migrates=True,
        new_trace=new_trace,
    )


PEERS = (
    _ours(OURS, "echo16k", load.NumberTrace),
    _ours(RESAMPLED, "echo24k", load.BurstTrace),
    Peer(
        PIPECAT,
        python=PIPECAT_PYTHON,
        application="tests.interop.pipecat_server:app",
        connect="/connect",
        environ={**pipecat_environ(), "PIPECAT_IN_RATE": "16000", "PIPECAT_OUT_RATE": "16000"},
    ),
    Peer(
        CONTRIB,
        python=PIPECAT_PYTHON,
        application="project.asgi:application",
        connect="/voice/connect/",
        request={"bot": "echo16k"},
        environ={
            **pipecat_environ(),
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.pipecat_settings",
        },
        migrates=True,
    ),
    Peer(BARE, python=Path(sys.executable), application="tests.benchmarks.bare_asgi:app", path="/"),
)


@dataclass(frozen=True)
class Row:
    """What was measured of one server."""

    talks: Mapping[str, load.Result]
    idle_bytes: float | None

    def cells(self, arrival: str) -> tuple[str, ...]:
        talk = self.talks[arrival]
        return (
            f"{talk.cpu_per_call_second * 1e3:.2f}",
            f"{talk.latency(0.5) * 1e3:.1f}",
            f"{talk.latency(0.99) * 1e3:.1f}",
            f"{talk.lost_share:.2%}",
            f"{talk.returned_secs / (talk.calls * talk.measured_secs):.1%}",
            "-" if self.idle_bytes is None else f"{self.idle_bytes / 1e3:.0f}",
            f"{talk.load_share:.0%}",
        )


HEADINGS = (
    "CPU ms/call-s",
    "p50 ms",
    "p99 ms",
    "lost",
    "returned",
    "idle kB",
    "load's core",
)


async def _talk(
    peer: Peer,
    server: Server,
    arrival: str,
    options: argparse.Namespace,
    while_measuring: Callable[[], Awaitable[None]] | None = None,
) -> load.Result:
    return await load.talk(
        peer.address(server),
        server.cpu_seconds,
        new_trace=peer.new_trace,
        calls=options.calls,
        phases=1 if arrival == TOGETHER else options.calls,
        warm_up_secs=options.warm_up,
        measured_secs=options.seconds,
        while_measuring=while_measuring,
    )


async def _measure(peer: Peer, options: argparse.Namespace, idle_calls: int) -> Row:
    talks: dict[str, load.Result] = {}
    for arrival in (TOGETHER, SPREAD):
        with peer.running() as server:
            talks[arrival] = await _talk(peer, server, arrival, options)
    if not idle_calls:
        return Row(talks, None)
    with peer.running() as server:
        idle_bytes = await load.idle(
            peer.address(server),
            server.resident_bytes,
            calls=idle_calls,
        )
    return Row(talks, idle_bytes)


async def _profile(peer: Peer, options: argparse.Namespace) -> None:
    tables: list[str] = []
    with peer.running() as server:

        async def sample() -> None:
            tables.append(await profiling.profile(server.pid, options.seconds))

        await _talk(peer, server, TOGETHER, options, sample)
    print(f"{peer.name}\n{tables[0]}")


def _print_table(rows: Mapping[str, Row], arrival: str) -> None:
    width = max(map(len, rows))
    print(f"\nmessages of the calls arrive {arrival}")
    print("".join([" " * width, *(f"{heading:>15}" for heading in HEADINGS)]))
    for name, row in rows.items():
        print("".join([f"{name:{width}}", *(f"{cell:>15}" for cell in row.cells(arrival))]))
        talk = row.talks[arrival]
        if talk.server_share > SERVER_LIMIT:
            print(
                f"  the server used {talk.server_share:.0%} of its core: more calls than it holds"
            )
        if talk.load_share > LOAD_LIMIT:
            print(f"  the load generator used {talk.load_share:.0%} of its core: try fewer calls")
        if talk.dropped_calls:
            print(f"  the server dropped {talk.dropped_calls} of {talk.calls} calls")


def print_results(
    rows: Mapping[str, Row], pairs: Iterable[tuple[str, str]], arrivals: Iterable[str]
) -> None:
    """A table for each way of sending, and below it the ratios of the servers' CPU times."""
    for arrival in arrivals:
        _print_table(rows, arrival)
        cpu = {name: row.talks[arrival].cpu_per_call_second for name, row in rows.items()}
        for name, peer in pairs:
            if name in cpu and peer in cpu:
                print(f"CPU, {name} / {peer}: {cpu[name] / cpu[peer]:.3f}")


def verdict(what: str, value: float, budget: float, unit: str = "") -> str:
    """A line that says whether a value is within its budget."""
    said = "kept" if value <= budget else "MISSED"
    return f"{what:44} {value:8.3f}{unit}   budget {budget:.3f}{unit}   {said}"


def _print_verdicts(rows: Mapping[str, Row]) -> None:
    print("\nbudgets, for messages that arrive together")
    cpu = {name: row.talks[TOGETHER].cpu_per_call_second for name, row in rows.items()}
    if CONTRIB in cpu and PIPECAT in cpu:
        ratio = cpu[CONTRIB] / cpu[PIPECAT]
        print(verdict(f"CPU, {CONTRIB} / {PIPECAT}", ratio, BUDGET_OF_CONTRIB))
    if OURS not in rows:
        return
    for peer, budget in ((PIPECAT, BUDGET_OF_PIPECAT), (BARE, BUDGET_OF_BARE_ECHO)):
        if peer in cpu:
            print(verdict(f"CPU, {OURS} / {peer}", cpu[OURS] / cpu[peer], budget))
    idle_bytes = rows[OURS].idle_bytes
    if idle_bytes is not None:
        budget = BUDGET_IDLE_BYTES / 1e3
        print(verdict(f"memory of an idle {OURS} call", idle_bytes / 1e3, budget, " kB"))


async def measure(
    peers: Iterable[Peer], options: argparse.Namespace, idle_calls: int
) -> dict[str, Row]:
    """Measure the servers one after another, or only profile them."""
    rows: dict[str, Row] = {}
    for peer in peers:
        if options.only and not any(word in peer.name for word in options.only):
            continue
        if not peer.python.exists():
            sys.exit(f"{peer.python} was not found; run: make interop")
        if options.profile:
            await _profile(peer, options)
            continue
        print(f"measuring {peer.name}", file=sys.stderr, flush=True)
        rows[peer.name] = await _measure(peer, options, idle_calls)
    return rows


def read_options(description: str | None) -> argparse.Namespace:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--calls", type=int, default=25, help="calls that talk at the same time")
    parser.add_argument("--seconds", type=float, default=10, help="measured time")
    parser.add_argument("--warm-up", type=float, default=2, help="seconds before that")
    parser.add_argument(
        "--idle-calls", type=int, default=200, help="silent browser calls; 0 for none"
    )
    parser.add_argument("--only", nargs="*", help="servers whose names hold one of these words")
    parser.add_argument("--profile", action="store_true", help="say where the servers spend time")
    return parser.parse_args()


@contextmanager
def on_load_core() -> Iterator[None]:
    """Keep the load generator off the server's core."""
    cores = os.sched_getaffinity(0)
    if not {SERVER_CORE, LOAD_CORE} <= cores:
        sys.exit(f"expected cores {SERVER_CORE} and {LOAD_CORE}, found {sorted(cores)}")
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def print_conditions(options: argparse.Namespace, audio: str) -> None:
    """What is measured, and on what."""
    print(
        f"{options.calls} calls, {audio}, 20 ms messages, {options.seconds:.0f} s; "
        f"Python {platform.python_version()}, one core of {os.cpu_count()} for the server",
        flush=True,
    )


def main() -> None:
    options = read_options(__doc__)
    with on_load_core():
        print_conditions(options, "16 kHz mono")
        rows = asyncio.run(measure(PEERS, options, options.idle_calls))
    if rows:
        print_results(rows, PAIRS, (TOGETHER, SPREAD))
        _print_verdicts(rows)


if __name__ == "__main__":
    main()
