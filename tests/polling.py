"""Waiting for something that other tasks or processes do."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout_secs: float = 20.0) -> None:
    """Return as soon as the condition holds; raises `TimeoutError`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_secs
    while not condition():
        if loop.time() > deadline:
            raise TimeoutError(f"waited {timeout_secs} s in vain")
        await asyncio.sleep(0.005)
