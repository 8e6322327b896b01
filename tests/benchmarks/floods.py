"""``python -m tests.benchmarks.floods``: five calls beside one client that floods.

Prints, for each server and each flood, the longest time that one of the five waited for an answer,
without a flood and with one; after how long the sender's connection was gone, with which last
bytes (it never answers a close, for which it gets a second); by how much the server's memory grew.
It fails if a call loses something. The aims: 200 ms, 1 s from the flood's beginning to the close
frame, 10 MB.
"""

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.servers.test_floods import Server, flood, talk

CALLS = 5
QUIET_SECS = 2.0
SERVERS = ("asyncio", "uvloop", "daphne")
FLOODS = ("fragments", "long fragments", "pings", "bombs", "messages")


async def measure(server: Server, kind: str) -> str:
    """One line of the table."""
    async with AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(talk(server)) for _ in range(CALLS)]
        await asyncio.sleep(QUIET_SECS)
        quiet = max(max(took) for took in calls)
        marks = [len(took) for took in calls]
        memory = server.memory_bytes
        began = time.perf_counter()
        last_bytes = await flood(server, "", kind)
        secs = time.perf_counter() - began
        growth = server.memory_bytes - memory
        await asyncio.sleep(QUIET_SECS)
        # `talk` fails if one answer is not the one that was waited for.
        flooded = max(max(took[mark:]) for took, mark in zip(calls, marks, strict=True))
    return (
        f"{kind:<15} {quiet * 1000:8.0f} ms {flooded * 1000:8.0f} ms {secs:9.2f} s"
        f" {growth / 1e6:8.1f} MB  {last_bytes[-24:]!r}"
    )


async def measure_server(kind: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = Server(kind, Path(directory))
        try:
            await server.started()
            for flood_kind in FLOODS:
                print(f"{kind:<8} {await measure(server, flood_kind)}", flush=True)
        finally:
            server.process.terminate()
            server.process.wait()


def main() -> None:
    """Print the table."""
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("server   flood           longest alone   flooded    closed     growth  last bytes")
    for kind in SERVERS:
        asyncio.run(measure_server(kind))


if __name__ == "__main__":
    main()
