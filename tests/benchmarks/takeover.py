"""How long a session takes to change hands between two server processes.

``python -m tests.benchmarks.takeover``. Two processes share a database and a real Redis; one client
after the other comes to the same session through the other process. The time is from the newcomer's
first message, which is its claim, to its ``bot-ready``: by then the holder has let go, its bot's
state is stored, and the newcomer's bot goes on from it.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.browser_calls import verdict
from tests.server_processes import migrate
from tests.sessions.calls import Session
from tests.sessions.cluster import Cluster, copy_database, running_redis
from tests.sessions.postgres import running_postgres

BUDGET_MS = 50.0
# The first ones warm up processes that have just started.
WARM_UP = 5
# A session has so many takeovers, then another one begins, as the clients' sockets pile up.
PER_SESSION = 20


async def take_over(cluster: Cluster, count: int) -> list[float]:
    """Seconds of so many takeovers."""
    nodes = [cluster.start(), cluster.start()]
    secs: list[float] = []
    while len(secs) < count:
        session = Session(nodes[0])
        async with AsyncExitStack() as clients:
            previous = await clients.enter_async_context(session.client(nodes[0]))
            for number in range(1, PER_SESSION + 1):
                newcomer = await clients.enter_async_context(session.client(nodes[number % 2]))
                if newcomer.ready_at is None or await previous.wait_closed() != 4001:
                    raise RuntimeError(f"takeover {number} failed: {newcomer}")
                secs.append(newcomer.ready_at - newcomer.greeted_at)
                previous = newcomer
            await previous.close()
    return secs[:count]


@contextmanager
def database(name: str, directory: Path) -> Iterator[str]:
    """The URL of an empty database of that kind."""
    if name == "PostgreSQL":
        with running_postgres() as url:
            yield url
    else:
        yield copy_database(directory / "empty.sqlite3", directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="takeovers on each database")
    options = parser.parse_args()
    print(f"{options.count} takeovers of a session held in another process, on one machine")
    for name in ("SQLite", "PostgreSQL"):
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            migrate(directory / "empty.sqlite3")
            with running_redis(directory) as redis, database(name, directory) as url:
                cluster = Cluster(
                    directory,
                    database_url=url,
                    template_database=directory / "empty.sqlite3",
                    redis=redis,
                )
                try:
                    secs = asyncio.run(take_over(cluster, options.count + WARM_UP))
                finally:
                    cluster.stop()
        ranked = sorted(1000 * one for one in secs[WARM_UP:])
        p50, p99 = (ranked[int(quantile * len(ranked))] for quantile in (0.5, 0.99))
        print(verdict(f"{name}: p99 of a takeover", p99, BUDGET_MS, " ms"))
        print(f"{'':44} {p50:8.3f} ms p50, {ranked[-1]:.3f} ms the worst")


if __name__ == "__main__":
    main()
