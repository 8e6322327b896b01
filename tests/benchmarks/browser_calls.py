"""Browser calls: what one costs here, in Pipecat and in a bare ASGI echo, all in one run.

``python -m tests.benchmarks.browser_calls``. A call is 16 kHz mono in protobuf messages of 20 ms,
50 a second each way. The server has one core, the load generator another.

There are two loads. "Light" is the same few calls for every server, all of which send at the same
moment. "Busy" is as many calls as would take 60 % of the server's core at that cost, each of which
sends at a moment of its own: that is what a call costs on a server that is worth its machine, for
a nearly idle one pays most for waking up. The servers take turns, several rounds of them, and the
median counts: other guests of the machine disturb less that way.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
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
from tests.server_processes import migrate

SERVER_CORE, LOAD_CORE = 0, 1
# Above this share of its core the load generator itself would delay what it measures.
LOAD_LIMIT = 0.7
# A server above this share drops or delays audio, and its cost per call looks smaller than it is.
SERVER_LIMIT = 0.95
# Below this share of the audio that should have come back, it did not keep up either.
RETURNED_LIMIT = 0.98
LIGHT, BUSY = "light", "busy"
BUSY_SHARE = 0.6
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
BUDGETS = (
    (OURS, PIPECAT, BUDGET_OF_PIPECAT),
    (OURS, BARE, BUDGET_OF_BARE_ECHO),
    (CONTRIB, PIPECAT, BUDGET_OF_CONTRIB),
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


@dataclass
class Row:
    """What was measured of one server, for each load and round."""

    rounds: dict[str, list[load.Result]] = field(
        default_factory=lambda: {name: [] for name in (LIGHT, BUSY)}
    )

    def talk(self, name: str) -> load.Result:
        """The round with the median cost."""
        ranked = sorted(self.rounds[name], key=lambda one: one.cpu_per_call_second)
        return ranked[len(ranked) // 2]

    def cells(self, name: str) -> tuple[str, ...]:
        talk = self.talk(name)
        costs = [one.cpu_per_call_second * 1e3 for one in self.rounds[name]]
        return (
            f"{talk.calls}",
            f"{talk.cpu_per_call_second * 1e3:.2f}",
            f"{min(costs):.1f}-{max(costs):.1f}",
            f"{talk.latency(0.5) * 1e3:.1f}",
            f"{talk.latency(0.99) * 1e3:.1f}",
            f"{talk.lost_share:.2%}",
            f"{talk.returned_share:.1%}",
            f"{talk.load_share:.0%}",
        )


HEADINGS = (
    "calls",
    "CPU ms/call-s",
    "range",
    "p50 ms",
    "p99 ms",
    "lost",
    "returned",
    "load's core",
)


async def _talk(
    peer: Peer,
    server: Server,
    options: argparse.Namespace,
    calls: int,
    phases: int,
    while_measuring: Callable[[], Awaitable[None]] | None = None,
) -> load.Result:
    return await load.talk(
        peer.address(server),
        server.cpu_seconds,
        new_trace=peer.new_trace,
        calls=calls,
        phases=phases,
        warm_up_secs=options.warm_up,
        measured_secs=options.seconds,
        while_measuring=while_measuring,
    )


async def _measure_round(peer: Peer, row: Row, options: argparse.Namespace) -> None:
    with peer.running() as server:
        row.rounds[LIGHT].append(await _talk(peer, server, options, options.calls, 1))
        # The first round decides how many calls make the server busy, the later ones repeat it.
        if row.rounds[BUSY]:
            calls = row.rounds[BUSY][0].calls
        else:
            calls = max(1, int(BUSY_SHARE / row.rounds[LIGHT][0].cpu_per_call_second))
        row.rounds[BUSY].append(await _talk(peer, server, options, calls, calls))


async def _measure_idle(peer: Peer, calls: int) -> float:
    with peer.running() as server:
        return await load.idle(peer.address(server), server.resident_bytes, calls=calls)


async def _profile(peer: Peer, options: argparse.Namespace) -> None:
    tables: list[str] = []
    with peer.running() as server:

        async def sample() -> None:
            tables.append(await profiling.profile(server.pid, options.seconds))

        await _talk(peer, server, options, options.calls, 1, sample)
    print(f"{peer.name}\n{tables[0]}")


def _print_table(rows: Mapping[str, Row], name: str) -> None:
    width = max(map(len, rows))
    print(f"\n{name} load")
    print("".join([" " * width, *(f"{heading:>15}" for heading in HEADINGS)]))
    for server, row in rows.items():
        print("".join([f"{server:{width}}", *(f"{cell:>15}" for cell in row.cells(name))]))
        talk = row.talk(name)
        if talk.returned_share < RETURNED_LIMIT:
            print("  the server fell behind: what it costs can't be told from this")
        if talk.server_share > SERVER_LIMIT:
            print(
                f"  the server used {talk.server_share:.0%} of its core: more calls than it holds"
            )
        if talk.load_share > LOAD_LIMIT:
            print(f"  the load generator used {talk.load_share:.0%} of its core: try fewer calls")
        if talk.dropped_calls:
            print(f"  the server dropped {talk.dropped_calls} of {talk.calls} calls")


def print_results(rows: Mapping[str, Row], pairs: Iterable[tuple[str, str]]) -> None:
    """A table for each load, and below it the ratios of the servers' CPU times."""
    for load_name in (LIGHT, BUSY):
        _print_table(rows, load_name)
        for name, peer in pairs:
            if name in rows and peer in rows:
                print(f"CPU, {name} / {peer}: {ratio(rows, name, peer, load_name):.3f}")


def ratio(rows: Mapping[str, Row], name: str, peer: str, load_name: str) -> float:
    """The median of the rounds' ratios: the two were measured right after one another."""
    pairs = zip(rows[name].rounds[load_name], rows[peer].rounds[load_name], strict=True)
    return statistics.median(
        one.cpu_per_call_second / other.cpu_per_call_second for one, other in pairs
    )


def verdict(what: str, value: float, budget: float, unit: str = "") -> str:
    """A line that says whether a value is within its budget."""
    said = "kept" if value <= budget else "MISSED"
    return f"{what:44} {value:8.3f}{unit}   budget {budget:.3f}{unit}   {said}"


def print_verdicts(rows: Mapping[str, Row], budgets: Iterable[tuple[str, str, float]]) -> None:
    """Whether the budgets of CPU time, each a ratio of two servers, are kept."""
    print("\nbudgets")
    for name, peer, budget in budgets:
        for load_name in (LIGHT, BUSY):
            if name in rows and peer in rows:
                what = f"CPU, {name} / {peer}, {load_name}"
                print(verdict(what, ratio(rows, name, peer, load_name), budget))


async def measure(peers: Iterable[Peer], options: argparse.Namespace) -> dict[str, Row]:
    """Measure the servers in turns, or only profile them."""
    chosen = [
        peer
        for peer in peers
        if not options.only or any(word in peer.name for word in options.only)
    ]
    for peer in chosen:
        if not peer.python.exists():
            sys.exit(f"{peer.python} was not found; run: make interop")
        if options.profile:
            await _profile(peer, options)
    rows = {peer.name: Row() for peer in chosen}
    for turn in range(0 if options.profile else options.rounds):
        for peer in chosen:
            print(f"round {turn + 1}: {peer.name}", file=sys.stderr, flush=True)
            await _measure_round(peer, rows[peer.name], options)
    return rows


def read_options(description: str | None) -> argparse.Namespace:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--calls", type=int, default=25, help="calls of the light load")
    parser.add_argument("--rounds", type=int, default=3, help="how often every server is measured")
    parser.add_argument("--seconds", type=float, default=5, help="measured time of each load")
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
        f"{audio}, 20 ms messages, {options.rounds} rounds of {options.seconds:.0f} s a load; "
        f"Python {platform.python_version()}, one core of {os.cpu_count()} for the server",
        flush=True,
    )


def main() -> None:
    options = read_options(__doc__)
    with on_load_core():
        print_conditions(options, "16 kHz mono")
        rows = load.run(measure(PEERS, options))
        if options.profile:
            return
        print_results(rows, PAIRS)
        print_verdicts(rows, BUDGETS)
        if options.idle_calls and OURS in rows:
            idle_bytes = load.run(_measure_idle(PEERS[0], options.idle_calls))
            what = f"memory of an idle {OURS} call"
            print(verdict(what, idle_bytes / 1e3, BUDGET_IDLE_BYTES / 1e3, " kB"))


if __name__ == "__main__":
    main()
